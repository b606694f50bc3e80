"""One interpreter over all of a bundle, tests included, that says which lines it has been through."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Final, Protocol, cast

from lmg.jsontext import Json

from ..engine import Bundle, PolicyFault
from ..engines.interpreter import Interpreter, interpreter, plain_error
from ..engines.syntax import Module, Rule, parse

__all__ = ["UNDEFINED", "Answer", "Definition", "Lines", "Tracer", "definitions"]


class _Watching(Interpreter, Protocol):
    """What else is used of ``regorus.Engine`` here."""

    def eval_query_as_json(self, query: str) -> str: ...

    def set_enable_coverage(self, enable: bool) -> None: ...

    def clear_coverage_data(self) -> None: ...

    def get_coverage_report_as_json(self) -> str: ...

    def set_gather_prints(self, b: bool) -> None: ...

    def take_prints(self) -> list[str]: ...


class _Undefined:
    __slots__ = ()

    def __repr__(self) -> str:
        return "undefined"


UNDEFINED: Final = _Undefined()
"""The value of a rule that has none."""


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines of one file that hold something to evaluate: those that were, and those that were not."""

    covered: frozenset[int] = frozenset()
    missed: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a rule is: its value (sets are lists), or ``error``; with the lines that were evaluated for it, by file."""

    value: Json | _Undefined = UNDEFINED
    error: str = ""
    lines: Mapping[str, Lines] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Definition:
    """One place where a rule is defined; lines from ``start`` to ``end``, both included."""

    module: Module
    rule: Rule
    start: int
    end: int

    @property
    def path(self) -> str:
        """As in ``data.lmg.authz.allow``."""
        return ".".join(self.rule.path)

    @property
    def is_default(self) -> bool:
        """Whether it only says what holds where no other definition does."""
        return self.source(self.start).startswith("default ")

    @property
    def is_function(self) -> bool:
        """Whether it takes arguments."""
        return self.source(self.start).removeprefix("default ").startswith(f"{self.rule.path[-1]}(")

    def source(self, line: int) -> str:
        """A line of its file, without the space around it."""
        return self.module.source.splitlines()[line - 1].strip()

    def within(self, lines: frozenset[int]) -> list[int]:
        """Those of ``lines`` that belong to it, in order."""
        return sorted(line for line in lines if self.start <= line <= self.end)


def definitions(module: Module) -> Iterator[Definition]:
    """Every definition of ``module``, in order."""
    ordered = sorted(module.rules, key=lambda rule: rule.line)
    last = len(module.source.splitlines())
    for rule, after in zip_longest(ordered, ordered[1:]):
        yield Definition(module, rule, rule.line, after.line - 1 if after is not None else last)


class Tracer:
    """Evaluates rules of ``bundle`` one at a time.

    Raises:
        PolicyFault: a module does not parse, or its data cannot be taken.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.modules = parse(bundle.modules)
        self._interpreter = cast(_Watching, interpreter())
        self._interpreter.set_enable_coverage(True)
        self._interpreter.set_gather_prints(True)
        try:
            for file, source in sorted(bundle.modules.items()):
                self._interpreter.add_policy(file, source)
            self._interpreter.add_data_json(json.dumps(bundle.data, ensure_ascii=False, allow_nan=False))
        except RuntimeError as error:
            raise PolicyFault(plain_error(error)) from None

    def show(self, document: bytes) -> None:
        """Makes ``document`` (strict JSON) the input of what is asked from now on."""
        self._interpreter.set_input_json(document.decode())

    def ask(self, path: str) -> Answer:
        """The rule ``path``, as in ``data.lmg.authz.allow``."""
        self._interpreter.clear_coverage_data()
        value: Json | _Undefined = UNDEFINED
        error = ""
        try:
            found = json.loads(self._interpreter.eval_query_as_json(path))
            if found.get("result"):
                value = found["result"][0]["expressions"][0]["value"]
        except RuntimeError as failed:
            error = plain_error(failed)
        return Answer(value, error, self._lines())

    def prints(self) -> list[str]:
        """What ``print`` has written since it was last asked."""
        return list(self._interpreter.take_prints())

    def _lines(self) -> dict[str, Lines]:
        report = json.loads(self._interpreter.get_coverage_report_as_json())
        return {
            item["path"]: Lines(frozenset(item["covered"]), frozenset(item["not_covered"]))
            for item in report["files"]
        }

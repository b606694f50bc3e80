"""The interpreter regorus, with the types that its package lacks. An object of it belongs to the thread that made it."""

from __future__ import annotations

from typing import Protocol, cast

import regorus  # type: ignore[import-untyped]

__all__ = ["Interpreter", "interpreter", "plain_error"]

_MAX_ERROR = 2000


class Interpreter(Protocol):
    """What is used of ``regorus.Engine``. Every method raises RuntimeError for what it cannot do."""

    def add_policy(self, path: str, rego: str) -> str: ...
    def add_data_json(self, data: str) -> None: ...
    def set_input_json(self, input: str) -> None: ...
    def get_ast_as_json(self) -> str: ...

    def eval_rule(self, rule: str) -> object:
        """The value as Python has it (a set is a set), and None where it is undefined or null."""


def interpreter() -> Interpreter:
    """A new, empty one."""
    return cast(Interpreter, regorus.Engine())


def plain_error(error: BaseException) -> str:
    """What the interpreter says, without the stack of its own that it may add."""
    return str(error).partition("\n\nStack backtrace")[0].strip()[:_MAX_ERROR]

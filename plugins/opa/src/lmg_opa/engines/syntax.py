"""What a policy's rules call and refer to, read from the parser's own syntax tree.

The tree is walked whole and without knowledge of its shapes, but for the few that matter: what is not understood is
walked into, so nothing that a rule calls is overlooked.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from ..engine import PolicyFault
from .interpreter import interpreter, plain_error

__all__ = ["Call", "Module", "Ref", "Rule", "parse"]

Node = dict[str, "Node"] | list["Node"] | str | int | float | bool | None

# The interpreter's parser recurses and ends the process where its stack ends.
MAX_NESTING: Final = 40
# Under these a part that becomes undefined makes something true, longer or different.
_TURNING: Final = frozenset({"NotExpr", "ArrayCompr", "SetCompr", "ObjectCompr", "Every"})
# Operators that are no calls in the tree and fail on operands of a wrong type, as 1 / 0 does.
_OPERATORS: Final = frozenset({"ArithExpr", "BinExpr", "UnaryExpr"})


@dataclass(frozen=True, slots=True)
class Call:
    """``path`` is called in ``line``; ``turned`` where it stands under a ``not``, in a comprehension, ``every`` or ``else``.

    ``operator`` is the path of ``+ - * / % & |``, ``with`` that of a replacement that is not input or data, and
    ``with:<path>`` that of what ``with`` puts in another's place; ``not`` is that of a negation whose operands may be
    undefined, which OPA computes before it negates (so the whole is undefined) and other engines do not (so it is true).
    """

    path: str
    line: int
    turned: bool


@dataclass(frozen=True, slots=True)
class Ref:
    """A reference as far as it is fixed: ``("data", "lmg", "authz", "allow")``. ``turned`` as of a call."""

    path: tuple[str, ...]
    turned: bool


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule: its full path up to its first name, and all that it calls and refers to.

    ``turns``: its default is not ``false``, so it says more where its body says nothing.
    """

    path: tuple[str, ...]
    line: int
    calls: tuple[Call, ...]
    refs: tuple[Ref, ...]
    turns: bool


@dataclass(frozen=True, slots=True)
class Module:
    """One source file. ``aliases`` are the names that its imports give, ``input`` and ``data`` standing for themselves."""

    file: str
    source: str
    package: tuple[str, ...]
    package_line: int
    aliases: tuple[str, ...]
    rules: tuple[Rule, ...]


def parse(sources: Mapping[str, str]) -> tuple[Module, ...]:
    """The modules of ``sources`` in the order of their paths.

    Raises:
        PolicyFault: a module does not parse (also where it is written in the syntax before Rego v1).
    """
    parser = interpreter()
    for file, source in sorted(sources.items()):
        _check_nesting(file, source)
        try:
            parser.add_policy(file, source)
        except RuntimeError as error:
            raise PolicyFault(plain_error(error)) from None
    return tuple(_module(entry) for entry in json.loads(parser.get_ast_as_json()))


def _check_nesting(file: str, source: str) -> None:
    depth = 0
    for number, line in enumerate(source.splitlines(), 1):
        for letter in line:
            if letter in "([{":
                depth += 1
                if depth > MAX_NESTING:
                    raise PolicyFault(f"{file}:{number}: brackets are nested more than {MAX_NESTING} deep")
            elif letter in ")]}":
                depth = max(0, depth - 1)


def _module(entry: dict[str, Node]) -> Module:
    source, tree = entry["source"], entry["ast"]
    assert isinstance(source, dict) and isinstance(tree, dict)
    head = tree["package"]
    package = _reference(head["refr"])[0]  # type: ignore[index, call-overload]
    aliases: dict[str, tuple[str, ...]] = {}
    for item in tree["imports"]:  # type: ignore[union-attr]
        path, named = _reference(item["refr"])[0], item.get("as")  # type: ignore[index, call-overload, union-attr]
        name = _text(source["contents"], named) if isinstance(named, dict) else path[-1]  # type: ignore[arg-type]
        if (path[0] in ("data", "input") and len(path) > 1) or named is not None:
            aliases[name] = path
    home = ("data", *package)
    rules = list(tree["rules"])  # type: ignore[arg-type]
    names = {_root(rule) for rule in rules}
    reader = _Reader(home, aliases, names)
    return Module(
        str(source["file"]),
        str(source["contents"]),
        package,
        _line(head),
        tuple(sorted(aliases)),
        tuple(reader.rule(rule) for rule in rules),
    )


def _text(source: str, span: dict[str, Node]) -> str:
    # Spans count bytes.
    return source.encode()[int(span["start"]) : int(span["end"])].decode()  # type: ignore[arg-type]


def _head(rule: Node) -> Node:
    """The reference that names a rule."""
    assert isinstance(rule, dict)
    spec = rule.get("Spec") or rule.get("Default")
    assert isinstance(spec, dict)
    if "refr" in spec:
        return spec["refr"]
    (head,) = spec["head"].values()  # type: ignore[union-attr]
    return head["refr"]  # type: ignore[index, call-overload]


def _root(rule: Node) -> str:
    return _reference(_head(rule))[0][0]


def _line(node: Node) -> int:
    if isinstance(node, dict):
        span = node.get("span")
        if isinstance(span, dict):
            return int(span["line"])  # type: ignore[arg-type]
        for below in node.values():
            found = _line(below)
            if found:
                return found
    return 0


def _reference(node: Node) -> tuple[tuple[str, ...], list[Node]]:
    """The names of ``a.b["c"]`` as far as they are fixed, and what else stands in it (variable parts, another base)."""
    steps: list[str | None] = []
    rest: list[Node] = []
    while isinstance(node, dict):
        if "RefDot" in node:
            dot = node["RefDot"]
            assert isinstance(dot, dict)
            field = dot["field"]
            steps.append(str(field[1]) if isinstance(field, list) else None)
            node = dot["refr"]
        elif "RefBrack" in node:
            brack = node["RefBrack"]
            assert isinstance(brack, dict)
            index = brack["index"]
            assert isinstance(index, dict)
            literal = index.get("String")
            steps.append(str(literal["value"]) if isinstance(literal, dict) else None)
            if literal is None:
                rest.append(index)
            node = brack["refr"]
        elif "Var" in node:
            variable = node["Var"]
            assert isinstance(variable, dict)
            steps.append(str(variable["value"]))
            break
        else:
            rest.append(node)
            return (), rest
    steps.reverse()
    fixed = steps.index(None) if None in steps else len(steps)
    return tuple(str(step) for step in steps[:fixed]), rest


class _Reader:
    """Reads the rules of one module, with the names that it may use for others."""

    def __init__(
        self, home: tuple[str, ...], aliases: Mapping[str, tuple[str, ...]], names: set[str]
    ) -> None:
        self._home, self._aliases, self._names = home, aliases, names

    def rule(self, tree: Node) -> Rule:
        assert isinstance(tree, dict)
        calls: list[Call] = []
        refs: list[Ref] = []
        default = tree.get("Default")
        turns = isinstance(default, dict) and not _is_false(default["value"])
        for found in self._walk(tree, _has_else(tree)):
            if isinstance(found, Call):
                calls.append(found)
            else:
                refs.append(found)
        return Rule((*self._home, _root(tree)), _line(tree), tuple(calls), tuple(refs), turns)

    def _walk(self, tree: Node, turned: bool) -> Iterator[Call | Ref]:
        head = _head(tree)
        work: list[tuple[Node, bool]] = [(tree, turned)]
        while work:
            node, turned = work.pop()
            if isinstance(node, list):
                work.extend((item, turned) for item in node)
            if not isinstance(node, dict):
                continue
            if "RefDot" in node or "RefBrack" in node or "Var" in node:
                path, rest = _reference(node)
                # A rule's own name is no reference to itself; what stands in its brackets is read all the same.
                if path and node is not head:
                    yield Ref(self._whole(path), turned)
                work.extend((item, turned) for item in rest)
                continue
            if "with_mods" in node:
                yield from self._replaced(node["with_mods"], turned)
            for key, below in node.items():
                if key == "Call":
                    assert isinstance(below, dict)
                    path, rest = _reference(below["fcn"])
                    yield Call(".".join(self._whole(path)), _line(below), turned)
                    yield Ref(self._whole(path), turned)
                    work.extend((item, turned) for item in [*rest, below["params"]])
                elif key != "span":
                    if key == "NotExpr" and self._is_loose(below):
                        yield Call("not", _line(below), turned)
                    if key in _OPERATORS:
                        yield Call("operator", _line(below), turned)
                    work.append((below, turned or key in _TURNING))

    def _replaced(self, mods: Node, turned: bool) -> Iterator[Call]:
        """``with f as g`` calls ``g`` where ``f`` is written."""
        for mod in mods if isinstance(mods, list) else []:
            assert isinstance(mod, dict)
            target, _ = _reference(mod["refr"])
            if target[:1] not in (("input",), ("data",)):
                yield Call("with", _line(mod["refr"]), turned)
            by, _ = _reference(mod["as"])
            if by and by[0] != "input":
                yield Call("with:" + ".".join(self._whole(by)), _line(mod["refr"]), turned)

    def _is_loose(self, negation: Node) -> bool:
        """Whether something beneath this ``not`` can be undefined other than the whole of it."""
        assert isinstance(negation, dict)
        node = negation["expr"]
        assert isinstance(node, dict)
        compared = node.get("BoolExpr")
        if isinstance(compared, dict) and compared["op"] == "Eq":
            return not (self._is_alone(compared["lhs"]) and self._is_alone(compared["rhs"]))
        called = node.get("Call")
        if isinstance(called, dict):
            return not self._is_settled(called["params"])
        return not self._is_alone(node)

    def _is_alone(self, node: Node) -> bool:
        """A single reference, or what cannot be undefined."""
        path, rest = _reference(node)
        return self._is_settled(rest if path else node)

    def _is_settled(self, node: Node) -> bool:
        """Literals and variables of the rule, which are bound when a ``not`` reads them."""
        if isinstance(node, list):
            return all(self._is_settled(item) for item in node)
        if not isinstance(node, dict):
            return True
        if "Var" in node:
            path, _ = _reference(node)
            return path[0] not in ("input", "data") and self._whole(path) == path
        if node.keys() & {"RefDot", "RefBrack", "Call"}:
            return False
        return all(self._is_settled(below) for below in node.values())

    def _whole(self, path: tuple[str, ...]) -> tuple[str, ...]:
        """``path`` with the alias or the local name in front of it written out."""
        if path[:1] and path[0] in self._names:
            return (*self._home, *path)
        if path[:1] and path[0] in self._aliases:
            return (*self._aliases[path[0]], *path[1:])
        return path


def _is_false(value: Node) -> bool:
    return isinstance(value, dict) and isinstance(value.get("Bool"), dict) and value["Bool"]["value"] is False  # type: ignore[index, call-overload]


def _has_else(rule: dict[str, Node]) -> bool:
    spec = rule.get("Spec")
    bodies = spec["bodies"] if isinstance(spec, dict) else []
    return any(isinstance(body, dict) and body.get("is_else") is True for body in bodies)  # type: ignore[union-attr]

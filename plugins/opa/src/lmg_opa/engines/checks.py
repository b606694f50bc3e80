"""What a policy may not do, found when it is loaded: an engine that cannot refuse it would answer wrongly.

- a call that is neither defined nor a builtin *of that engine* (some engines take it for undefined: true under ``not``);
- a builtin that reaches out of the policy, or that fails without saying so in that engine;
- a name of a builtin that is defined again; ``with`` on anything but ``input`` and ``data``;
- recursion, which one interpreter ends the process for;
- a ``not`` over operands that may be undefined: engines differ on it, and one of two lets through what the other refuses;
- an input that is read and not declared, where the package declares what it reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import orjson
import yaml

from ..engine import Bundle, PolicyFault, Undecided
from .syntax import Module, Rule, parse

__all__ = [
    "MAX_DOCUMENT_BYTES",
    "MAX_MODULES",
    "MAX_MODULE_BYTES",
    "Findings",
    "bounded",
    "inspect",
    "whole_json",
]

MAX_DOCUMENT_BYTES: Final = 256 * 1024
MAX_MODULES: Final = 256
MAX_MODULE_BYTES: Final = 256 * 1024
FORBIDDEN: Final = frozenset(
    {
        "http.send",
        "net.lookup_ip_addr",
        "opa.runtime",
        "print",
        "rego.parse_module",
        "trace",
        "providers.aws.sign_req",
    }
)
VOLATILE: Final = frozenset({"rand.intn", "time.now_ns", "uuid.rfc4122"})
# These give an answer for every value, of whatever type: they cannot fail.
TOTAL: Final = frozenset(
    {
        "is_array", "is_boolean", "is_null", "is_number", "is_object", "is_set", "is_string", "type_name",
        "regex.is_valid", "json.is_valid", "json.marshal", "time.now_ns", "net.cidr_is_valid", "semver.is_valid",
    }
)  # fmt: skip
_COMMENT: Final = re.compile(r"^\s*#\s?")


@dataclass(frozen=True, slots=True)
class Findings:
    """What the checks learned of a policy. ``rules`` are the names that its package defines; ``modules`` what is loaded."""

    modules: Mapping[str, str]
    rules: frozenset[str]
    volatile: bool
    reads: tuple[tuple[str, ...], ...] | None


def bounded(document: bytes) -> bytes:
    """``document``, unless it is larger than an engine shall see (:data:`MAX_DOCUMENT_BYTES`)."""
    if len(document) > MAX_DOCUMENT_BYTES:
        raise Undecided("too_large", f"the input is larger than {MAX_DOCUMENT_BYTES} bytes")
    return document


def whole_json(document: bytes) -> bytes:
    """:func:`bounded`, and one JSON value that nothing follows: for engines that would take it for something else."""
    try:
        orjson.loads(bounded(document))
    except orjson.JSONDecodeError:
        raise Undecided("error", "the input is not JSON") from None
    return document


def inspect(
    bundle: Bundle,
    package: str,
    *,
    builtins: frozenset[str],
    silent: frozenset[str] = frozenset(),
    swallows: bool = False,
) -> Findings:
    """What ``bundle`` is found to do, its tests left out.

    ``builtins`` are the engine's; ``silent`` those that fail in it without an error; ``swallows`` says that every failure
    is undefined in it, so that no builtin that can fail may stand where undefined lets somebody through. An engine that
    does not swallow failures negates by the operands' own value, so these may not be undefined.

    Raises:
        PolicyFault: with file and line.
    """
    sources = {file: text for file, text in bundle.modules.items() if not file.endswith("_test.rego")}
    if len(sources) > MAX_MODULES:
        raise PolicyFault(f"the bundle has {len(sources)} modules, more than {MAX_MODULES}")
    for file, text in sources.items():
        if len(text.encode()) > MAX_MODULE_BYTES:
            raise PolicyFault(f"{file}: larger than {MAX_MODULE_BYTES} bytes")
    modules = parse(sources)
    rules = [(module, rule) for module in modules for rule in module.rules]
    defined = {rule.path for _, rule in rules}
    home = ("data", *package.split("."))
    names = frozenset(path[-1] for path in defined if path[:-1] == home)
    if "allow" not in names:
        raise PolicyFault(f"no rule {package}.allow in the bundle (modules: {len(sources)})")
    called = _check_calls(rules, defined, builtins, silent)
    _check_recursion(rules)
    if swallows:
        _check_turned(rules, builtins, (*home, "obligations"))
    else:
        _check_negations(rules)
    reads = _declared(modules, home[1:])
    if reads is not None:
        _check_reads(rules, reads)
    return Findings(sources, names, bool(called & VOLATILE), reads)


def _check_calls(
    rules: Iterable[tuple[Module, Rule]],
    defined: set[tuple[str, ...]],
    builtins: frozenset[str],
    silent: frozenset[str],
) -> set[str]:
    """All builtins that are called."""
    called: set[str] = set()
    taken = {"input", "data", *(name.partition(".")[0] for name in builtins | FORBIDDEN)}
    for module, rule in rules:
        for name in (rule.path[-1], *module.aliases):
            if name in taken:
                raise PolicyFault(
                    f"{module.file}:{rule.line}: {name} is the name of a builtin, and defined or imported here"
                )
        for call in rule.calls:
            where = f"{module.file}:{call.line}"
            if call.path in ("operator", "not"):
                continue
            if call.path == "with":
                raise PolicyFault(f"{where}: 'with' may replace input and data only")
            name = call.path.removeprefix("with:")
            if name in FORBIDDEN:
                raise PolicyFault(f"{where}: {name} is not allowed: it reaches out of the policy")
            if name in silent:
                raise PolicyFault(f"{where}: {name} is not allowed: this engine does not tell when it fails")
            if name in builtins:
                called.add(name)
            elif call.path == name and not any(_covers(path, tuple(name.split("."))) for path in defined):
                raise PolicyFault(f"{where}: {name} is neither defined nor a builtin of this engine")
    return called


def _covers(prefix: tuple[str, ...], path: tuple[str, ...]) -> bool:
    return path[: len(prefix)] == prefix


def _graph(rules: Iterable[tuple[Module, Rule]]) -> dict[tuple[str, ...], set[tuple[str, ...]]]:
    """Which rule refers to which. A reference to a whole package refers to all of its rules."""
    edges: dict[tuple[str, ...], set[tuple[str, ...]]] = {rule.path: set() for _, rule in rules}
    for _, rule in rules:
        for ref in {ref.path for ref in rule.refs if ref.path[:1] == ("data",)}:
            edges[rule.path].update(path for path in edges if _covers(path, ref) or _covers(ref, path))
    return edges


def _check_recursion(rules: list[tuple[Module, Rule]]) -> None:
    waits = _graph(rules)
    while True:
        # A rule that waits for nobody cannot be part of a ring; what is left in the end is one, or leads to one.
        done = {path for path, needed in waits.items() if not needed}
        if not done:
            break
        waits = {path: needed - done for path, needed in waits.items() if path not in done}
    if waits:
        path = min(waits)
        where = next(f"{module.file}:{rule.line}" for module, rule in rules if rule.path == path)
        raise PolicyFault(f"{where}: {'.'.join(path)} refers to itself, or to a rule that does")


def _check_negations(rules: Iterable[tuple[Module, Rule]]) -> None:
    for module, rule in rules:
        for call in rule.calls:
            if call.path == "not":
                raise PolicyFault(
                    f"{module.file}:{call.line}: what stands under this 'not' may be undefined, which is true here and not in "
                    "OPA: name it in a rule of its own (listed if input.model in data.models) and negate that (not listed)"
                )


def _check_turned(
    rules: list[tuple[Module, Rule]], builtins: frozenset[str], obligations: tuple[str, ...]
) -> None:
    edges = _graph(rules)
    reached = {rule.path for _, rule in rules if rule.turns}
    # What is allowed with no obligations is allowed without bounds.
    reached.update(path for path in edges if _covers(obligations, path))
    for _, rule in rules:
        turned = {ref.path for ref in rule.refs if ref.turned and ref.path[:1] == ("data",)}
        reached.update(path for path in edges for ref in turned if _covers(path, ref) or _covers(ref, path))
    work = list(reached)
    while work:
        for path in edges[work.pop()] - reached:
            reached.add(path)
            work.append(path)
    for module, rule in rules:
        for call in rule.calls:
            name = call.path.removeprefix("with:")
            fails = name == "operator" or (name in builtins and name not in TOTAL)
            if fails and (call.turned or rule.path in reached):
                raise PolicyFault(
                    f"{module.file}:{call.line}: {name} may fail, and this engine takes a failure for undefined: it may "
                    "not stand under a not, in a comprehension, every or else, in obligations, nor in a rule that one of these reads"
                )


def _declared(modules: Iterable[Module], package: tuple[str, ...]) -> tuple[tuple[str, ...], ...] | None:
    """``custom.reads`` of the METADATA right above the package's name."""
    found: list[tuple[str, ...]] = []
    declares = False
    for module in modules:
        lines = module.source.splitlines()[: module.package_line - 1]
        block: list[str] = []
        while lines and lines[-1].lstrip().startswith("#") and lines[-1].strip() != "# METADATA":
            block.append(_COMMENT.sub("", lines.pop()))
        if module.package != package or not lines or lines[-1].strip() != "# METADATA":
            continue
        try:
            metadata = yaml.safe_load("\n".join(reversed(block)))
        except yaml.YAMLError as error:
            raise PolicyFault(f"{module.file}: its METADATA is not YAML") from error
        custom = metadata.get("custom") if isinstance(metadata, dict) else None
        if not isinstance(custom, dict) or "reads" not in custom:
            continue
        reads = custom["reads"]
        if not isinstance(reads, list) or not all(isinstance(path, str) and path for path in reads):
            raise PolicyFault(f"{module.file}: custom.reads is a list of paths such as principal.roles")
        declares = True
        found += [tuple(path.split(".")) for path in reads]
    return tuple(found) if declares else None


def _check_reads(rules: Iterable[tuple[Module, Rule]], reads: tuple[tuple[str, ...], ...]) -> None:
    for module, rule in rules:
        for ref in rule.refs:
            if ref.path[:1] == ("input",) and not any(_covers(path, ref.path[1:]) for path in reads):
                raise PolicyFault(
                    f"{module.file}:{rule.line}: {rule.path[-1]} reads {'.'.join(ref.path)}, which custom.reads does not name"
                )

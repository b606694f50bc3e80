"""Order is data flow, checked at start, per hook and in the direction of that hook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from .component import Component
from .config import Envelope
from .errors import OrderError
from .hookspecs import LIFE_HOOKS, REVERSED

__all__ = ["KERNEL_FACTS", "Listed", "check_order"]

KERNEL_FACTS: Final[Mapping[str, frozenset[str]]] = {
    **{hook: frozenset({"head", "body"}) for hook in LIFE_HOOKS},
    "on_settle": frozenset({"head", "usage", "outcome"}),
    "on_end": frozenset({"head", "usage", "outcome"}),
}
"""What the kernel itself provides; ``body`` is read just before the first component that requires it."""

_WALK: Final = ("on_request", "on_route", "on_attempt", "on_failure", "on_stream", "on_response")


@dataclass(frozen=True, slots=True)
class Listed:
    """One entry of the pipeline, as the checks see it."""

    name: str
    component: type[Component]
    envelope: Envelope
    settings: Any = None

    def provides(self, hook: str) -> tuple[str, ...]:
        return self.component.provides.get(hook, ())

    def requires(self, hook: str) -> tuple[str, ...]:
        """What the hook needs, with what its ``when`` is decided on."""
        component = self.component
        facts = component.requires if self.settings is None else component.required(self.settings)
        needed = facts.get(hook, ())
        when = self.envelope.when
        if when is not None and hook == "on_request":
            if when.tenant and "principal" not in needed:
                needed = (*needed, "principal")
            if when.model and "body" not in needed:
                needed = (*needed, "body")
        return needed

    def uses(self, hook: str) -> tuple[str, ...]:
        component = self.component
        facts = component.uses if self.settings is None else component.used(self.settings)
        return facts.get(hook, ())

    def serves(self, other: Listed) -> bool:
        """Whether what this one provides is there whenever ``other`` runs."""
        if self.envelope.mode == "shadow" and other.envelope.mode != "shadow":
            return False
        return self.envelope.when is None or self.envelope.when == other.envelope.when


@dataclass(frozen=True, slots=True)
class _Edge:
    first: str
    then: str
    fact: str
    hook: str
    provider: str
    consumer: str


def check_order(listed: Sequence[Listed], where: str = "") -> None:
    """Refuses a list in which a component would run before the facts that it declares to read.

    Raises:
        OrderError: with the list as given, the rule, who owns it, and a list that works.
    """
    listed = [item for item in listed if item.envelope.mode != "off"]
    for item in listed:
        for hook in ("on_settle", "on_end"):
            here = {fact for other in listed for h in ("on_settle", hook) for fact in other.provides(h)}
            for fact in item.requires(hook):
                if fact not in KERNEL_FACTS[hook] and fact not in here:
                    raise OrderError(
                        f"{item.name}: {hook} may require only facts of on_settle and on_end, not '{fact}': the walk may have ended early",
                        where=where, path="pipeline", hint=f"declare '{fact}' under uses",
                    )  # fmt: skip
        for hook in LIFE_HOOKS:
            for fact in item.requires(hook):
                if fact not in KERNEL_FACTS[hook]:
                    _check_provided(item, hook, fact, listed, where)
    edges = list(_edges(listed))
    place = {item.name: n for n, item in enumerate(listed)}
    broken = next((edge for edge in edges if place[edge.first] > place[edge.then]), None)
    if broken is None:
        return
    works = _sorted([item.name for item in listed], edges)
    given = "\n".join(f"    - {item.name}" for item in listed)
    what = f"the order breaks a rule of '{broken.consumer}': its {broken.hook} reads '{broken.fact}', which '{broken.provider}' provides"
    better = (
        "\n  a list that works:\n" + "\n".join(f"    - {name}" for name in works)
        if works
        else "\n  no order satisfies all rules"
    )
    raise OrderError(
        f"{what}, so '{broken.first}' must stand above '{broken.then}'\n  the list as given:\n{given}{better}",
        where=where,
        path="pipeline",
    )


def _earlier(hook: str) -> tuple[str, ...]:
    """The hooks whose facts are complete when ``hook`` runs."""
    if hook in _WALK:
        return _WALK[: _WALK.index(hook)]
    return ("on_settle",) if hook == "on_end" else ()


def _check_provided(item: Listed, hook: str, fact: str, listed: Sequence[Listed], where: str) -> None:
    providers = [other for other in listed if other is not item and fact in other.provides(hook)]
    providers += [other for other in listed for h in _earlier(hook) if fact in other.provides(h)]
    if not providers:
        raise OrderError(
            f"'{item.name}' requires the fact '{fact}' in {hook}, and nothing in the pipeline provides it",
            where=where, path="pipeline", hint=_hint(fact),
        )  # fmt: skip
    if not any(other.serves(item) for other in providers):
        other = providers[0]
        reason = "runs in shadow" if other.envelope.mode == "shadow" else "has a `when`"
        raise OrderError(
            f"'{item.name}' always requires the fact '{fact}' in {hook}, and '{other.name}', which provides it, {reason}",
            where=where, path="pipeline", hint=f"give '{item.name}' the same condition, or '{other.name}' none",
        )  # fmt: skip


def _hint(fact: str) -> str:
    return (
        "list an authenticator above it, as auth_static"
        if fact == "principal"
        else f"list a component that provides '{fact}'"
    )


def _edges(listed: Sequence[Listed]) -> list[_Edge]:
    edges = []
    for hook in LIFE_HOOKS:
        for consumer in listed:
            for fact in dict.fromkeys((*consumer.requires(hook), *consumer.uses(hook))):
                for provider in listed:
                    if provider is consumer or fact not in provider.provides(hook):
                        continue
                    pair = (provider.name, consumer.name)
                    first, then = reversed(pair) if hook in REVERSED else pair
                    edges.append(_Edge(first, then, fact, hook, provider.name, consumer.name))
    return edges


def _sorted(names: Sequence[str], edges: Sequence[_Edge]) -> list[str]:
    """The names in an order that satisfies all edges, as close to the given one as can be; empty if none does."""
    left = list(names)
    out: list[str] = []
    while left:
        free = next((n for n in left if not any(e.then == n and e.first in left for e in edges)), None)
        if free is None:
            return []
        left.remove(free)
        out.append(free)
    return out

"""The input: what a policy is shown of one exchange, as strict JSON.

A policy that declares what it reads is given that alone: only these parts are built, and their bytes are the key under
which the decision is kept. All that lies beside them cannot matter to it, since it is not there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import orjson

from lmg.admin import AdminRequest

from .engine import PolicyFault
from .request_parts import OF_THE_HEAD, REQUEST, Look

if TYPE_CHECKING:
    from lmg import Exchange, Host, Principal, Target
    from lmg.jsontext import Json

    from .config import InputConfig

__all__ = ["InputPlan"]

MAX_KEPT: Final = 1024
MAX_CANDIDATES: Final = 256
MAX_SIGNALS: Final = 256
MINUTE_S: Final = 60

Wanted = dict[str, "Wanted"]
"""Members to show; an empty one stands for all of a value."""
Section = Callable[[Look], Any]
S = TypeVar("S")

_WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_PRINCIPAL: Final[Mapping[str, Callable[[Principal], Json]]] = {
    "subject": lambda who: who.subject,
    "tenant": lambda who: who.tenant,
    "issuer": lambda who: who.issuer,
    "roles": lambda who: _sorted(who.roles),
    "groups": lambda who: _sorted(who.groups),
    "scopes": lambda who: _sorted(who.scopes),
    "budget_class": lambda who: who.budget_class,
    "attributes": lambda who: {
        name: value if type(value) is str else list(value) for name, value in sorted(who.attributes.items())
    },
}
_SOURCE: Final[Mapping[str, Callable[[Look], Json]]] = {"address": lambda look: look.exchange.head.client}
_ADMIN: Final[Mapping[str, Callable[[AdminRequest], Json]]] = {
    "method": lambda asked: asked.method,
    "component": lambda asked: asked.component,
    "route": lambda asked: asked.route,
    "params": lambda asked: dict(asked.params),
    "change": lambda asked: asked.change,
    "approvers": lambda asked: _sorted(asked.approvers),
}
_TIME: Final[Mapping[str, Callable[[datetime], Json]]] = {
    "unix_s": lambda at: int(at.timestamp()),
    "rfc3339": lambda at: at.strftime("%Y-%m-%dT%H:%M:%SZ"),
    "weekday": lambda at: _WEEKDAYS[at.weekday()],
    "hour": lambda at: at.hour,
    "minute": lambda at: at.minute,
}


class InputPlan:
    """How the input of one version of a policy is built. Made when the policy is loaded, used for every exchange."""

    def __init__(
        self,
        host: Host,
        settings: InputConfig,
        facts: Sequence[str],
        reads: Sequence[Sequence[str]] | None = None,
    ) -> None:
        """``reads`` are the paths that the policy declares; None shows it everything.

        Raises:
            PolicyFault: it reads what it is never shown.
        """
        wanted = _tree(reads) if reads is not None else None
        self._headers = tuple((name, name.encode()) for name in settings.headers)
        self._text = settings.text
        made: dict[str, Callable[[Wanted], Section]] = {
            "principal": _principal,
            "request": lambda want: _request(want, body=settings.body),
            "candidates": _candidates,
            "time": lambda want: _time(want, host),
            "source": lambda want: _leaves(_selected("source", _SOURCE, want)),
        }
        if "risk" in facts:
            made["risk"] = lambda want: lambda look: look.exchange.fact("risk")
        if "signals" in facts:
            made["signals"] = lambda want: _signals
        made["admin"] = _admin
        if wanted is None:
            self._sections = tuple((name, make({})) for name, make in made.items())
        else:
            for name in wanted:
                if name not in made:
                    hint = "; list it under `facts`" if name in ("risk", "signals") else ""
                    raise PolicyFault(f"the policy reads input.{name}, which it is not shown{hint}")
            self._sections = tuple(
                (name, make(wanted[name])) for name, make in made.items() if name in wanted
            )

    def encode(self, exchange: Exchange) -> bytes:
        """The input of ``exchange``; equal bytes mean that the policy is shown the same."""
        look = Look(exchange, self._headers, self._text)
        shown = {}
        for name, section in self._sections:
            value = section(look)
            # Nobody is somebody to a policy; what is not there otherwise is left out, since in Rego null is true.
            if value is not None or name == "principal":
                shown[name] = value
        return orjson.dumps(shown)


# -- sections -------------------------------------------------------------------------------------


def _principal(wanted: Wanted) -> Section:
    leaves = _selected("principal", _PRINCIPAL, wanted)
    kept: dict[Principal, orjson.Fragment] = {}

    def section(look: Look) -> Any:
        who = look.exchange.principal
        if who is None:
            return None
        found = kept.get(who)
        if found is None:
            if len(kept) >= MAX_KEPT:
                kept.clear()
            found = kept[who] = orjson.Fragment(orjson.dumps(_built(leaves, who)))
        return found

    return section


def _request(wanted: Wanted, *, body: bool) -> Section:
    leaves = _selected("request", REQUEST, wanted)
    if not body:
        hidden = [name for name, _, _ in leaves if name not in OF_THE_HEAD]
        if wanted and hidden:
            raise PolicyFault(f"the policy reads input.request.{hidden[0]}, and `input: {{body: false}}`")
        leaves = tuple(leaf for leaf in leaves if leaf[0] in OF_THE_HEAD)
    return _leaves(leaves)


def _leaves(leaves: Sequence[tuple[str, Callable[[Look], Json], Wanted]]) -> Section:
    return lambda look: _built(leaves, look)


def _candidates(wanted: Wanted) -> Section:
    # A model's targets are one tuple for as long as the pipeline runs, unless bounds have narrowed them.
    kept: dict[tuple[str, str, str], tuple[tuple[Target, ...], orjson.Fragment]] = {}

    def section(look: Look) -> Any:
        exchange = look.exchange
        if look.body is None:
            return []
        targets = exchange.candidates
        key = (look.model, exchange.operation, exchange.dialect.name)
        found = kept.get(key)
        if found is None or found[0] is not targets:
            if len(kept) >= MAX_KEPT:
                kept.clear()
            shown = orjson.dumps([_target(target) for target in targets[:MAX_CANDIDATES]])
            found = kept[key] = (targets, orjson.Fragment(shown))
        return found[1]

    return section


def _target(target: Target) -> dict[str, Json]:
    shown: dict[str, Json] = {
        "name": target.name,
        "provider": target.provider,
        "model": target.model,
        "region": target.region,
        "on_prem": target.on_prem,
        "priority": target.priority,
    }
    if target.prices is not None:
        shown["prices"] = {"input": target.prices.input, "output": target.prices.output}
    return shown


def _time(wanted: Wanted, host: Host) -> Section:
    leaves = _selected("time", _TIME, wanted)
    kept: tuple[int, Any] = (-1, None)

    def section(look: Look) -> Any:
        nonlocal kept
        minute = int(host.clock.now()) // MINUTE_S
        if kept[0] != minute:
            at = datetime.fromtimestamp(minute * MINUTE_S, UTC)
            kept = (minute, orjson.Fragment(orjson.dumps(_built(leaves, at))))
        return kept[1]

    return section


def _admin(wanted: Wanted) -> Section:
    leaves = _selected("admin", _ADMIN, wanted)

    def section(look: Look) -> Any:
        asked = look.exchange.fact("admin")
        return _built(leaves, asked) if isinstance(asked, AdminRequest) else None

    return section


def _signals(look: Look) -> Any:
    signals = sorted(look.exchange.signals, key=lambda signal: -signal.probability)[:MAX_SIGNALS]
    return [
        {"name": s.name, "probability": s.probability, "weight": s.weight, "where": s.where} for s in signals
    ]


# -- selection ------------------------------------------------------------------------------------


def _tree(reads: Sequence[Sequence[str]]) -> Wanted | None:
    """The paths as members of members; None where one of them is the whole input."""
    tree: Wanted = {}
    for path in sorted(reads, key=len):  # the shorter first: whoever is shown a value is shown its members
        if not path:
            return None
        _add(tree, path)
    return tree


def _add(tree: Wanted, path: Sequence[str]) -> None:
    name, *rest = path
    if name not in tree:
        tree[name] = {}
    elif not tree[name]:
        return
    if rest:
        _add(tree[name], rest)


def _selected(
    section: str, leaves: Mapping[str, Callable[[S], Json]], wanted: Wanted
) -> tuple[tuple[str, Callable[[S], Json], Wanted], ...]:
    for name in wanted:
        if name not in leaves:
            raise PolicyFault(f"the policy reads input.{section}.{name}, which it is not shown")
    return tuple(
        (name, leaf, wanted.get(name, {})) for name, leaf in leaves.items() if not wanted or name in wanted
    )


def _built(leaves: Sequence[tuple[str, Callable[[S], Json], Wanted]], of: S) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for name, leaf, wanted in leaves:
        value = leaf(of)
        if value is not None:
            found[name] = _projected(value, wanted) if wanted else value
    return found


def _projected(value: Json, wanted: Wanted) -> Json:
    """``value`` without what was not asked for; a list is shown whole."""
    if not wanted or type(value) is not dict:
        return value
    return {name: _projected(value[name], rest) for name, rest in wanted.items() if name in value}


def _sorted(names: frozenset[str]) -> list[Json]:
    return [*sorted(names)]

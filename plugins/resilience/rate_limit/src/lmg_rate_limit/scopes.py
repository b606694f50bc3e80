"""Whose limits a request meets, and under which keys of the store: worked out once for each scope, then remembered."""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from lmg import Principal
from lmg.services import Limit

from .bounds import Bound, Scoped
from .pace import Pace
from .rules import Rule

if TYPE_CHECKING:
    from lmg import Exchange

__all__ = ["ANYBODY", "Scopes", "quoted"]

MAX_SCOPES: Final = 10_000
ANYBODY: Final = Principal("")
"""Who asks where the pipeline has no authenticator: everybody together is one tenant."""
UNLISTED: Final = 256
"""Models that no provider names share as many buckets: their names are the clients', and could be any number."""

_PLAIN: Final = re.compile(r"[A-Za-z0-9._@+-][A-Za-z0-9._@+/-]{0,63}")
_NEW: Final = object()


class Scopes:
    """The bounds of each scope; the 10,000 that were used last are kept."""

    def __init__(self, rules: Sequence[Rule], component: str) -> None:
        self._rules = rules
        self._component = component
        self._known: OrderedDict[object, Scoped | None] = OrderedDict()
        self._catalogue: Any = None
        self.held, self.admitted = Pace(unknown_s=1.0), Pace(unknown_s=0.05)
        self._by_principal = any(rule.needs_principal for rule in rules)
        self._by_tenant = not any(one in ("principal", "key") for rule in rules for one in rule.scope)
        self._by_model = any(rule.needs_model for rule in rules)

    def of(self, exchange: Exchange) -> Scoped | None:
        """The bounds that ``exchange`` meets; None where there are none."""
        who = ANYBODY
        key: object = None
        if self._by_principal:
            who = exchange.principal or ANYBODY
            key = who.tenant if self._by_tenant else (who.tenant, who.issuer, who.subject, who.key_id)
        model = ""
        if self._by_model:
            model = exchange.request.model
            key = (key, model)
            catalogue = exchange.pipeline.catalogue
            if catalogue is not self._catalogue:  # a reload: other models may be listed now
                self._catalogue = catalogue
                self._known.clear()
        known = self._known
        found: Any = known.get(key, _NEW)
        if found is not _NEW:
            known.move_to_end(key)
            return found  # type: ignore[no-any-return]
        scoped = known[key] = self._scoped(who, model)
        if len(known) > MAX_SCOPES:
            known.popitem(last=False)
        return scoped

    def asked_for(self, query: Mapping[str, str]) -> Iterator[Bound]:
        """The bounds that a query means: those for all, those of its ``tenant`` and ``model``, and those remembered here."""
        told = {"tenant", "model"} & query.keys()
        made = self._scoped(Principal("", query.get("tenant", "")), query.get("model", ""))
        named = [b for b in made.bounds if told.issuperset(b.rule.scope)] if made is not None else []
        remembered = (s.bounds for s in reversed(self._known.values()) if s is not None)
        seen = set()
        for bound in chain(named, chain.from_iterable(remembered)):
            if bound.limit.key not in seen and bound.answers(query):
                seen.add(bound.limit.key)
                yield bound

    def _scoped(self, who: Principal, model: str) -> Scoped | None:
        values: dict[str, str] = {
            "tenant": who.tenant,
            "principal": who.subject,
            "key": who.key_id or who.subject,
            "model": model,
        }
        keyed: dict[str, Callable[[], str]] = {
            "tenant": lambda: quoted(who.tenant),
            # A subject is its issuer's, and so is a key.
            "principal": lambda: f"{quoted(who.issuer)}:{quoted(who.subject)}",
            "key": lambda: f"{quoted(who.issuer)}:{quoted(values['key'])}",
            "model": lambda: self._model(model),
        }
        bounds = []
        for rule in self._rules:
            if rule.applies(who.tenant, model):
                parts = (
                    f"rl:{self._component}:{rule.name}/{rule.kind}",
                    *(keyed[one]() for one in rule.scope),
                )
                limit = Limit(":".join(parts), rule.capacity, rule.window_s)
                bounds.append(Bound(rule, limit, {one: values[one] for one in rule.scope}))
        return Scoped(bounds, self.held, self.admitted) if bounds else None

    def _model(self, model: str) -> str:
        if self._catalogue is not None and self._catalogue.lists(model):
            return quoted(model)
        return f"~{int(hashlib.sha256(model.encode(errors='replace')).hexdigest(), 16) % UNLISTED:02x}"


def quoted(value: str) -> str:
    """``value`` as a part of a key: itself where it is short and plain, else a digest of it."""
    if _PLAIN.fullmatch(value):
        return value
    return f"#{hashlib.sha256(value.encode(errors='replace')).hexdigest()[:32]}"

"""`router`: which model serves a request, and which others may if that one fails."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any, ClassVar, Final, NamedTuple

from lmg import AdminCall, AdminRoute, Attempt, Bounds, Component, Deny, Exchange, Host, Outcome, Slot, Target
from lmg.component import Facts

from .aliases import Aliases
from .cards import Card, Cards
from .config import RouterConfig
from .fit import UNSURE, fit_of
from .hints import HINTS, hint_of
from .needs import Needs
from .patterns import Patterns
from .ranking import Ranking, Request
from .refusals import STATUSES, Reason, refusal
from .residency import Residency
from .substitutes import Substitutes

__all__ = ["Router"]

_HEADER: Final = b"x-lmg-target"
# Tiers: a provider of the model, one that is a fallback, one that answers with another model. In each, those that
# can serve the request come before those that may.
_FALLBACK: Final = 2
_SUBSTITUTE: Final = 4
_NOWHERE: Final[Mapping[str, int]] = {}
_UNBOUNDED: Final = Bounds()
_OUT_OF_BOUNDS: Final = Deny(403, "out_of_bounds", "Policy leaves no model for this request.")
_NOT_NOW: Final = Deny(
    503, "no_target", "No model is available for this request at the moment.", type="server_error"
)


class _Asked(NamedTuple):
    """The targets of the model that was asked for. ``names`` are it and what it stands for, where it is an alias;
    ``positions`` is where the alias names each, and ``known`` whether anybody has heard of it.
    """

    targets: Sequence[Target]
    names: tuple[str, ...]
    positions: Mapping[str, int]
    known: bool = True


class _Routed(NamedTuple):
    """What metrics are made of when the exchange has ended."""

    labels: tuple[str, str]
    dropped: list[tuple[Target, Reason]]
    substitutes: list[Card]


class Router(Component):
    """Drops the targets that cannot serve a request, ranks those that can, and lets others stand in."""

    Config = RouterConfig
    summary = "which model serves a request: capability, residency, cost, latency, weight, hints, aliases"
    stability = "beta"
    requires: ClassVar[Facts] = {"on_route": ("body",)}
    uses: ClassVar[Facts] = {"on_route": ("principal",)}
    config: RouterConfig

    @classmethod
    def required(cls, config: Any) -> Facts:
        """With residency by tenant, a request whose tenant nobody has established must not pass."""
        if all(rule.tenant == "*" for rule in config.residency):
            return cls.requires
        return {**cls.requires, "on_route": (*cls.requires.get("on_route", ()), "principal")}

    def __init__(self, config: RouterConfig, host: Host, name: str) -> None:
        super().__init__(config, host, name)
        self._cards = Cards(
            Patterns(config.weights),
            Patterns(config.quality),
            tau_s=config.latency_decay_s,
            penalty_s=config.failure_penalty_s,
        )
        self.ranking = Ranking(config, host.clock)
        self._labels = {hint: (self.ranking.strategy_of(hint), hint or "none") for hint in ("", *HINTS)}
        self._aliases = Aliases(config.aliases)
        self._has_aliases = bool(self._aliases)
        self._residency = Residency(config.residency) if config.residency else None
        self._substitutes = None if config.strict_model else Substitutes(config, name)
        self._hints_obeyed = config.hints == "allow"
        self._unknown = config.unknown
        self._announce = config.announce
        self._routed = Slot[_Routed]("routed")
        metrics = self._metrics = host.metrics
        self._decisions = metrics.counter(
            "llm_router_decisions_total",
            "Requests that were ranked, by strategy and hint.",
            ("strategy", "hint"),
        )
        self._dropped = metrics.counter(
            "llm_router_targets_dropped_total", "Targets that could not serve a request.", ("reason",)
        )
        self._substituted = metrics.counter(
            "llm_router_substituted_total", "Answers by another model than the one asked for.", ("provider",)
        )

    # -- routing ------------------------------------------------------------------------------
    def on_route(self, exchange: Exchange, targets: Sequence[Target]) -> Sequence[Target] | Deny:
        """Drops and ranks; what cannot be served at all is refused with what to change."""
        hint = hint_of(exchange, obeyed=self._hints_obeyed)
        if isinstance(hint, Deny):
            return hint
        asked = self._asked(exchange, targets)
        confined = self._confine(exchange, hint) if self._residency is not None or hint == "on_prem" else None
        needs = Needs(exchange)
        request = Request(exchange, needs)
        ranks: tuple[list[Card], ...] = ([], [], [], [], [], [])
        dropped: list[tuple[Target, Reason]] = []
        for target in asked.targets:
            reason = self._placed(target, ranks, _FALLBACK if target.fallback else 0, request, confined)
            if reason is not None:
                dropped.append((target, reason))
        if asked.positions:
            request.positions = {card: asked.positions[card.target.model] for rank in ranks for card in rank}
        if self._substitutes is not None and (asked.known or self.config.substitute_unknown):
            dropped += self._stand_ins(exchange, asked, ranks, request)
        gone_before = bool(exchange.drops)
        for target, reason in dropped:
            exchange.drop(target, reason, STATUSES[reason])
        strategy = self.ranking.strategy_of(hint)
        if self._metrics.enabled:
            stand_ins = ranks[_SUBSTITUTE] + ranks[_SUBSTITUTE + 1]
            exchange[self._routed] = _Routed(self._labels[hint], dropped, stand_ins)
        ordered: list[Target] = []
        for rank in ranks:
            if rank:
                ranked = self.ranking.order(strategy, rank, request) if len(rank) > 1 else rank
                ordered += [card.target for card in ranked]
        if not ordered and not dropped and asked.positions and exchange.bounds != _UNBOUNDED:
            # The kernel knows nobody of this name and would call it unknown.
            return _OUT_OF_BOUNDS
        if ordered or not dropped:
            return ordered
        # Where a component above has left targets out that may come back, the request itself is not at fault.
        if gone_before and any(status >= 500 for _, _, status in exchange.drops):
            return _NOT_NOW
        return refusal(dropped, needs)

    def _asked(self, exchange: Exchange, targets: Sequence[Target]) -> _Asked:
        """The targets of the model that was asked for, or of those that it stands for."""
        model = exchange.request.model
        lists = exchange.pipeline.catalogue.lists
        names: tuple[str, ...] = ()
        if self._has_aliases:
            names = self._aliases.exact(model)
            if not names and not lists(model):
                names = self._aliases.pattern(model)
        if not names:
            return _Asked(targets, (model,), _NOWHERE, bool(targets) or lists(model))
        # A pattern stands in for a model that an exact alias names and nobody has, too.
        ends = dict.fromkeys(
            end
            for name in names
            for end in ((name,) if lists(name) else self._aliases.pattern(name) or (name,))
        )
        gone = {name for name, _, _ in exchange.drops}
        found = [target for end in ends for target in exchange.offered(end) if target.name not in gone]
        return _Asked(found, (model, *ends), {end: n for n, end in enumerate(ends)})

    def _confine(self, exchange: Exchange, hint: str) -> Reason | None:
        """Narrows the bounds by residency and by what the caller demands; why, where it has.

        Bounds rather than drops: they also hold for every attempt, mirror and judge that comes later.
        """
        confined: Reason | None = None
        if self._residency is not None:
            principal = exchange.principal
            regions = self._residency.regions_of(principal.tenant if principal is not None else "")
            if regions is not None:
                exchange.narrow(regions=regions)
                confined = "residency"
        if hint == "on_prem":
            exchange.narrow(on_prem=True)
            confined = confined or "on_prem"
        return confined

    def _placed(
        self,
        target: Target,
        ranks: tuple[list[Card], ...],
        tier: int,
        request: Request,
        confined: Reason | None,
    ) -> Reason | None:
        """Puts ``target`` into its rank, or says why it is left out."""
        exchange = request.exchange
        if confined is not None and not exchange.bounds.admit(target):
            return "on_prem" if exchange.bounds.on_prem and not target.on_prem else confined
        card = self._cards.of(target)
        if exchange.operation == "chat":
            fit = fit_of(card, request.needs, self._unknown)
            if fit == UNSURE:
                tier += 1
            elif fit:
                return fit
        ranks[tier].append(card)
        return None

    def _stand_ins(
        self, exchange: Exchange, asked: _Asked, ranks: tuple[list[Card], ...], request: Request
    ) -> list[tuple[Target, Reason]]:
        """Of each provider that lacks the model, the first other model that can serve the request."""
        assert self._substitutes is not None
        found = self._substitutes.of(exchange, asked.names, asked.targets)
        if not found:
            return []
        gone = {name for name, _, _ in exchange.drops}  # by a component above
        dropped: list[tuple[Target, Reason]] = []
        for choices in found:
            left = [target for target in choices if target.name not in gone] if gone else choices
            first: tuple[Target, Reason] | None = None
            for target in left:
                reason = self._placed(target, ranks, _SUBSTITUTE, request, None)
                if reason is None:
                    break
                first = first or (target, reason)
            else:
                if first is not None:
                    dropped.append(first)
        return dropped

    # -- attempts -----------------------------------------------------------------------------
    def on_attempt(self, exchange: Exchange, attempt: Attempt) -> Generator[None, Outcome, None]:
        """Counts the attempt while it is under way, and learns from how it ended."""
        card = self._cards.of(attempt.target)
        load = card.load
        if self._announce and not exchange.committed:
            exchange.reply_header(_HEADER, card.header)
        load.pending += 1
        try:
            outcome = yield
        finally:
            load.pending -= 1
        load.observe(attempt, outcome, self.host.clock.monotonic())
        if self._metrics.enabled and outcome.status == "complete":
            routed = exchange.get(self._routed)
            if routed is not None and card in routed.substitutes:
                self._substituted.inc((attempt.target.provider,))

    # -- what operators see -------------------------------------------------------------------
    def on_end(self, exchange: Exchange) -> None:
        """Counts what was decided: not in `on_route`, which `lmg explain` runs too."""
        if not self._metrics.enabled:
            return
        routed = exchange.get(self._routed)
        if routed is not None:
            self._decisions.inc(routed.labels)
            for _, reason in routed.dropped:
                self._dropped.inc((reason,))

    def admin_routes(self) -> list[AdminRoute]:
        """``GET targets``: what was measured of each target, in this process."""
        return [AdminRoute("GET", "targets", self._list_targets)]

    async def _list_targets(self, call: AdminCall) -> dict[str, Any]:
        now = self.host.clock.monotonic()
        listed = []
        for card in self._cards:
            load = card.load
            first_s, token_s = load.seconds(1, now)
            listed.append(
                {
                    "target": card.target.name,
                    "pending": load.pending,
                    "measured": load.measured,
                    "first_token_ms": round(first_s * 1000, 3),
                    "per_token_ms": round(token_s * 1000, 3),
                    "output_tokens": round(load.output_tokens, 1),
                }
            )
        return {"targets": listed}

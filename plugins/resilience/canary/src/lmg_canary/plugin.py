"""`canary`: a new model for a growing share of the users, measured against the old one as long as it takes to be sure."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Sequence
from fnmatch import translate
from math import prod
from random import Random
from re import compile as compiled
from typing import ClassVar, Final, Literal

from lmg import AdminRoute, Attempt, Component, Exchange, Failure, Health, Host, Outcome, Slot, Stop, Target
from lmg.component import Facts
from lmg.records import UNBOUNDED

from .admin import Admin
from .config import CanaryConfig, Mirror
from .keeper import Keeper
from .measures import Arm
from .mirror import Mirrors, uncertain
from .price import cost_of
from .targets import among, without
from .trial import Assigned, Trial

__all__ = ["Canary"]

HEADER: Final = b"x-lmg-canary"
MAX_MODELS: Final = 1024
"""How many names of models are remembered with the experiments they fit; clients may ask for any."""


class Canary(Component):
    """Gives the canary to those within the share, measures both arms, and moves the share by what it finds."""

    Config = CanaryConfig
    summary = "a new model for a growing share of users: measured, promoted or rolled back by itself"
    stability = "beta"
    on_error: ClassVar[Literal["deny", "allow"]] = "allow"  # without it everybody gets the baseline
    requires: ClassVar[Facts] = {"on_route": ("body",)}
    uses: ClassVar[Facts] = {"on_route": ("principal",)}
    config: CanaryConfig

    def __init__(self, config: CanaryConfig, host: Host, name: str) -> None:
        super().__init__(config, host, name)
        self.random = Random()
        self.trials = tuple(Trial(experiment, name) for experiment in config.experiments)
        self.keeper = Keeper(self.trials, host, name)
        self._mirrors = Mirrors(host, name)
        self._admin = Admin(self.keeper, host)
        self._patterns = [(compiled(translate(trial.experiment.model)), trial) for trial in self.trials]
        self._fitting: dict[str, tuple[Trial, ...]] = {}
        self._assigned = Slot[Assigned](name)
        self._roles = frozenset(config.header_roles)
        self._announce = config.announce
        self._task: asyncio.Task[None] | None = None
        self._requests = host.metrics.counter(
            "llm_canary_requests_total", "Attempts of experiments, by arm and how they ended.", ("experiment", "arm", "outcome")
        )  # fmt: skip

    async def start(self) -> None:
        """Begins to follow the experiments; until their states are known, nobody gets a canary."""
        await self.keeper.tick()
        self._task = self.host.spawn(self.keeper.run(), name=f"canary:{self.name}")

    async def stop(self) -> None:
        """Hands in what was measured."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None
            await self.keeper.close()

    # -- who gets it ----------------------------------------------------------------------------
    def on_route(self, exchange: Exchange, targets: Sequence[Target]) -> Sequence[Target]:
        """Puts the canary first for those who get it, and takes it away from all others."""
        model = exchange.request.model
        trials = self._fitting.get(model)
        if trials is None:
            trials = self._fit(model)
        if not trials or not self.keeper.in_step:
            return targets
        forced = self._asked(exchange) if self.config.allow_header else None
        for trial in trials:
            if not trial.live or (forced is not None and forced not in ("on", "off", trial.name)):
                continue
            canary = _served(exchange, trial)
            if not canary:
                continue
            if forced is not None:
                on_canary = forced != "off"
            else:
                on_canary = (
                    trial.places.of(exchange) < trial.threshold if trial.split else trial.threshold > 0
                )
            exchange[self._assigned] = Assigned(trial, trial.epoch, on_canary, forced is not None, canary)
            return _ordered(exchange, trial, canary, targets, on_canary)
        return targets

    def _fit(self, model: str) -> tuple[Trial, ...]:
        if len(self._fitting) >= MAX_MODELS:
            self._fitting.clear()
        found = tuple(trial for pattern, trial in self._patterns if pattern.match(model) is not None)
        self._fitting[model] = found
        return found

    def _asked(self, exchange: Exchange) -> str | None:
        """The arm or experiment that the caller asks for, where it may; what names neither is ignored."""
        value = exchange.head.get(HEADER)
        if value is None or len(value) > 64:
            return None
        if self._roles:
            principal = exchange.principal
            if principal is None or not self._roles & (principal.roles | principal.scopes):
                return None
        asked = value.decode("latin-1").strip().lower()
        known = asked in ("on", "off") or any(trial.name == asked for trial in self.trials)
        return asked if known else None

    # -- what came of it ------------------------------------------------------------------------
    def on_attempt(self, exchange: Exchange, attempt: Attempt) -> Generator[None, Outcome, None]:
        """Names the arm to the client, and measures the first attempt that the arm's target really makes.

        Later attempts are no part of the comparison: what falls back to the baseline has had a failure before it.
        """
        assigned = exchange.get(self._assigned)
        if assigned is None:
            if exchange.parent is not None:
                yield from self._measured_copy(exchange, attempt)
            return
        if exchange.shadowed and any(name == self.name for name, _, _ in exchange.shadowed):
            return  # in shadow the kernel has dropped what was decided: there are no arms
        trial = assigned.trial
        on_canary = among(attempt.target, assigned.canary)
        if self._announce and not exchange.committed:
            exchange.reply_header(HEADER, trial.headers[on_canary])
        if assigned.measured or on_canary is not assigned.on_canary:
            return
        if trial.experiment.mirror is not None and not on_canary and assigned.copy is None:
            self._perhaps_mirror(exchange, assigned, trial.experiment.mirror)
        outcome = yield
        status = outcome.status
        arm: Arm = "canary" if on_canary else "baseline"
        self._requests.inc((trial.name, "forced" if assigned.forced else arm, status))
        if status == "skipped":
            return
        assigned.measured = True
        if self._measurable(exchange, assigned):
            assigned.answered = status == "complete"
            prices = attempt.target.prices if trial.weighs_cost else None
            cost = cost_of(prices, outcome.usage) if prices is not None else None
            trial.batch.arms[arm].observe(outcome, streamed=attempt.stream, cost=cost)

    def _perhaps_mirror(self, exchange: Exchange, assigned: Assigned, mirror: Mirror) -> None:
        """Starts a copy as the call begins: of a request that the walk has masked, whatever becomes of the call itself."""
        if self.random.random() < mirror.share and self._measurable(exchange, assigned):
            self._mirrors.begin(exchange, assigned, mirror)

    def _measurable(self, exchange: Exchange, assigned: Assigned) -> bool:
        """Whether an exchange says anything about the arms: of this stage, by chance in its arm, and paid for."""
        trial = assigned.trial
        return (
            trial.measuring
            and trial.epoch == assigned.epoch
            and not assigned.forced
            and exchange.operation != "count_tokens"
        )

    def _measured_copy(self, exchange: Exchange, attempt: Attempt) -> Generator[None, Outcome, None]:
        """The attempt of a copy that this component has made, measured like the canary's own."""
        parent = exchange.parent
        assigned = parent.get(self._assigned) if parent is not None else None
        if assigned is None or not self._is_copy(exchange, assigned):
            return
        copy = assigned.copy
        assert copy is not None
        copy.measured = True
        outcome = yield
        trial = assigned.trial
        prices = attempt.target.prices
        cost = cost_of(prices, outcome.usage) if prices is not None else None
        if outcome.status == "skipped" or not uncertain(outcome.kind):
            copy.spent = (cost or 0) if outcome.status == "complete" else 0
        self._requests.inc((trial.name, "mirror", outcome.status))
        if self._measurable(exchange, assigned):
            trial.batch.arms["mirror"].observe(outcome, streamed=False, cost=cost)

    @staticmethod
    def _is_copy(exchange: Exchange, assigned: Assigned) -> bool:
        mirror = assigned.trial.experiment.mirror
        return assigned.copy is not None and mirror is not None and exchange.purpose == mirror.purpose

    def on_failure(self, exchange: Exchange, failure: Failure) -> Stop | None:
        """A copy that failed is a failure to be counted, not one to be retried or made good elsewhere."""
        parent = exchange.parent
        assigned = parent.get(self._assigned) if parent is not None else None
        return Stop() if assigned is not None and self._is_copy(exchange, assigned) else None

    def on_end(self, exchange: Exchange) -> None:
        """The risk that the guards saw in the answer: complete only now."""
        assigned = exchange.get(self._assigned)
        if assigned is None or not assigned.answered or not assigned.trial.weighs_risk:
            return
        if self._measurable(exchange, assigned):
            signals = exchange.signals
            risk = 1.0 - prod(1.0 - one.probability * one.weight for one in signals) if signals else 0.0
            arm: Arm = "canary" if assigned.on_canary else "baseline"
            assigned.trial.batch.arms[arm].observe_risk(risk)

    # -- set-up ---------------------------------------------------------------------------------
    def admin_routes(self) -> list[AdminRoute]:
        """See ``admin``."""
        return self._admin.routes()

    def health(self) -> Health | None:
        """Degraded while the counter store is gone, or where a canary is served by nobody."""
        if self._task is not None and self._task.done():
            return Health("failed", "experiments are neither measured nor moved any more: see the log")
        if not self.keeper.reachable:
            return Health("degraded", "the counter store is unreachable: experiments stay as they were")
        lost = [trial.name for trial in self.trials if trial.live and trial.unserved]
        if lost:
            return Health("degraded", f"no provider serves the canary of: {', '.join(lost)}")
        return None


def _served(exchange: Exchange, trial: Trial) -> tuple[Target, ...]:
    """The canary's targets, but for those that somebody further up has dropped; empty where it cannot serve the request."""
    found = trial.canary.targets(exchange)
    if not found:
        trial.unserved = trial.unserved or (exchange.operation == "chat" and exchange.bounds is UNBOUNDED)
        return ()
    trial.unserved = False
    if exchange.operation == "embeddings":
        # The vectors of two models cannot be compared: another provider may be tried, another model not.
        found = tuple(target for target in found if target.model == exchange.request.model)
    if exchange.drops:
        dropped = {name for name, _, _ in exchange.drops}
        found = tuple(target for target in found if target.name not in dropped)
    return found


def _ordered(
    exchange: Exchange, trial: Trial, canary: Sequence[Target], targets: Sequence[Target], on_canary: bool
) -> Sequence[Target]:
    """The list for an arm: its own targets first, and the canary in nobody else's, unless nothing else is left."""
    baseline = trial.baseline.targets(exchange) if trial.baseline is not None else ()
    others = without(targets, canary)
    if baseline:
        baseline = tuple(without(baseline, canary))
        others = [*baseline, *without(others, baseline)]
    if on_canary:
        return [*canary, *others]
    if not others:
        return targets
    if len(others) < len(targets):
        for target in targets:
            if among(target, canary):
                exchange.drop(target, f"canary of {trial.name}")
    return others

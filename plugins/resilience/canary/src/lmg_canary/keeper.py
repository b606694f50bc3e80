"""What happens each second: samples are handed in, states followed, and, in one process of all, decisions taken."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from typing import Final

from lmg import Host, ServiceError
from lmg.services import CounterStore

from .comparison import Report, compare
from .plan import NotPossible, State, begin, commanded, judged
from .trial import Trial

__all__ = ["Busy", "Keeper"]

log = logging.getLogger("lmg.canary")

PERIOD_S: Final = 1.0
LEASE_S: Final = 5.0
REFRESH_S: Final = 300.0
SUMS_TTL_S: Final = 30 * 86_400.0
_TRIES: Final = 5


class Busy(ServiceError):
    """Others have moved the experiment again and again."""


class Keeper:
    """Keeps the experiments of one process in step with all others through the host's counter store."""

    def __init__(self, trials: Sequence[Trial], host: Host, component: str) -> None:
        self.trials = trials
        self.reachable = True
        self.leading = False
        self._host = host
        self._lease = f"{component}:lease"
        self._me = secrets.token_hex(8).encode()
        self._store: CounterStore | None = None
        self._refreshed = 0.0
        metrics = host.metrics
        self._share = metrics.gauge(
            "llm_canary_share", "The share of requests that gets the canary, from 0 to 1.", ("experiment",)
        )
        self._transitions = metrics.counter(
            "llm_canary_transitions_total",
            "Moves of experiments that this process made.",
            ("experiment", "to", "reason"),
        )

    @property
    def in_step(self) -> bool:
        """Whether the states that are known come from the store that is in force: at start another may stand there yet."""
        return self._store is self._host.counters

    async def run(self) -> None:
        """Works until it is cancelled; ``tick`` has run once already."""
        while True:
            await self._host.clock.sleep(PERIOD_S)
            await self.tick()

    async def tick(self) -> None:
        """One round. A store that cannot be asked leaves everything as it was last known."""
        store = self._host.counters
        if store is not self._store:
            # At start, and where a reload brings another store: what the one before it said holds no longer.
            self._store, self.leading = store, False
            for trial in self.trials:
                trial.log.forget()
        try:
            await self._lead(store)
            for trial in self.trials:
                await self._step(store, trial)
            await self._refresh(store)
        except ServiceError as error:
            if self.reachable:
                log.warning("canary_store_unreachable error=%s", type(error).__name__)
            self.reachable = False
        else:
            self.reachable = True

    async def _step(self, store: CounterStore, trial: Trial) -> None:
        await self.hand_in(store, trial)
        if await trial.log.follow(store) or trial.state is None:
            await self._begin(store, trial)
        self._share.set(trial.percent / 100, (trial.name,))
        if not (self.leading and trial.measuring):
            return
        state = trial.state
        assert state is not None
        now = self._host.clock.now()
        following = judged(trial.experiment, state, await self.weigh(store, trial), now)
        if following is not None:
            await self._move(store, trial, following)

    async def _begin(self, store: CounterStore, trial: Trial) -> None:
        if trial.state is None:
            first = begin(trial.experiment.plan, self._host.clock.now())
            if not await self._move(store, trial, first):
                await trial.log.follow(store)
        trial.apply()

    async def _move(self, store: CounterStore, trial: Trial, state: State) -> bool:
        if not await trial.log.append(store, state):
            return False
        trial.apply()
        self._share.set(trial.percent / 100, (trial.name,))
        event = state.history[-1]
        self._transitions.inc((trial.name, event.to, event.reason))
        log.info(
            "canary_moved experiment=%s to=%s reason=%s detail=%s",
            trial.name,
            event.to,
            event.reason,
            event.detail,
        )
        return True

    async def hand_in(self, store: CounterStore, trial: Trial) -> None:
        """Adds what was measured here to the sums of all; a batch whose fate is not known is never counted twice."""
        if trial.measuring and (batch := trial.batch.taken()):
            trial.sums = await store.tally(trial.sums_key(), batch, SUMS_TTL_S)

    async def weigh(self, store: CounterStore, trial: Trial) -> Report:
        """What all processes together have measured in this stage."""
        trial.sums = await store.tally(trial.sums_key(), {}, SUMS_TTL_S)
        return self.known(trial)

    def known(self, trial: Trial) -> Report:
        """What was measured in this stage, as far as it is known here."""
        state = trial.state
        return compare(trial.experiment, trial.sums, state.stage if state is not None else 0)

    async def command(self, trial: Trial, verb: str, to: float | None = None) -> State:
        """Moves an experiment by an operator's word.

        Raises:
            NotPossible: it does not fit the state.
            ServiceError: the store cannot be asked.
        """
        for _ in range(_TRIES):
            store = self._host.counters
            await trial.log.follow(store)
            trial.apply()
            if trial.state is None:
                raise NotPossible("it has not begun yet")
            plan = trial.experiment.plan
            state = commanded(plan, trial.state, verb, self._host.clock.now(), to)
            if await self._move(store, trial, state):
                return state
        raise Busy("others are moving this experiment at the same time")

    async def _lead(self, store: CounterStore) -> None:
        """Holds the lease: where two hold it for a moment, only one of them can move an experiment on."""
        if self.leading:
            (holder,) = await store.get([self._lease])
            self.leading = holder == self._me
            if self.leading:
                await store.put(self._lease, self._me, LEASE_S)
        if not self.leading:
            self.leading = await store.put(self._lease, self._me, LEASE_S, only_new=True)

    async def _refresh(self, store: CounterStore) -> None:
        now = self._host.clock.monotonic()
        if now - self._refreshed >= REFRESH_S:
            self._refreshed = now
            for trial in self.trials:
                await trial.log.refresh(store)

    async def close(self) -> None:
        """Hands in what is left and lets go of the lease."""
        store = self._host.counters
        try:
            for trial in self.trials:
                await self.hand_in(store, trial)
            if self.leading:
                await store.remove(self._lease, self._me)
        except ServiceError:
            log.warning("canary_samples_lost")

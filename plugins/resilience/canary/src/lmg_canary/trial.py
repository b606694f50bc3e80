"""An experiment at work in one process: what its hooks read, and the sums that they add to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from lmg import Target

from .assignment import Places, threshold_of
from .config import Experiment
from .measures import Batch
from .plan import State, percent_of
from .statelog import StateLog
from .targets import Named

__all__ = ["Assigned", "Copy", "Trial"]


class Trial:
    """One experiment. ``live`` is whether it decides about requests at all, ``threshold`` which places get the canary
    (``split`` where some do and some do not), ``measuring`` whether the arms are compared.
    """

    def __init__(self, experiment: Experiment, component: str) -> None:
        self.experiment = experiment
        self.name = experiment.name
        self.fingerprint = fingerprint_of(experiment)
        # Another configuration is another experiment: it begins anew, and replicas that have not reloaded yet go on.
        self.key = f"{component}:{experiment.name}:{self.fingerprint}"
        self.log = StateLog(self.key)
        self.places = Places(experiment.name, experiment.by)
        self.canary = Named(experiment.canary)
        self.baseline = Named(experiment.baseline) if experiment.baseline is not None else None
        self.weighs_cost = experiment.limits.max_cost_ratio is not None
        self.weighs_risk = experiment.limits.max_signal_increase is not None
        self.headers: Mapping[bool, bytes] = {
            on_canary: f"{experiment.name}={'canary' if on_canary else 'baseline'}".encode()
            for on_canary in (True, False)
        }
        self.live = False
        self.measuring = False
        self.split = False
        self.threshold = 0
        self.epoch = 0
        self.unserved = False
        self.batch = Batch()
        self.sums: Mapping[str, int] = {}

    @property
    def state(self) -> State | None:
        """The newest state that is known."""
        return self.log.state

    @property
    def percent(self) -> float:
        """The share that gets the canary, in percent; 0 while no state is known."""
        state = self.log.state
        return percent_of(self.experiment.plan, state) if state is not None else 0.0

    def apply(self) -> None:
        """Takes up the newest state: hooks see it from now on. Samples of an older epoch are forgotten."""
        state = self.log.state
        self.live = state is not None and state.status in ("running", "paused", "promoted")
        self.measuring = state is not None and state.status in ("running", "paused")
        self.threshold = threshold_of(self.percent)
        self.split = 0 < self.percent < 100
        epoch = state.epoch if state is not None else 0
        if epoch != self.epoch:
            self.epoch, self.sums = epoch, {}
            self.batch.clear()

    def sums_key(self) -> str:
        """Where the sums of this epoch are kept."""
        return f"{self.key}:sums:{self.epoch}"


@dataclass(slots=True)
class Copy:
    """A mirrored request; ``spent`` is its cost in nano-dollars, None while that is not known."""

    spent: int | None = None
    measured: bool = False


@dataclass(slots=True)
class Assigned:
    """What ``on_route`` has decided about an exchange, and what has been measured of it since."""

    trial: Trial
    epoch: int
    on_canary: bool
    forced: bool
    canary: tuple[Target, ...]
    measured: bool = False
    answered: bool = False
    copy: Copy | None = None


def fingerprint_of(experiment: Experiment) -> str:
    """A digest of all that an experiment's configuration says."""
    return hashlib.sha256(
        orjson.dumps(experiment.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS)
    ).hexdigest()[:16]

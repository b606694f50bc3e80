"""What operators see of the experiments, and what they may do: the routes under ``/admin/v1/canary/``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from math import isfinite
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from lmg import AdminCall, AdminRoute, Host, Refusal, ServiceError

from .comparison import Report
from .keeper import Keeper
from .plan import NotPossible, State, waits_for
from .trial import Trial

__all__ = ["Admin"]

VERBS = ("promote", "abort", "pause", "resume", "restart")
Handler = Callable[[AdminCall], Awaitable[Any]]


class _Named(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    experiment: str | None = Field(None, max_length=256)


class _Promote(_Named):
    to: float | None = Field(None, description="A percentage of the traffic.")


class Admin:
    """``GET experiments`` (``?experiment=<name>``), and ``POST promote|abort|pause|resume|restart``
    (``{"experiment": <name>, "to": <percent>}``; the name may be left out where there is one experiment).
    """

    def __init__(self, keeper: Keeper, host: Host) -> None:
        self._keeper = keeper
        self._host = host

    def routes(self) -> list[AdminRoute]:
        """The routes of the component."""
        return [
            AdminRoute("GET", "experiments", self._list),
            *(
                AdminRoute("POST", verb, self._command(verb), _Promote if verb == "promote" else _Named)
                for verb in VERBS
            ),
        ]

    async def _list(self, call: AdminCall) -> dict[str, Any]:
        name = call.query.get("experiment")
        trials = self._keeper.trials if name is None else [self._named(name)]
        return {"experiments": [await self._shown(trial) for trial in trials]}

    def _command(self, verb: str) -> Handler:
        async def handle(call: AdminCall) -> dict[str, Any]:
            asked: _Named = call.body
            trial = self._named(asked.experiment)
            try:
                await self._keeper.command(trial, verb, asked.to if isinstance(asked, _Promote) else None)
            except NotPossible as error:
                raise Refusal(409, "not_possible", f"{trial.name} cannot {verb}: {error}.") from error
            except ServiceError as error:
                raise Refusal(
                    503,
                    "store_unreachable",
                    "The counter store cannot be asked; nothing is known to have changed.",
                    type="server_error",
                ) from error
            return {"experiments": [await self._shown(trial)]}

        return handle

    def _named(self, name: str | None) -> Trial:
        trials = self._keeper.trials
        if name is None and len(trials) == 1:
            return trials[0]
        for trial in trials:
            if trial.name == name:
                return trial
        known = ", ".join(trial.name for trial in trials)
        if name is None:
            raise Refusal(
                400, "invalid_request", f"Name one of the experiments: {known}.", param="experiment"
            )
        raise Refusal(404, "no_such_experiment", f"The experiments are: {known}.", param="experiment")

    async def _shown(self, trial: Trial) -> dict[str, Any]:
        keeper, store = self._keeper, self._host.counters
        reachable = True
        try:
            await trial.log.follow(store)
            trial.apply()
            await keeper.hand_in(store, trial)
            found = await keeper.weigh(store, trial)
        except ServiceError:
            reachable, found = False, keeper.known(trial)
        return {**_experiment(trial, found, self._host.clock.now()), "store_reachable": reachable}


def _experiment(trial: Trial, found: Report, now: float) -> dict[str, Any]:
    experiment, state = trial.experiment, trial.state
    return {
        "name": trial.name,
        "fingerprint": trial.fingerprint,
        "model": experiment.model,
        "baseline": experiment.baseline,
        "canary": experiment.canary,
        "status": state.status if state is not None else "unknown",
        "percent": trial.percent,
        "stages": [stage.percent for stage in experiment.plan],
        "stage": state.stage if state is not None else None,
        "since": state.since if state is not None else None,
        "samples": {"baseline": found.baseline, "canary": found.canary, "mirrored": found.mirrored},
        "findings": [
            {
                key: value if not isinstance(value, float) or isfinite(value) else None
                for key, value in one._asdict().items()
            }
            for one in found.findings
        ],
        "waits_for": list(waits_for(experiment, state, found, now)) if state is not None else [],
        "history": _history(state),
        "unserved": trial.unserved,
    }


def _history(state: State | None) -> list[dict[str, Any]]:
    events = state.history if state is not None else ()
    return [
        {"at": event.at, "to": event.to, "reason": event.reason, "detail": event.detail} for event in events
    ]

"""Every move of an experiment, and none that is not one."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmg_canary.comparison import Finding, Report
from lmg_canary.config import Experiment
from lmg_canary.plan import MAX_HISTORY, NotPossible, State, begin, commanded, judged, percent_of, waits_for

T0 = 1_800_000_000.0
MINUTES = 60.0


def experiment(**settings: Any) -> Experiment:
    return Experiment.model_validate({"name": "t", "model": "*", "canary": "b", **settings})


def report(
    state: Literal["within", "beyond", "open", "unseen", "unpriced"] = "within", n: int = 1000
) -> Report:
    return Report(n, n, 0, (Finding("error_rate", 0.01, 0.02, 0.0, 0.015, 0.02, state),))


DEFAULT = experiment()


def test_an_experiment_goes_through_its_stages_to_the_end() -> None:
    now, state = T0, begin(DEFAULT.plan, T0)
    shares = [percent_of(DEFAULT.plan, state)]
    while state.status == "running":
        assert judged(DEFAULT, state, report(), now) is None, "a stage lasts its minutes"
        now += 10 * MINUTES
        following = judged(DEFAULT, state, report(), now)
        assert following is not None
        assert following.epoch == state.epoch + 1, "samples begin anew with a stage"
        assert following.since == now
        state = following
        shares.append(percent_of(DEFAULT.plan, state))
    assert shares == [1, 5, 25, 100]
    assert state.status == "promoted"
    assert [event.to for event in state.history] == ["1", "5", "25", "promoted"]
    assert [event.reason for event in state.history] == ["start", "evidence", "evidence", "evidence"]
    assert judged(DEFAULT, state, report("beyond"), now + 999) is None, "what is over is over"


@pytest.mark.parametrize(
    ("evidence", "later", "missing"),
    [
        (report(), 9, ["1.0 more minutes"]),
        (report(n=150), 10, ["50 more requests of the baseline", "50 more requests of the canary"]),
        (
            report("open"),
            10,
            ["certainty about error_rate: by up to +1.50%, limit +2.00%"],
        ),
        (report("unpriced"), 10, ["prices of both arms"]),
        (report("unseen"), 10, []),
        (report(), 10, []),
    ],
)
def test_what_a_stage_waits_for(evidence: Report, later: float, missing: list[str]) -> None:
    state = begin(DEFAULT.plan, T0)
    now = T0 + later * MINUTES
    assert list(waits_for(DEFAULT, state, evidence, now)) == missing
    assert (judged(DEFAULT, state, evidence, now) is None) is bool(missing)


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_harm_rolls_back_from_every_stage_at_once(stage: int) -> None:
    state = State("running", stage, T0, 3)
    gone = judged(DEFAULT, state, report("beyond", n=5), T0 + 1)
    assert gone is not None
    assert (gone.status, percent_of(DEFAULT.plan, gone)) == ("rolled_back", 0.0)
    assert (gone.history[-1].reason, gone.history[-1].to) == ("error_rate", "rolled_back")
    assert "2.00% against 1.00%" in gone.history[-1].detail
    assert judged(DEFAULT, gone, report(), T0 + 9999) is None


def test_harm_can_ask_for_an_operator_instead() -> None:
    of = experiment(on_fail="pause")
    paused = judged(of, State("running", 1, T0, 3), report("beyond"), T0 + 1)
    assert paused is not None
    assert (paused.status, percent_of(of.plan, paused)) == ("paused", 5.0)
    assert judged(of, paused, report("beyond"), T0 + 2) is None
    resumed = commanded(of.plan, paused, "resume", T0 + 3)
    assert (resumed.status, resumed.stage, resumed.epoch) == ("running", 1, paused.epoch + 1)


def test_a_paused_experiment_is_not_promoted_but_rolled_back() -> None:
    paused = commanded(DEFAULT.plan, begin(DEFAULT.plan, T0), "pause", T0 + 1)
    assert judged(DEFAULT, paused, report(), T0 + 9999) is None
    assert waits_for(DEFAULT, paused, report(), T0 + 9999) == ("an operator to resume or promote it",)
    gone = judged(DEFAULT, paused, report("beyond"), T0 + 9999)
    assert gone is not None
    assert gone.status == "rolled_back"


def test_a_plan_may_end_below_a_hundred() -> None:
    of = experiment(plan=[10, 50])
    last = State("running", 1, T0, 2)
    assert judged(of, last, report(), T0 + 9999) is None
    assert waits_for(of, last, report(), T0) == ()
    assert judged(of, last, report("beyond"), T0 + 9999) is not None, "it is watched for ever"
    assert commanded(of.plan, last, "promote", T0).status == "promoted"


def test_a_plan_of_one_hundred_is_promoted_at_once() -> None:
    assert begin(experiment(plan=[100]).plan, T0).status == "promoted"


@pytest.mark.parametrize(
    ("status", "verb", "to", "after"),
    [
        ("running", "promote", None, ("running", 25.0)),
        ("running", "promote", 25.0, ("running", 25.0)),
        ("running", "promote", 100.0, ("promoted", 100.0)),
        ("running", "promote", 1.0, "the stages above are 25, 100 percent"),
        ("running", "promote", 30.0, "the stages above are 25, 100 percent"),
        ("paused", "promote", None, ("running", 25.0)),
        ("running", "abort", None, ("aborted", 0.0)),
        ("paused", "abort", None, ("aborted", 0.0)),
        ("promoted", "abort", None, ("aborted", 0.0)),
        ("aborted", "abort", None, "it is aborted already: nobody gets the canary"),
        ("rolled_back", "abort", None, "it is rolled_back already: nobody gets the canary"),
        ("running", "pause", None, ("paused", 5.0)),
        ("paused", "pause", None, "it is paused already"),
        ("paused", "resume", None, ("running", 5.0)),
        ("running", "resume", None, "it is running already"),
        ("aborted", "promote", None, "it is aborted: restart it first"),
        ("rolled_back", "resume", None, "it is rolled_back: restart it first"),
        ("promoted", "pause", None, "it is promoted: restart it first"),
        ("rolled_back", "restart", None, ("running", 1.0)),
        ("promoted", "restart", None, ("running", 1.0)),
        ("running", "restart", None, ("running", 1.0)),
    ],
)
def test_what_operators_may_do(
    status: Any, verb: str, to: float | None, after: tuple[str, float] | str
) -> None:
    before = State(status, 1, T0, 7)
    if isinstance(after, str):
        with pytest.raises(NotPossible, match=f"^{after}$"):
            commanded(DEFAULT.plan, before, verb, T0 + 5, to)
        return
    state = commanded(DEFAULT.plan, before, verb, T0 + 5, to)
    assert (state.status, percent_of(DEFAULT.plan, state)) == after
    assert state.history[-1].reason == "operator"
    assert state.epoch >= before.epoch
    if verb != "abort" and verb != "pause":
        assert state.epoch > before.epoch


VERBS = st.sampled_from(["promote", "abort", "pause", "resume", "restart", "good", "bad", "unsure"])


@given(st.lists(VERBS, max_size=120))
def test_whatever_happens_the_share_never_rises_but_by_a_promotion(verbs: list[str]) -> None:
    state, now = begin(DEFAULT.plan, T0), T0
    for verb in verbs:
        now += 11 * MINUTES
        before = state
        if verb in ("good", "bad", "unsure"):
            words: dict[str, Any] = {"good": "within", "bad": "beyond", "unsure": "open"}
            state = judged(DEFAULT, state, report(words[verb]), now) or state
        else:
            try:
                state = commanded(DEFAULT.plan, state, verb, now)
            except NotPossible:
                assert state is before
        old, new = percent_of(DEFAULT.plan, before), percent_of(DEFAULT.plan, state)
        if new > old:
            assert verb in ("promote", "good", "restart")
        if verb in ("bad", "abort") and before.status != "promoted":
            assert new == 0
        assert len(state.history) <= MAX_HISTORY
        assert state.epoch >= before.epoch
        if (state.stage, state.since) != (before.stage, before.since):
            assert state.epoch > before.epoch, "no sample is counted in two stages"

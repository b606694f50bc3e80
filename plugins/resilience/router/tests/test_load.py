"""What attempts tell of a target, and that it stays bounded."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lmg import Attempt, Outcome, Target, UpstreamError, Usage
from lmg.jsontext import JsonText
from lmg_router.cards import Cards
from lmg_router.load import Load, PeakEwma
from lmg_router.patterns import Patterns

SECONDS = st.floats(0, 1000, allow_nan=False)
M = Target("p", "m", "m")


def attempt(*, stream: bool = False) -> Attempt:
    made = Attempt(M, 1, JsonText.of({}), 0.0, 60.0)
    made.stream = stream
    return made


def complete(whole_s: float, tokens: int, first_s: float | None = None) -> Outcome:
    return Outcome("complete", first_token_s=first_s, duration_s=whole_s, usage=Usage(output_tokens=tokens))


@given(st.lists(st.tuples(SECONDS, SECONDS), min_size=1, max_size=30))
def test_an_average_lies_between_its_samples_and_never_below_the_last_peak_at_once(
    steps: list[tuple[float, float]],
) -> None:
    average, now, seen = PeakEwma(10.0), 0.0, []
    for wait, sample in steps:
        now += wait
        average.observe(sample, now)
        seen.append(sample)
        assert min(seen) - 1e-9 <= average.value <= max(seen) + 1e-9
        assert average.read(now) >= sample - 1e-9


@given(SECONDS, SECONDS, SECONDS)
def test_reading_decays_and_changes_nothing(sample: float, wait: float, more: float) -> None:
    average = PeakEwma(10.0)
    average.observe(sample, 0.0)
    later = average.read(wait)
    assert later == average.read(wait)
    assert math.isclose(later, sample * math.exp(-wait / 10), abs_tol=1e-12)
    assert average.read(wait + more) <= later


def test_a_clock_that_runs_backwards_counts_as_one_that_stands_still() -> None:
    average = PeakEwma(10.0)
    average.observe(4.0, 100.0)
    average.observe(1.0, 50.0)
    assert average.read(0.0) == average.value == 4.0


def test_a_stream_tells_first_token_and_the_time_of_each_apart() -> None:
    load = Load(10.0, 1.0)
    load.observe(attempt(stream=True), complete(3.0, 100, first_s=1.0), 0.0)
    assert load.seconds(100, 0.0) == (1.0, 2.0)


def test_a_whole_answer_takes_as_long_as_an_answer_of_its_length_did() -> None:
    load = Load(10.0, 1.0)
    load.observe(attempt(), complete(3.0, 100, first_s=3.0), 0.0)
    assert load.score(100, 0.0) == 3.0
    assert load.score(50, 0.0) == 1.5


def test_a_short_whole_answer_says_nothing_of_the_time_of_a_token() -> None:
    load = Load(10.0, 1.0)
    load.observe(attempt(), complete(2.0, 1, first_s=2.0), 0.0)
    assert load.seconds(1000, 0.0) == (2.0, 0.0)


def test_an_announced_wait_counts_up_to_a_bound() -> None:
    def penalised(reset_s: float | None) -> float:
        load = Load(10.0, 5.0)
        error = UpstreamError("status", "rate_limited", "429")
        load.observe(attempt(), Outcome("failed", error, 429, reset_after_s=reset_s), 0.0)
        return load.seconds(0, 0.0)[0]

    assert (penalised(None), penalised(60.0), penalised(1e9)) == (5.0, 60.0, 300.0)


@given(st.lists(st.integers(0, 10**12), max_size=30))
def test_the_mean_length_of_answers_is_bounded(lengths: list[int]) -> None:
    load = Load(10.0, 1.0)
    for tokens in lengths:
        load.observe(attempt(), complete(1.0, tokens), 0.0)
    assert 0 <= load.output_tokens <= 1_000_000


OUTCOMES = st.sampled_from(
    [
        complete(1.0, 5),
        Outcome("cancelled"),
        Outcome("skipped", skip_reason="open"),
        Outcome("failed", UpstreamError("status", "overloaded", "503")),
        None,
    ]
)


@given(st.lists(OUTCOMES, max_size=20))
async def test_attempts_under_way_are_counted_until_each_has_ended_however(
    ends: list[Outcome | None],
) -> None:
    from lmg import Exchange, Head, Host
    from lmg.dialects.registry import PLAIN
    from lmg_router import Router

    class _Pipeline:
        deadline_s = 60.0
        plan = None

    host = Host()
    router = Router(Router.Config(), host, "router")
    head = Head("POST", "/", [])
    exchange = Exchange(host, _Pipeline(), head, "chat", PLAIN, "id")
    around = [router.on_attempt(exchange, attempt()) for _ in ends]
    for one in around:
        next(one)
    [card] = router._cards or [None]
    for left, (one, outcome) in enumerate(zip(around, ends, strict=True)):
        assert card is not None and card.load.pending == len(ends) - left
        if outcome is None:
            one.close()
            continue
        try:
            one.send(outcome)
        except StopIteration:
            continue
        raise AssertionError("it yielded twice")
    assert card is None or card.load.pending == 0


def cards(bound: int) -> Cards:
    return Cards(Patterns({}), Patterns({}), tau_s=10.0, penalty_s=1.0, bound=bound)


def test_names_that_callers_make_up_push_out_nothing_that_was_learned() -> None:
    kept = cards(50)
    known = kept.of(M)
    known.load.observe(attempt(), complete(1.0, 5), 0.0)
    busy = kept.of(Target("p", "busy", "busy"))
    busy.load.pending = 1
    for n in range(5_000):
        kept.of(Target("p", f"made-up-{n}", "x"))
        assert len(kept) <= 50
    assert kept.of(M) is known
    assert kept.of(Target("p", "busy", "busy")) is busy


def test_the_bound_holds_when_all_are_busy_or_measured() -> None:
    kept: Any = cards(50)
    for n in range(500):
        card = kept.of(Target("p", f"m{n}", "x"))
        card.load.measured, card.load.pending = n % 2 == 0, n % 3
    assert len(kept) <= 50


def test_what_was_learned_of_a_target_stays_when_its_facts_change() -> None:
    kept = cards(50)
    before = kept.of(M)
    again = kept.of(Target("p", "m", "m", priority=7))
    assert again is not before and again.load is before.load
    assert kept.of(Target("p", "m", "m", priority=7)) is again


def test_a_name_that_no_header_can_carry_is_made_one_that_can() -> None:
    card = cards(5).of(Target("p", "m\r\nset-cookie: a=b é", "m"))
    assert card.header == b"p:m??set-cookie:?a=b??"

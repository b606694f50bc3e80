"""The filter that holds: for every sequence of events and every bound, all leave, once and in order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lmg import StreamEvent
from lmg.dialects.openai_chat import OpenAIChat
from lmg.sse import SseEvent
from lmg_stream_rescue.holding import HeldAnswer, HeldMemory, weight_of

DIALECT = OpenAIChat()
SIZES = st.lists(st.integers(1, 400), max_size=40)


def event(size: int) -> StreamEvent:
    return StreamEvent(DIALECT, SseEvent(b"x" * size, b"x" * size), "delta")


def no_matter() -> None:
    return None


@given(SIZES, st.integers(1, 20_000), st.integers(1, 20_000), st.integers(0, 19_000))
def test_every_event_leaves_once_and_in_order_and_no_memory_stays(
    sizes: list[int], limit: int, total: int, taken: int
) -> None:
    memory = HeldMemory(total)
    memory.used = min(taken, total)
    before = memory.used
    told: list[int] = []
    answer = HeldAnswer(memory, limit, lambda: told.append(1), clock=lambda: 0.0)
    events = [event(size) for size in sizes]
    out: list[StreamEvent] = []
    for one in events:
        out += answer.feed(one)
        assert memory.used <= memory.limit
        assert memory.used - before <= limit
    out += answer.finish()
    answer.close()
    assert out == events
    assert memory.used == before
    held = sum(map(weight_of, events))
    assert len(told) == (held > limit or before + held > total)


def test_nothing_leaves_while_it_fits() -> None:
    answer = HeldAnswer(HeldMemory(10_000), 10_000, no_matter, clock=lambda: 0.0)
    events = [event(10), event(20)]
    assert [list(answer.feed(one)) for one in events] == [[], []]
    assert answer.finish() == events


def test_what_all_hold_together_is_bounded_too() -> None:
    memory = HeldMemory(weight_of(event(100)) * 2)
    first, second = (HeldAnswer(memory, 10**6, no_matter, clock=lambda: 0.0) for _ in range(2))
    assert not first.feed(event(100)) and not second.feed(event(100))
    third = event(100)
    assert len(second.feed(third)) == 2, "the one that does not fit lets go of what it holds"
    assert memory.used == weight_of(third)
    assert not first.feed(event(100)), "and the others go on in its place"
    assert list(second.feed(third)) == [third]


def test_an_answer_that_was_let_go_is_not_timed_again() -> None:
    now = [0.0]
    told: list[int] = []
    answer = HeldAnswer(HeldMemory(10_000), 10_000, lambda: told.append(1), clock=lambda: now[0], until=1.0)
    assert not answer.feed(event(1))
    now[0] = 1.0
    assert len(answer.feed(event(1))) == 2
    assert len(answer.feed(event(1))) == 1
    assert told == [1]

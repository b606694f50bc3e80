"""What is reserved: an upper bound of the input, and the cap of the answer that is also sent."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmg import Usage
from lmg_rate_limit import WeightedTokens
from lmg_rate_limit.measures import INPUT, OUTPUT, TOTAL, Measure, measure_of

from .conftest import inside

COUNTS = st.integers(0, 10**7)
MEASURES = st.sampled_from([TOTAL, INPUT, OUTPUT]) | st.builds(
    lambda i, c, o: measure_of(
        "weighted_tokens", WeightedTokens(limit="1/s", input=i, cached=i * c, output=o)
    ),
    st.floats(0.01, 50),
    st.floats(0, 1),
    st.floats(0.01, 50),
)


@given(MEASURES, COUNTS, COUNTS, COUNTS, st.floats(0, 1), st.floats(0, 1))
def test_nothing_within_the_bounds_counts_more_than_was_reserved(
    measure: Measure, input: int, output: int, cached: int, less: float, shorter: float
) -> None:
    used = Usage(int(input * less), int(output * shorter), cached, estimated=False)
    assert 0 <= measure.used(used) <= measure.reserve(input, output)


@given(MEASURES, st.integers(1, 10**7), COUNTS)
def test_what_has_room_fits(measure: Measure, capacity: int, input: int) -> None:
    room = measure.room(capacity, input)
    if room >= 0:
        assert measure.reserve(input, int(min(room, 10**9))) <= capacity
    else:
        assert measure.reserve(input, 0) > capacity


def test_cached_tokens_weigh_as_they_are_told() -> None:
    measure = measure_of("weighted_tokens", WeightedTokens(limit="1M/min", input=1, cached=0.1, output=4))
    assert measure is not None
    assert measure.used(Usage(1000, 100, 900, estimated=False)) == 100 + 90 + 400
    assert measure.used(Usage(10, 0, 50)) == 1


async def held(settings: dict[str, Any], **fields: Any) -> tuple[int, dict[str, Any]]:
    """What one request holds of its tokens, and what is sent upstream."""
    async with inside(settings) as there:
        asked = there.ask(**fields)
        await there.turn()
        assert there.calls, asked.answer
        return next(n for key, (_, n) in there.buckets().items() if "tokens" in key), there.calls[0].body


async def test_the_cap_that_the_client_states_is_reserved_for_every_choice() -> None:
    one, sent = await held({"output_tokens": "100k/min"}, max_tokens=100)
    assert (one, sent["max_tokens"]) == (100, 100)
    assert (await held({"output_tokens": "100k/min"}, max_completion_tokens=70, n=3))[0] == 210
    assert (await held({"output_tokens": "100k/min"}, max_completion_tokens=70, max_tokens=90))[0] == 90


async def test_a_cap_in_a_field_that_the_upstream_does_not_know_is_none() -> None:
    one, sent = await held({"output_tokens": "100k/min", "default_output_tokens": 500}, max_output_tokens=1)
    assert (one, sent["max_tokens"]) == (500, 500)


async def test_where_the_client_states_none_the_default_is_reserved_and_sent() -> None:
    one, sent = await held({"output_tokens": "100k/min", "default_output_tokens": 500})
    assert (one, sent["max_tokens"]) == (500, 500)


async def test_a_default_leaves_room_for_others_in_a_small_limit() -> None:
    one, sent = await held({"output_tokens": "1000/min"})
    assert (one, sent["max_tokens"]) == (250, 250)
    choices, sent = await held({"output_tokens": "1000/min"}, n=3)
    assert (choices, sent["max_tokens"]) == (249, 83)


async def test_a_default_that_is_more_than_the_limit_has_is_shortened_to_it() -> None:
    one, sent = await held({"tokens": "1000/min", "default_output_tokens": 5000})
    assert one == 1000
    assert 900 < sent["max_tokens"] < 1000
    one, sent = await held({"tokens": "1000/min"}, text="x" * 850)
    assert one == 1000
    assert 0 < sent["max_tokens"] < 100


async def test_input_is_reserved_by_its_bytes_which_no_count_of_tokens_exceeds() -> None:
    text = "äöü 漢字 " * 500
    bound, _ = await held({"input_tokens": "1M/min"}, text=text)
    assert len(text.encode()) <= bound <= len(text.encode()) + 100
    likely, _ = await held({"input_tokens": "1M/min", "reserve": "estimate"}, text=text)
    assert bound / 5 < likely < bound / 3


async def test_an_image_is_reserved_by_a_stated_number_and_not_by_its_bytes() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}
    content = [{"type": "text", "text": "What is this?"}, picture]
    bound, _ = await held(
        {"input_tokens": "1M/min", "opaque_tokens": 700}, messages=[{"role": "user", "content": content}]
    )
    assert 700 < bound < 800
    small = [{"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}]
    bound, _ = await held(
        {"input_tokens": "1M/min", "opaque_tokens": 7000}, messages=[{"role": "user", "content": small}]
    )
    assert bound >= 7000


async def test_a_text_of_token_ids_is_as_long_as_it_is() -> None:
    async with inside({"input_tokens": "1M/min"}) as there:
        there.ask(path="/v1/embeddings", input=list(range(4000)), messages=None)
        await there.turn()
        ((_, tokens),) = there.buckets().values()
        assert 4000 <= tokens < 4100


async def test_counting_tokens_uses_none() -> None:
    async with inside({"tokens": "10/min", "requests": "5/min"}) as there:
        asked = there.ask(path="/v1/messages/count_tokens", max_tokens=5)
        await there.turn()
        assert asked.status == 200, asked.answer
        assert json.loads(asked.answer.raw)["input_tokens"] > 0  # type: ignore[union-attr]
        assert list(there.buckets().values()) == [(0.0, 0)]


@pytest.mark.parametrize("kind", ["tokens", "input_tokens", "output_tokens"])
async def test_more_than_a_limit_ever_has_is_refused_for_good(kind: str) -> None:
    async with inside({kind: "300/min", "concurrency": 5}) as there:
        asked = there.ask(text="x" * 400, max_tokens=400)
        await there.turn()
        answer = asked.answer
        assert answer is not None and answer.status == 429
        assert answer.error["code"] == "request_too_large_for_limit"
        assert answer.error["type"] == "rate_limit_error"
        assert "300" in answer.error["message"] and "per minute" in answer.error["message"]
        assert answer.headers["x-should-retry"] == "false"
        assert "retry-after" not in answer.headers
        assert not there.buckets() and not there.calls

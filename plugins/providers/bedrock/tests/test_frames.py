"""Frames of a stream, cut anywhere and damaged anyhow."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmg.dialects.form import (
    Choice,
    Completion,
    End,
    FormEvent,
    Reasoning,
    Text,
    ToolCall,
    completion_of,
)
from lmg.dialects.openai_chat import OpenAIChat
from lmg.errors import UpstreamError
from lmg.records import Usage
from lmg.sse import EventSplitter
from lmg.testing.wires import check_split_points, decoded
from lmg_bedrock import ConverseWire
from lmg_bedrock.families import CLAUDE
from lmg_bedrock.frames import EventFrames, FrameReader

WIRE = ConverseWire(CLAUDE)


CACHED = {
    "inputTokens": 4,
    "outputTokens": 9,
    "totalTokens": 1477,
    "cacheReadInputTokens": 1400,
    "cacheWriteInputTokens": 64,
}


def sse_of(frames: Sequence[bytes]) -> list[bytes]:
    """The server-sent events that frames become."""
    events, fault = FrameReader().feed(b"".join(frames))
    if fault is not None:
        raise fault
    return events


class Chunks:
    """A response whose body comes in ``pieces``."""

    status = 200
    headers: list[tuple[bytes, bytes]] = []
    is_event_stream = False

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = iter(pieces)
        self.closed = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            return next(self._pieces)
        except StopIteration:
            raise StopAsyncIteration from None

    async def read(self) -> bytes:
        raise AssertionError("a stream is not read whole")

    async def aclose(self) -> None:
        self.closed = True


async def events_of(pieces: Sequence[bytes], opening: bytes = b"") -> tuple[list[bytes], Exception | None]:
    """The chunks out for ``pieces`` in, and how they ended."""
    out: list[bytes] = []
    frames = EventFrames(Chunks(pieces), opening)
    try:
        async for chunk in frames:
            out.append(chunk)
    except UpstreamError as error:
        return out, error
    return out, None


@pytest.fixture(scope="session")
def rich(kit: Any) -> list[bytes]:
    """A stream with thoughts, text, citations, calls in parallel and events that the API may learn."""
    secret = base64.b64encode(b"redacted in two pieces").decode()
    halves = [base64.b64encode(part).decode() for part in (b"redacted in t", b"wo pieces")]
    assert "".join(halves) != secret
    return [
        kit.event("messageStart", {"role": "assistant"}),
        kit.delta(0, reasoningContent={"text": "Let me "}),
        kit.delta(0, reasoningContent={"text": "see €."}),
        kit.delta(0, reasoningContent={"signature": "c2lnbmVk"}),
        kit.block_stop(0),
        kit.delta(1, reasoningContent={"redactedContent": halves[0]}),
        kit.delta(1, reasoningContent={"redactedContent": halves[1]}),
        kit.block_stop(1),
        kit.delta(2, text=""),
        kit.delta(2, text="Günther "),
        kit.delta(2, text="says\n🎈"),
        kit.delta(2, citation={"title": "t", "sourceContent": [{"text": "s"}]}),
        kit.block_stop(2),
        kit.event("weather", {"new": 1}),
        kit.call_start(3, "c1", "get_weather"),
        kit.delta(3, toolUse={"input": '{"ci'}),
        kit.delta(3, toolUse={"input": 'ty":"Paris"}'}),
        kit.block_stop(3),
        kit.call_start(4, "c2", "now"),
        kit.delta(4, toolUse={"input": ""}),
        kit.block_stop(4),
        kit.event("contentBlockStart", {"contentBlockIndex": 5, "start": {"image": {"format": "png"}}}),
        kit.delta(5, image={"source": {"bytes": "AAAA"}}),
        kit.block_stop(5),
        kit.delta(6, text=""),
        kit.block_stop(6),
        *kit.ending("tool_use", CACHED),
    ]


RICH = Completion(
    "",
    "",
    [
        Choice(
            [
                Reasoning("Let me see €.", "c2lnbmVk"),
                Reasoning(encrypted=base64.b64encode(b"redacted in two pieces").decode()),
                Text("Günther says\n🎈", citations=[{"title": "t", "sourceContent": [{"text": "s"}]}]),
                ToolCall("c1", "get_weather", '{"city":"Paris"}'),
                ToolCall("c2", "now", "{}"),
            ],
            "tool_calls",
        )
    ],
    Usage(1468, 9, 1400, 0, False, 64),
)


def test_a_stream_amounts_to_the_whole_answer(rich: list[bytes]) -> None:
    assert completion_of(decoded(WIRE, sse_of(rich))) == RICH


def test_the_kernel_s_own_check_of_streams_cut_anywhere_holds(rich: list[bytes]) -> None:
    events = b"".join(sse_of(rich))
    assert check_split_points(WIRE, events, [OpenAIChat()]) == RICH


def test_frames_cut_at_every_place_give_the_events_of_the_uncut_stream(kit: Any) -> None:
    stream = b"".join(kit.text_stream("Hel", "lo €"))
    whole = sse_of([stream])
    for at in range(1, len(stream)):
        reader = FrameReader()
        first, fault = reader.feed(stream[:at])
        second, other = reader.feed(stream[at:])
        assert fault is other is None
        assert first + second == whole
        assert reader.unfinished == 0


def test_frames_in_single_bytes_give_the_events_of_the_uncut_stream(rich: list[bytes]) -> None:
    reader, out = FrameReader(), []
    for n in range(len(stream := b"".join(rich))):
        events, fault = reader.feed(stream[n : n + 1])
        assert fault is None
        out += events
    assert out == sse_of(rich)


@given(data=st.data())
def test_frames_cut_anyhow_give_the_events_of_the_uncut_stream(
    rich: list[bytes], data: st.DataObject
) -> None:
    stream = b"".join(rich)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=40)))
    reader, out = FrameReader(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        events, fault = reader.feed(stream[start:end])
        assert fault is None
        out += events
    assert out == sse_of(rich)


async def test_each_read_that_completes_a_frame_is_a_chunk_at_once(kit: Any) -> None:
    frames = kit.text_stream("a", "b")
    out, error = await events_of(
        [frames[0][:5], frames[0][5:], frames[1] + frames[2], *frames[3:]], b"data: {}\n\n"
    )
    assert error is None
    assert [chunk.count(b"\n\n") for chunk in out] == [2, 2, 1, 1, 1]
    assert out[0].startswith(b"data: {}\n\nevent: messageStart\n")


async def test_closing_closes_the_response(kit: Any) -> None:
    response = Chunks(kit.text_stream("a"))
    await EventFrames(response).aclose()
    assert response.closed


def test_line_breaks_in_a_payload_do_not_break_the_event(kit: Any) -> None:
    payload = json.dumps({"contentBlockIndex": 0, "delta": {"text": "a\nb"}}, indent=1).encode()
    headers = {":event-type": "contentBlockDelta", ":message-type": "event"}
    (event,) = EventSplitter().feed(sse_of([kit.frame(headers, payload)])[0])
    assert json.loads(event.data or b"") == {"contentBlockIndex": 0, "delta": {"text": "a\nb"}}


# Damage


async def whole_or_broken(pieces: Sequence[bytes]) -> list[FormEvent]:
    """The form events of a stream that came whole; raises as the gateway would notice that it did not."""
    chunks, error = await events_of(pieces)
    events = decoded(WIRE, chunks)
    if error is not None:
        raise error
    if End() not in events:
        raise UpstreamError("stream", "closed", "no end")
    return events


async def test_no_flipped_bit_goes_unnoticed(kit: Any) -> None:
    stream = b"".join(kit.text_stream("Hello"))
    assert await whole_or_broken([stream])
    for bit in range(len(stream) * 8):
        damaged = bytearray(stream)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(UpstreamError):
            await whole_or_broken([bytes(damaged)])


async def test_no_truncation_goes_unnoticed(kit: Any) -> None:
    stream = b"".join(kit.text_stream("Hello"))
    for size in range(len(stream)):
        with pytest.raises(UpstreamError):
            await whole_or_broken([stream[:size]])


async def test_what_came_before_the_damage_is_passed_on(kit: Any) -> None:
    frames = kit.text_stream("Hel", "lo")
    damaged = bytearray(frames[2])
    damaged[-1] ^= 1
    out, error = await events_of([b"".join([*frames[:2], bytes(damaged), *frames[3:]])])
    assert isinstance(error, UpstreamError) and error.stage == "stream"
    assert b"".join(out).count(b"event: ") == 2
    assert b"Hel" in out[0] and b"messageStop" not in out[0]


@pytest.mark.parametrize("missing", ["messageStop", "metadata"])
def test_without_its_last_two_events_a_stream_has_no_end(kit: Any, missing: str) -> None:
    frames = kit.text_stream("Hi")
    del frames[{"messageStop": -2, "metadata": -1}[missing]]
    assert End() not in decoded(WIRE, sse_of(frames))


def test_the_end_is_had_once_in_whatever_order_its_events_come(kit: Any) -> None:
    frames = kit.text_stream("Hi")
    frames[-2:] = [frames[-1], frames[-2], frames[-1]]
    assert decoded(WIRE, sse_of(frames)).count(End()) == 1


def test_blocks_that_were_left_open_end_with_the_message(kit: Any) -> None:
    frames = [kit.call_start(0, "c", "f"), *kit.ending("tool_use")]
    assert completion_of(decoded(WIRE, sse_of(frames))).choices[0].parts == [ToolCall("c", "f", "{}")]


def huge_frame(size: int) -> bytes:
    from struct import pack
    from zlib import crc32

    prelude = pack("!II", size, 0)
    return prelude + pack("!I", crc32(prelude))


@pytest.mark.parametrize("size", [0, 12, 15, 9 * 2**20, 2**32 - 1])
def test_a_frame_of_an_impossible_size_is_a_fault_before_it_is_waited_for(size: int) -> None:
    events, fault = FrameReader().feed(huge_frame(size))
    assert events == [] and fault is not None


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {":message-type": "event"},
        {":message-type": "event", ":event-type": "a\nb"},
        {":message-type": "news", ":event-type": "messageStop"},
    ],
)
def test_a_frame_of_no_known_kind_is_a_fault(kit: Any, headers: dict[str, str]) -> None:
    events, fault = FrameReader().feed(kit.frame(headers, b"{}"))
    assert events == [] and isinstance(fault, UpstreamError)


@pytest.mark.parametrize(
    "frames",
    [
        ["delta text then call", "text", "call"],
        ["a call that never began", "call"],
    ],
)
def test_blocks_that_make_no_sense_are_a_fault(kit: Any, frames: list[str]) -> None:
    known = {"text": kit.delta(0, text="a"), "call": kit.delta(0, toolUse={"input": "{"})}
    with pytest.raises((UpstreamError, KeyError)):
        decoded(WIRE, sse_of([known[name] for name in frames[1:]]))

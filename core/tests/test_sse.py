"""Server-sent events: however the bytes arrive, the events and their bytes are the same."""

from __future__ import annotations

import time
from collections.abc import Iterable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lmg.errors import UpstreamError
from lmg.sse import EventSplitter, encode_event

BOM = b"\xef\xbb\xbf"

# Twenty ways to write a stream: its bytes, and the name and data of each event that carries data.
WAYS: dict[str, tuple[bytes, list[tuple[bytes, bytes]]]] = {
    "line feeds": (b"data: a\n\ndata: b\n\n", [(b"", b"a"), (b"", b"b")]),
    "carriage return and line feed": (b"data: a\r\n\r\ndata: b\r\n\r\n", [(b"", b"a"), (b"", b"b")]),
    "lone carriage returns": (b"data: a\r\rdata: b\r\r", [(b"", b"a"), (b"", b"b")]),
    "line ends mixed between events": (
        b"data: a\r\n\r\ndata: b\n\ndata: c\r\rdata: d\n\n",
        [(b"", b"a"), (b"", b"b"), (b"", b"c"), (b"", b"d")],
    ),
    "line ends mixed within events": (
        b"data: a\r\n\ndata: b\n\r\ndata: c\r\r\ndata: d\n\r",
        [(b"", b"a"), (b"", b"b"), (b"", b"c"), (b"", b"d")],
    ),
    "a byte order mark": (BOM + b"data: a\n\ndata: b\n\n", [(b"", b"a"), (b"", b"b")]),
    "a byte order mark before carriage returns": (
        BOM + b"data: a\r\n\r\n" + BOM + b"data: hidden\r\n\r\n",
        [(b"", b"a")],
    ),
    "comments": (
        b": hello\n\ndata: a\n\n: ping\n\n:\n\n: one\ndata: b\n: two\n\n",
        [(b"", b"a"), (b"", b"b")],
    ),
    "data on several lines": (
        b"data: a\ndata: b\ndata: c\n\ndata: d\r\ndata: e\r\n\r\n",
        [(b"", b"a\nb\nc"), (b"", b"d\ne")],
    ),
    "no space after the colon": (b"data:a\n\ndata:  b\n\n", [(b"", b"a"), (b"", b" b")]),
    "event, id and retry fields": (
        b"event: delta\nid: 7\nretry: 10\ndata: a\n\ndata: b\nevent:end\n\nretry: 5\n\n",
        [(b"delta", b"a"), (b"end", b"b")],
    ),
    "empty data": (b"data:\n\ndata\n\ndata: \n\ndata\ndata\n\n", [(b"", b"")] * 3 + [(b"", b"\n")]),
    "unknown fields": (b"datax: a\n\nfoo: b\ndata: c\n bar\n\n", [(b"", b"c")]),
    "colons in data": (b"data: a:b\n\ndata::\n\n", [(b"", b"a:b"), (b"", b":")]),
    "blank lines before, between and after": (
        b"\n\n\ndata: a\n\n\n\n\ndata: b\n\n\n",
        [(b"", b"a"), (b"", b"b")],
    ),
    "blank lines of carriage returns": (
        b"\r\n\r\ndata: a\r\n\r\n\r\n\r\rdata: b\r\r",
        [(b"", b"a"), (b"", b"b")],
    ),
    "letters of several bytes": (
        "data: ä€😀\n\ndata: \u2028\u0085\n\n".encode(),
        [(b"", "ä€😀".encode()), (b"", "\u2028\u0085".encode())],
    ),
    "bytes that are no text": (b"data: \xff\x00\x0b\x0c\n\n", [(b"", b"\xff\x00\x0b\x0c")]),
    "a terminal event": (
        encode_event(b'{"x":1}') + encode_event(b"[DONE]"),
        [(b"", b'{"x":1}'), (b"", b"[DONE]")],
    ),
    "an event that does not end": (b"data: a\n\ndata: lost\n", [(b"", b"a")]),
    "half a line at the end": (b"data: a\r\n\r\ndata: lo", [(b"", b"a")]),
}


def split(pieces: Iterable[bytes]) -> tuple[list[tuple[bytes, bytes]], bytes, bytes]:
    """Name and data of each event, the bytes of all of them, and what was left."""
    splitter = EventSplitter()
    events = [event for piece in pieces for event in splitter.feed(piece)] + splitter.finish()
    carried = [(event.name, event.data) for event in events if event.data is not None]
    return carried, b"".join(event.raw for event in events), splitter.rest


def cut(data: bytes, at: Iterable[int]) -> list[bytes]:
    points = [0, *sorted(at), len(data)]
    return [data[a:b] for a, b in zip(points, points[1:], strict=False)]


@pytest.mark.parametrize("way", WAYS)
def test_events_are_the_same_at_every_pair_of_cuts(way: str) -> None:
    data, events = WAYS[way]
    for first in range(len(data) + 1):
        for second in range(first, len(data) + 1):
            found, raw, rest = split(cut(data, (first, second)))
            assert found == events
            assert raw + rest == data


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("way", WAYS)
def test_events_are_the_same_in_tiny_reads(way: str, size: int) -> None:
    data, events = WAYS[way]
    found, raw, rest = split(data[n : n + size] for n in range(0, len(data), size))
    assert found == events
    assert raw + rest == data


# What a stream is made of where it is easy to go wrong.
GRAINS = st.lists(
    st.sampled_from(
        [
            b"\r",
            b"\n",
            b"\r\n",
            b"data",
            b"data:",
            b"data: ",
            b"event:x",
            b":",
            b" ",
            b"a",
            b"\xe2\x82\xac",
            BOM,
        ]
    ),
    max_size=30,
).map(b"".join)


def reference(data: bytes) -> list[tuple[bytes, bytes]]:
    """The grammar of WHATWG HTML line by line, on the whole stream at once."""
    lines = data.removeprefix(BOM).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")[:-1]
    out: list[tuple[bytes, bytes]] = []
    name, values = b"", []
    for line in lines:
        if not line:
            if values:
                out.append((name, b"\n".join(values)))
            name, values = b"", []
            continue
        field, _, value = line.partition(b":")
        if field == b"data":
            values.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ")
    return out


@settings(max_examples=200, deadline=None)
@example(b"data: a\r", [8])
@example(b"\r\rdata\r\r\n", [1, 9])
@given(GRAINS, st.lists(st.integers(0, 120), max_size=8))
def test_any_bytes_in_any_cut_follow_the_grammar(data: bytes, at: list[int]) -> None:
    found, raw, rest = split(cut(data, (min(n, len(data)) for n in at)))
    assert raw + rest == data
    assert found == reference(data)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=("Cs",))), max_size=20),
    st.integers(1, 7),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
)
def test_text_is_neither_lost_nor_repeated_nor_reordered(texts: list[str], size: int, end: bytes) -> None:
    data = b"".join(b"data: " + text.encode() + end + end for text in texts)
    found, raw, rest = split(data[n : n + size] for n in range(0, len(data), size))
    assert [value.decode() for _, value in found] == texts
    assert (raw, rest) == (data, b"")


def test_an_event_leaves_with_its_last_byte() -> None:
    splitter = EventSplitter()
    assert splitter.feed(b"data: a\n") == []
    assert [event.data for event in splitter.feed(b"\n")] == [b"a"]
    assert splitter.feed(b"data: b\r\n\r") == []
    assert [event.data for event in splitter.feed(b"\n")] == [b"b"]


GIANTS = {
    "one line": b"data: " + b"x" * (4 << 20) + b"\n\n",
    "many lines": b"data: xxxxxxxx\n" * (300 << 10) + b"\n",
    "many lines that end in CRLF": b"data: xxxxxxx\r\n" * (300 << 10) + b"\r\n",
    "many lines that end in CR": b"data: xxxxxxxx\r" * (300 << 10) + b"\r",
    "one line that ends in CRLF": b"data: " + b"x" * (4 << 20) + b"\r\n\r\n",
}


@pytest.mark.parametrize("giant", GIANTS)
def test_a_giant_event_in_small_reads_takes_time_in_proportion(giant: str) -> None:
    data = GIANTS[giant]

    def seconds(data: bytes) -> float:
        started = time.process_time()
        _, raw, rest = split(data[n : n + 1000] for n in range(0, len(data), 1000))
        spent = time.process_time() - started
        assert raw + rest == data
        return spent

    assert seconds(data) < 1.5


@pytest.mark.parametrize(
    "data", [b"data: " + b"x" * 3000, b"data: x\n" * 400, b"data: x\r\n" * 400, b"data: x\r" * 400]
)
@pytest.mark.parametrize("size", [1, 100, 3000])
def test_an_event_over_the_bound_is_an_error_and_is_not_kept(data: bytes, size: int) -> None:
    splitter = EventSplitter(max_event_bytes=2000)
    fed = 0
    with pytest.raises(UpstreamError, match="event_too_large"):
        for n in range(0, len(data), size):
            fed += size
            splitter.feed(data[n : n + size])
    assert fed <= 2000 + 2 * size


def test_many_events_in_one_read_take_time_in_proportion() -> None:
    for end in (b"\n", b"\r\n", b"\r"):
        data = (b"data: x" + end + end) * 30_000
        started = time.process_time()
        found, raw, _ = split([data])
        assert (len(found), raw) == (30_000, data)
        assert time.process_time() - started < 1.0

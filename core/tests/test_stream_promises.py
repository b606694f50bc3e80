"""What a client may rely on in a stream: its bytes, its end, its failures and its pace."""

from __future__ import annotations

import asyncio
import gc
import json
import random
import resource
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from lmg.testing import ChatAnswer, Cut, Harness, RawClient, Wait, chat_body, chat_events, sse

NEVER = Wait(600)


def chunk(
    content: str | None = None, *, finish: str | None = None, index: int = 0, **delta: Any
) -> dict[str, Any]:
    """One chunk of a chat completion."""
    if content is not None:
        delta["content"] = content
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


OPENING = chunk("", role="assistant")
USAGE = {**chunk(), "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}}
WITH_USAGE = {"stream_options": {"include_usage": True}}
TEXTS = ["Grüße ", "aus ", "東京 ", "😀😀", "\u2028", '"data: x\n\n"', "\\r\\n", " end"]


def dumps(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def last_is_error(answer: ChatAnswer) -> bool:
    """Whether the stream broke as promised: cleanly framed, an error at its end, and nothing that looks finished."""
    events = answer.events
    return (
        not answer.broken
        and answer.status == 200
        and isinstance(events[-1], dict)
        and set(events[-1]["error"]) >= {"message", "type", "code", "param"}
        and "[DONE]" not in events
        and sum("error" in event for event in events) == 1
    )


def resident_kib() -> int:
    """The memory that the process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 1024


async def next_chunk(client: RawClient, seconds: float = 5.0) -> bytes:
    """The next chunk of the response's body."""
    async with asyncio.timeout(seconds):
        size = int(await client.reader.readuntil(b"\r\n"), 16)
        return (await client.reader.readexactly(size + 2))[:-2]


# -- every byte, in order, once -----------------------------------------------------------------------


def with_end(
    end: bytes, *, space: bytes = b" ", before: bytes = b"", extra: bytes = b""
) -> Callable[[list[bytes]], bytes]:
    return lambda events: before + b"".join(extra + b"data:" + space + event + end + end for event in events)


def on_two_lines(events: list[bytes]) -> bytes:
    return b"".join(b"data: " + e.replace(b', "choices"', b',\ndata:  "choices"') + b"\n\n" for e in events)


WAYS: dict[str, Callable[[list[bytes]], bytes]] = {
    "LF": with_end(b"\n"),
    "CRLF": with_end(b"\r\n"),
    "CR": with_end(b"\r"),
    "mixed ends": lambda events: b"".join(
        b"data: " + event + (b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n", b"\r\n\n")[n % 5]
        for n, event in enumerate(events)
    ),
    "no space": with_end(b"\n", space=b""),
    "no space, CRLF": with_end(b"\r\n", space=b""),
    "BOM": with_end(b"\n", before=b"\xef\xbb\xbf"),
    "BOM, CRLF": with_end(b"\r\n", before=b"\xef\xbb\xbf"),
    "comments between": with_end(b"\n", extra=b": keep-alive\n\n"),
    "comments within": with_end(b"\n", extra=b": note\n"),
    "comments within, CRLF": with_end(b"\r\n", extra=b": note\r\n"),
    "comments first": with_end(b"\n", before=b": OPENROUTER PROCESSING\n\n" * 60),
    "data on two lines": on_two_lines,
    "data on two lines, CRLF": lambda events: on_two_lines(events).replace(b"\n", b"\r\n"),
    "event names": with_end(b"\n", extra=b"event: message\n"),
    "ids": with_end(b"\n", extra=b"id: 1\nretry: 500\n"),
    "retry alone": with_end(b"\n", before=b"retry: 3000\n\n"),
    "blank lines": with_end(b"\n\n"),
    "blank lines before": with_end(b"\n", before=b"\n\n\n"),
    "empty events": with_end(b"\n", extra=b"data:\n\n"),
    "trailing text": lambda events: with_end(b"\n")(events) + b"data: unfinished",
}


@pytest.mark.parametrize("way", WAYS)
async def test_every_byte_passes_in_order_and_once(way: str) -> None:
    events = [*map(dumps, [OPENING, *map(chunk, TEXTS), chunk(finish="stop"), USAGE]), b"[DONE]"]
    written = WAYS[way](events)
    until_done = written[: written.index(b"[DONE]") + 6]
    rng = random.Random(way)
    async with Harness() as gateway:
        cuts = [
            [written],
            *([written[n : n + size] for n in range(0, len(written), size)] for size in (1500, 61, 7)),
        ]
        for _ in range(3):
            at = sorted(rng.sample(range(1, len(written)), 12))
            cuts.append([written[a:b] for a, b in zip([0, *at], [*at, len(written)], strict=True)])
        for n, pieces in enumerate(cuts):
            gateway.upstream.stream(*pieces, framing="close" if n % 2 else "chunked")
            answer = await gateway.chat(stream=True, **WITH_USAGE)
            assert not answer.broken
            assert answer.raw.startswith(until_done)
            assert answer.raw[len(until_done) :].strip() == b""
            assert answer.text == "".join(TEXTS)


async def test_a_stream_written_byte_by_byte_passes_whole() -> None:
    written = b"".join(
        map(
            lambda e: b"data: " + e + b"\r\n\r\n",
            [*map(dumps, [OPENING, *map(chunk, TEXTS), chunk(finish="stop")]), b"[DONE]"],
        )
    )
    async with Harness() as gateway:
        gateway.upstream.stream(*(written[n : n + 1] for n in range(len(written))))
        assert (await gateway.chat(stream=True)).raw == written


async def test_a_giant_event_passes_whole() -> None:
    big = chunk("x" * (3 << 20))
    async with Harness() as gateway:
        gateway.upstream.stream(*sse(OPENING, big, chunk(finish="stop"), "[DONE]"))
        answer = await gateway.chat(stream=True)
        assert len(answer.text) == 3 << 20
        assert answer.events[-1] == "[DONE]"


async def test_an_event_beyond_the_bound_ends_the_stream_with_an_error() -> None:
    async with Harness() as gateway:
        gateway.upstream.stream(*sse(OPENING, chunk("kept")), b"data: ", *[b"x" * (1 << 20)] * 10)
        answer = await gateway.chat(stream=True)
        assert last_is_error(answer)
        assert b"kept" in answer.raw


async def test_choices_and_tool_calls_side_by_side_pass_as_they_came() -> None:
    def call(n: int, index: int, **function: str) -> dict[str, Any]:
        return chunk(
            index=index,
            tool_calls=[
                {"index": n, "function": function, **({"id": f"call_{n}"} if "name" in function else {})}
            ],
        )

    events = sse(
        chunk(role="assistant"), chunk(role="assistant", index=1),
        call(0, 0, name="weather", arguments=""), call(1, 0, name="time", arguments=""),
        chunk("Hi", index=1), call(0, 0, arguments='{"c":'), call(1, 0, arguments='{"z"'), call(0, 0, arguments='"Rome"}'),
        call(1, 0, arguments=":1}"), chunk(" there", index=1), chunk(finish="tool_calls"), chunk(finish="stop", index=1), "[DONE]",
    )  # fmt: skip
    async with Harness() as gateway:
        gateway.upstream.stream(*events)
        answer = await gateway.chat(stream=True, n=2)
        assert answer.raw == b"".join(events)
        assert gateway.upstream.received[0].json["n"] == 2


# -- a stream that broke never looks finished ---------------------------------------------------------

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
BEGIN = b"".join(sse(OPENING, chunk("one "), chunk("two")))


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


BREAKS: dict[str, list[Any]] = {
    "FIN between events": [HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunked(BEGIN), Cut("fin")],
    "RST between events": [HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunked(BEGIN), Wait(0.05), Cut("rst")],
    "FIN inside an event": [
        HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunked(BEGIN) + chunked(sse(chunk("lost"))[0][:-8]), Cut("fin"),
    ],
    "FIN one line feed before an event's end": [
        HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunked(BEGIN) + chunked(sse(chunk("lost"))[0][:-1]), Cut("fin"),
    ],
    "FIN one line feed before the terminal event's end": [
        HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunked(BEGIN) + chunked(b"data: [DONE]\n"), Cut("fin"),
    ],
    "FIN inside a chunk": [HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunked(BEGIN) + b"ff\r\ndata: {", Cut("fin")],
    "chunks end inside an event": [
        HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunked(BEGIN + sse(chunk("lost"))[0][:-9]) + b"0\r\n\r\n",
    ],
    "no terminal event": [HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunked(BEGIN) + b"0\r\n\r\n"],
    "an error event": [HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunked(BEGIN), Wait(0.05), chunked(sse({"error": {"message": "boom", "type": "server_error", "code": "engine"}})[0]) + b"0\r\n\r\n"],
    "an error event in the same read": [
        HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunked(sse(OPENING, chunk("one "))[0] + sse(chunk("one "))[0]), Wait(0.05),
        chunked(sse(chunk("two"))[0] + sse({"error": {"message": "boom"}})[0]) + b"0\r\n\r\n",
    ],
    "an error event, then a finish that would look well": [
        HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunked(BEGIN), Wait(0.05),
        chunked(b"".join(sse({"error": {"message": "boom"}}, chunk(finish="stop"), "[DONE]"))) + b"0\r\n\r\n",
    ],
    "an error that is text": [HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunked(BEGIN), Wait(0.05), chunked(b'data: {"error": "boom"}\n\n') + b"0\r\n\r\n"],
    "an invalid chunk size": [HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunked(BEGIN) + b"zz\r\n"],
    "a chunk longer than its size": [HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunked(BEGIN) + b"1\r\nabc\r\n0\r\n\r\n"],
    "a short Content-Length body": [HEAD + b"content-length: 99999\r\n\r\n" + BEGIN, Cut("fin")],
    "read until close, without a terminal event": [HEAD + b"\r\n" + BEGIN, Cut("fin")],
    "silence": [HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunked(BEGIN), NEVER],
}  # fmt: skip


@pytest.mark.parametrize("how", BREAKS)
async def test_a_stream_that_broke_ends_with_an_error_and_never_looks_finished(how: str) -> None:
    async with Harness(provider={"stall_timeout_ms": 400}) as gateway:
        gateway.upstream.raw(*BREAKS[how])
        answer = await gateway.chat(stream=True)
        assert last_is_error(answer)
        assert b"lost" not in answer.raw
        texts = [c["delta"].get("content", "") for event in answer.events[:-1] for c in event["choices"]]
        assert "".join(texts) == "one two"
        assert not any(c["finish_reason"] for event in answer.events[:-1] for c in event["choices"])
        receipt = (await gateway.ended()).receipt
        assert receipt is not None and receipt.ended == "failed"


async def test_a_stream_that_broke_after_its_finish_reason_still_ends_with_an_error() -> None:
    async with Harness() as gateway:
        gateway.upstream.stream(*sse(OPENING, chunk("one"), chunk(finish="stop")), Cut("fin"))
        assert last_is_error(await gateway.chat(stream=True))


async def test_the_connection_serves_the_next_request_after_a_stream_that_broke() -> None:
    async with Harness() as gateway:
        gateway.upstream.raw(*BREAKS["FIN between events"])
        gateway.upstream.reply(chat_body("next"))
        client = await gateway.connect()
        await client.send(gateway.encode(gateway.body(stream=True)))
        assert last_is_error(await client.answer())
        await client.send(gateway.encode(gateway.body()))
        assert (await client.answer()).text == "next"


async def test_an_error_event_keeps_its_code_type_and_text_and_loses_its_secrets() -> None:
    stated = {
        "message": "Rate limit at http://10.0.0.7:8000/v1 with sk-abcdef123456",
        "type": "rate_limit_error",
        "code": "tokens",
        "param": "p",
    }
    async with Harness() as gateway:
        gateway.upstream.stream(*sse(OPENING, chunk("one")), Wait(0.05), *sse({"error": stated}))
        answer = await gateway.chat(stream=True)
        assert last_is_error(answer)
        error = answer.error
        assert (error["code"], error["type"], error["param"]) == ("tokens", "rate_limit_error", "p")
        assert error["message"].startswith("Rate limit at ")
        assert b"10.0.0.7" not in answer.raw and b"abcdef123456" not in answer.raw


# -- failures before the first event are real statuses ------------------------------------------------

FAILURES: dict[str, tuple[list[Any], int]] = {
    "RST before the head": ([Cut("rst")], 502),
    "FIN before the head": ([Cut("fin")], 502),
    "FIN inside the head": ([b"HTTP/1.1 200 OK\r\ncontent-ty", Cut("fin")], 502),
    "garbage for a head": ([b"\x16\x03\x01\x00 what\r\n\r\n"], 502),
    "another protocol": ([b"SSH-2.0-OpenSSH_9.6\r\n"], 502),
    "HTML": ([b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 6\r\n\r\n<html>"], 502),
    "no JSON": (
        [b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 6\r\n\r\n{'a':1"],
        502,
    ),
    "a JSON list": (
        [b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n[]"],
        502,
    ),
    "an empty body": ([b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"], 502),
    "no content": ([b"HTTP/1.1 204 No Content\r\n\r\n"], 502),
    "a short body": (
        [b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{}", Cut("fin")],
        502,
    ),
    "both lengths": (
        [b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"],
        502,
    ),
    "a content encoding": (
        [b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}"],
        502,
    ),
    "a redirect": ([b"HTTP/1.1 307 X\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"], 502),
    "switching protocols": ([b"HTTP/1.1 101 X\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n"], 502),
    "500": ([b"HTTP/1.1 500 X\r\ncontent-length: 2\r\n\r\n{}"], 502),
    "503": ([b"HTTP/1.1 503 X\r\ncontent-length: 2\r\n\r\n{}"], 503),
    "529": ([b"HTTP/1.1 529 X\r\ncontent-length: 2\r\n\r\n{}"], 503),
    "504": ([b"HTTP/1.1 504 X\r\ncontent-length: 2\r\n\r\n{}"], 504),
    "401": ([b"HTTP/1.1 401 X\r\ncontent-length: 2\r\n\r\n{}"], 502),
    "no head in time": ([NEVER], 504),
    "half a head in time": ([b"HTTP/1.1 200 OK\r\n", NEVER], 504),
}
STREAM_FAILURES: dict[str, tuple[list[Any], int]] = {
    "an empty stream": ([HEAD + b"content-length: 0\r\n\r\n"], 502),
    "comments only": ([HEAD + b"content-length: 8\r\n\r\n: hi\n\n\n\n"], 502),
    "the opening event, then FIN": ([HEAD + b"\r\n" + sse(OPENING)[0], Cut("fin")], 502),
    "the opening event, then RST": ([HEAD + b"\r\n" + sse(OPENING)[0], Wait(0.05), Cut("rst")], 502),
    "the opening event, then an error": ([HEAD + b"\r\n" + b"".join(sse(OPENING, {"error": {"message": "m"}}))], 502),
    "the opening event, then silence": ([HEAD + b"\r\n" + sse(OPENING)[0], NEVER], 504),
    "an error event first": ([HEAD + b"\r\n" + sse({"error": {"message": "m", "code": 503}})[0]], 503),
    "an error in the read of the first text": (
        [HEAD + b"\r\n" + b"".join(sse(OPENING, chunk("text"), {"error": {"message": "m", "code": 429}}))], 429,
    ),
    "an error event that is text": ([HEAD + b"\r\ndata: {\"error\": \"m\"}\n\n"], 502),
    "events that are no JSON": ([HEAD + b"\r\ndata: hello\n\n"], 502),
    "half an event": ([HEAD + b"\r\ndata: {", Cut("fin")], 502),
    "silence after the head": ([HEAD + b"\r\n", NEVER], 504),
    "silence after comments": ([HEAD + b"\r\n: hi\n\n", NEVER], 504),
}  # fmt: skip


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("how", FAILURES)
async def test_a_failure_before_the_first_byte_is_a_status_with_an_error(how: str, stream: bool) -> None:
    pieces, status = FAILURES[how]
    async with Harness(provider={"first_token_timeout_ms": 300, "timeout_ms": 300}) as gateway:
        gateway.upstream.raw(*pieces)
        await failed(gateway, status, stream=stream)


@pytest.mark.parametrize("how", STREAM_FAILURES)
async def test_a_failure_before_the_first_text_is_a_status_with_an_error(how: str) -> None:
    pieces, status = STREAM_FAILURES[how]
    async with Harness(provider={"first_token_timeout_ms": 300}) as gateway:
        gateway.upstream.raw(*pieces)
        await failed(gateway, status, stream=True)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_upstream_that_refuses_connections_is_a_502(stream: bool) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
    async with Harness(provider={"endpoint": endpoint}) as gateway:
        await failed(gateway, 502, stream=stream)


async def failed(gateway: Harness, status: int, *, stream: bool) -> None:
    answer = await gateway.chat(stream=stream)
    assert answer.status == status
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.error) >= {"message", "type", "code", "param"}
    assert answer.error["message"] and answer.error["code"]
    for leak in (b"127.0.0.1", b"Error(", b"Traceback", b".py", b"lmg"):
        assert leak not in answer.raw


# -- what survives, and what does not -----------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_code_type_param_and_retry_after_survive(stream: bool) -> None:
    stated = {
        "message": "Slow down.",
        "type": "tokens",
        "param": "messages[0].content",
        "code": "rate_limit_exceeded",
    }
    headers = [("retry-after", "7"), ("retry-after-ms", "6500"), ("x-ratelimit-remaining-tokens", "0")]
    async with Harness() as gateway:
        for status in (400, 403, 404, 409, 413, 422, 429, 503):
            gateway.upstream.reply({"error": stated}, status=status, headers=headers)
            answer = await gateway.chat(stream=stream)
            assert answer.status == status
            assert {key: answer.error[key] for key in stated} == stated
            assert {name: answer.headers[name] for name, _ in headers} == dict(headers)


@pytest.mark.parametrize(("sent", "given"), [(500, 502), (529, 503)])
async def test_code_and_type_survive_a_status_that_is_mapped(sent: int, given: int) -> None:
    async with Harness() as gateway:
        gateway.upstream.reply(
            {"error": {"message": "m", "type": "overloaded_error", "code": "overloaded", "param": "model"}},
            status=sent,
        )
        answer = await gateway.chat()
        assert answer.status == given
        assert [answer.error[key] for key in ("type", "code", "param")] == [
            "overloaded_error",
            "overloaded",
            "model",
        ]


SECRETS = [
    "sk-proj-Abc123Def456Ghi789", "gsk_Abc123Def456Ghi789", "hf_Abc123Def456Ghi789Jkl", "Bearer Abc123Def456", "AKIAABCDEFGH1234IJKLMNOPQRSTUVWX",
    "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.c2ln", "3f786850e387550fdab836ed7e6dc881de23001b", "http://user:pass@engine-7.internal:8000/v1?key=1",
    "https://api.example.com/v1", "10.1.2.3:8080", "10.1.2.3", "[fd00::7]:80", "fd00:1:2:3:4:5:6:7", "::1", "localhost:9000", "engine-7.default.svc.cluster.local",
    "gpu-3.acme.internal:8000", "/usr/lib/python3.11/site-packages/vllm/engine.py", "C:\\models\\llama.gguf", "ValueError", "vllm.engine.AsyncEngineDead",
    'File "/srv/app.py", line 3, in run', "Traceback (most recent call last):\n  at x\nKeyError: 'k'", "the-configured-key",
]  # fmt: skip


@pytest.mark.parametrize("secret", SECRETS)
async def test_what_an_upstream_says_of_itself_is_removed_from_its_errors(secret: str) -> None:
    async with Harness(provider={"api_key": "the-configured-key"}) as gateway:
        for error in (
            f"Failed: {secret} (retry)",
            {"message": f"Failed: {secret}, retry", "type": secret, "code": secret, "param": secret},
        ):
            for status in (400, 503, 500):
                gateway.upstream.reply(
                    {"error": error}, status=status, headers=[("server", "vllm"), ("x-engine", "7")]
                )
                answer = await gateway.chat()
                whole = str(answer.headers) + answer.raw.decode()
                assert secret not in whole and secret not in str(answer.error)
                assert "vllm" not in whole and "x-engine" not in whole
                if status != 500:
                    assert answer.error["message"].startswith("Failed: ")


async def test_a_refused_account_of_the_gateway_is_not_the_callers_401() -> None:
    async with Harness() as gateway:
        gateway.upstream.reply(
            {"error": {"message": "Incorrect API key: k-123", "code": "invalid_api_key"}}, status=401
        )
        answer = await gateway.chat()
        assert (answer.status, answer.error["code"]) == (502, "upstream_credential")
        assert answer.headers["x-should-retry"] == "false"
        assert b"k-123" not in answer.raw


BIG = (
    b'123456789012345678901234567890, "f": 1.10, "e": 1E5, "z": -0, "d": 0.1000000000000000055511151231257827'
)


@pytest.mark.parametrize("stream", [False, True])
async def test_unknown_fields_and_digits_survive_both_ways(stream: bool) -> None:
    asked = (
        b'{ "x_new": {"a": [%b]},\n "seed": 123456789012345678901234567890, "top_p" : 0.90, "messages":[{"role":"user",'
        b'"content":"\\u0041\\/","x_cache":{"n":1e2}}],"model":"test-model"%b }'
    ) % (b"1.0", b',"stream":true' if stream else b"")
    async with Harness() as gateway:
        if stream:
            told = (
                b'data: {"id":"c","x":{"n":%b},"choices":[{"index":0,"delta":{"content":"a","x_new":1.10},"finish_reason":null}]}\n\n'
                % BIG
            )
            gateway.upstream.stream(sse(OPENING)[0], told, *sse(chunk(finish="stop"), "[DONE]"))
        else:
            told = (
                b'{"x":{"n":%b}, "choices" : [{"index":0,"message":{"role":"assistant","content":"a","x_new":1.10}}]}\n'
                % BIG
            )
            gateway.upstream.reply(told)
        answer = await gateway.request(asked)
        assert told in answer.raw
        sent = gateway.upstream.received[0].body
        if stream:
            sent = sent.replace(b',"stream_options":{"include_usage":true}', b" ")
        assert sent == asked


async def test_the_gateways_own_fields_do_not_travel_on() -> None:
    async with Harness() as gateway:
        for hint in ("cheap", None, {"a": 1}):
            await gateway.chat(routing_hint=hint)
        assert ["routing_hint" in request.json for request in gateway.upstream.received] == [False] * 3


async def test_the_request_id_of_the_client_comes_back_and_a_bad_one_does_not() -> None:
    async with Harness() as gateway:
        for stream in (False, True):
            answer = await gateway.chat(stream=stream, headers={"x-request-id": "abc-1.2:3_4"})
            assert answer.headers["x-request-id"] == "abc-1.2:3_4"
        refused = await gateway.request(b"{", headers={"x-request-id": "abc-2"})
        assert refused.headers["x-request-id"] == refused.error["request_id"] == "abc-2"
        own = set()
        for bad in ("a b", "x" * 129, "é", '"', "<script>"):
            answer = await gateway.chat(headers={"x-request-id": bad})
            assert answer.headers["x-request-id"].startswith("req_")
            own.add(answer.headers["x-request-id"])
        assert len(own) == 5


# -- usage --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [None, {"include_usage": False}, {"x_other": 1}, {"include_usage": None}])
async def test_usage_is_asked_for_and_hidden_from_who_did_not_ask(options: Any) -> None:
    async with Harness() as gateway:
        answer = await gateway.chat(
            stream=True, **({"stream_options": options} if options is not None else {})
        )
        assert gateway.upstream.received[0].json["stream_options"] == {
            **(options or {}),
            "include_usage": True,
        }
        assert answer.events[-1] == "[DONE]"
        assert b'"usage"' not in answer.raw
        receipt = (await gateway.ended()).receipt
        assert receipt is not None and (receipt.input_tokens, receipt.output_tokens, receipt.estimated) == (
            5,
            2,
            False,
        )


async def test_usage_is_shown_to_who_asked() -> None:
    async with Harness() as gateway:
        answer = await gateway.chat(stream=True, **WITH_USAGE)
        assert answer.events[-2]["usage"]["total_tokens"] == 7
        assert answer.events[-1] == "[DONE]"


async def test_a_request_without_a_stream_is_sent_without_stream_options() -> None:
    async with Harness() as gateway:
        await gateway.chat()
        await gateway.chat(stream=False)
        assert not any("stream_options" in request.json for request in gateway.upstream.received)


# -- pace ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
async def test_no_event_waits_for_the_next_one(end: bytes) -> None:
    texts = ["a", "b", "c", "d"]
    gates = [asyncio.Event() for _ in range(len(texts) + 1)]
    pieces: list[Any] = [sse(OPENING)[0].replace(b"\n", end)]
    for gate, text in zip(gates, texts, strict=False):
        pieces += [Wait(event=gate), sse(chunk(text))[0].replace(b"\n", end)]
    pieces += [Wait(event=gates[-1]), *sse(chunk(finish="stop"), "[DONE]")]
    async with Harness() as gateway:
        gateway.upstream.stream(*pieces)
        client = await gateway.connect()
        await client.send(gateway.encode(gateway.body(stream=True)))
        gates[0].set()
        assert (await client.head())[0] == 200
        seen = await next_chunk(client)
        for n, text in enumerate(texts):
            while b'"content": "%b"' % text.encode() not in seen:
                seen += await next_chunk(client)
            gates[n + 1].set()
        while b"[DONE]" not in seen:
            seen += await next_chunk(client)


async def test_the_first_text_leaves_at_once_even_without_an_opening_event() -> None:
    gate = asyncio.Event()
    async with Harness() as gateway:
        gateway.upstream.stream(*sse(chunk("first")), Wait(event=gate), *sse(chunk(finish="stop"), "[DONE]"))
        client = await gateway.connect()
        await client.send(gateway.encode(gateway.body(stream=True)))
        await client.head()
        assert b"first" in await next_chunk(client)
        gate.set()


async def test_an_event_may_take_longer_than_the_first_token_limit_once_text_has_come() -> None:
    async with Harness(provider={"first_token_timeout_ms": 300, "stall_timeout_ms": 5000}) as gateway:
        gateway.upstream.stream(
            *sse(OPENING, chunk("a")), Wait(0.6), *sse(chunk("b"), chunk(finish="stop"), "[DONE]")
        )
        assert (await gateway.chat(stream=True)).text == "ab"


async def test_events_that_keep_coming_never_stall() -> None:
    pieces: list[Any] = sse(OPENING)
    for n in range(8):
        pieces += [*sse(chunk(str(n))), Wait(0.1)]
    async with Harness(provider={"stall_timeout_ms": 400}) as gateway:
        gateway.upstream.stream(*pieces, *sse(chunk(finish="stop"), "[DONE]"))
        assert (await gateway.chat(stream=True)).text == "01234567"


class Firehose:
    """An upstream that would send ``total`` bytes of events as fast as they are taken."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.sent = 0
        self.blocked = asyncio.Event()
        self.gone = asyncio.Event()
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        event = sse(chunk("x" * 60_000))[0]
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(HEAD + b"\r\n" + sse(OPENING)[0])
            while self.sent < self.total:
                writer.write(event)
                self.sent += len(event)
                try:
                    await asyncio.wait_for(writer.drain(), 0.5)
                except TimeoutError:
                    self.blocked.set()
                    await writer.drain()
            writer.write(b"".join(sse(chunk(finish="stop"), "[DONE]")))
            await writer.drain()
        except ConnectionError:
            pass
        finally:
            self.gone.set()
            writer.close()


@asynccontextmanager
async def firehose(total: int, **limits: Any) -> AsyncIterator[tuple[Firehose, Harness, socket.socket]]:
    """A gateway before a firehose, and a client that has asked and reads nothing."""
    hose = Firehose(total)
    server = await asyncio.start_server(hose.serve, "127.0.0.1", 0)
    endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        async with Harness({"server": {"limits": limits}}, provider={"endpoint": endpoint}) as gateway:
            with socket.create_connection(("127.0.0.1", gateway.process.port)) as client:
                client.setblocking(False)
                client.send(gateway.encode(gateway.body(stream=True)))
                yield hose, gateway, client
    finally:
        server.close()


async def test_a_client_that_reads_nothing_stops_the_upstream_and_fills_no_memory() -> None:
    async with firehose(200 << 20) as (hose, _, client):
        before = resident_kib()
        await asyncio.wait_for(hose.blocked.wait(), 20)
        # Two pairs of socket buffers and the gateway's own few hundred kilobytes.
        assert hose.sent < 24 << 20
        assert resident_kib() - before < 24 << 10
        client.close()
        await asyncio.wait_for(hose.gone.wait(), 2)


async def test_a_client_that_reads_late_gets_everything() -> None:
    async with firehose(24 << 20) as (hose, gateway, client):
        await asyncio.wait_for(hose.blocked.wait(), 20)
        loop = asyncio.get_running_loop()
        got, tail = 0, b""
        while b"[DONE]" not in tail:
            data = await asyncio.wait_for(loop.sock_recv(client, 1 << 20), 10)
            assert data
            got += len(data)
            tail = (tail + data)[-200:]
        assert got >= hose.sent
        receipt = (await gateway.ended()).receipt
        assert receipt is not None and receipt.ended == "complete"


async def test_a_client_that_takes_nothing_for_the_write_limit_is_dropped() -> None:
    async with firehose(200 << 20, write_timeout_s=0.3) as (hose, gateway, _):
        await asyncio.wait_for(hose.gone.wait(), 10)
        receipt = (await gateway.ended()).receipt
        assert receipt is not None and receipt.ended == "cancelled"


async def test_a_thousand_streams_at_a_time_all_end_whole() -> None:
    count = 1000
    events = chat_events(*(f"word {n} " for n in range(8)))
    gate = asyncio.Event()
    async with Harness() as gateway:
        gateway.upstream.stream(*events[:3], Wait(event=gate), *events[3:])
        request = gateway.encode(gateway.body(stream=True))

        async def opened() -> RawClient:
            client = await gateway.connect()
            await client.send(request)
            assert (await client.head(30))[0] == 200
            return client

        gc.collect()
        before = resident_kib()
        clients: list[RawClient] = []
        for _ in range(0, count, 50):
            clients += await asyncio.gather(*(opened() for _ in range(50)))
        assert gateway.process.gateway.pipeline.in_flight == count
        gate.set()

        async def rest(client: RawClient) -> bytes:
            data = b""
            while b"[DONE]" not in data:
                data += await next_chunk(client, 30)
            return data

        for data in await asyncio.gather(*map(rest, clients)):
            assert [data.count(b"word %d " % n) for n in range(8)] == [1] * 8
        await gateway.ended(count)
        assert {receipt.ended for receipt in gateway.receipts} == {"complete"}
        # Three connections and four tasks a stream, the test's own half included.
        assert resident_kib() - before < 200 << 10
        for client in clients:
            await client.close()

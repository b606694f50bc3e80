"""The guard in a real gateway: what is malformed reaches no upstream, and is told without the caller's own words."""

from __future__ import annotations

import copy
import random
import time
from typing import Any

import anthropic
import httpx
import openai
import pytest

from lmg import ConfigError
from lmg.config import MeshConfig, validate
from lmg.pipeline import draft
from lmg.testing import Harness, check_component
from lmg_schema_guard import SchemaGuard

CLASSES = {"schema_guard": SchemaGuard}
MODEL = "test-model"
HELLO = [{"role": "user", "content": "hello"}]
SECRET = "caller-wrote-this"
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}}


def mesh(**settings: Any) -> dict[str, Any]:
    return {"pipeline": [{"schema_guard": settings}]}


def guarded(**settings: Any) -> Harness:
    return Harness(mesh(**settings), classes=CLASSES)


def own(schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"schemas": [{"json_schema": schema, **more}]}


async def test_a_malformed_request_is_a_400_with_its_path_and_reaches_no_upstream() -> None:
    async with guarded() as gateway:
        gateway.host.metrics.enabled = True
        answer = await gateway.chat(
            messages=[*HELLO, {"role": "user", "content": [{"type": "text", "text": 1}]}]
        )
        assert answer.status == 400
        error = answer.error
        assert error.pop("request_id")
        assert error == {
            "message": "'messages[1].content[0].text' must be a string.",
            "type": "invalid_request_error",
            "param": "messages[1].content[0].text",
            "code": "invalid_request",
        }
        assert not gateway.upstream.received
        assert (await gateway.chat()).status == 200
        assert (await gateway.chat(stream=True)).status == 200
        assert len(gateway.upstream.received) == 2
        [family] = [f for f in gateway.host.metrics.families() if f.name == "lmg_schema_guard_refusals_total"]
        assert family.series == {("schema_guard", "openai.chat", "type"): 1}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/v1/chat/completions", {"messages": HELLO, "temperature": SECRET}, "'temperature' must be a number."),
        ("/v1/responses", {"input": [{"role": "user", "content": SECRET, "type": 1}]}, "'input[0].type' must be a string."),
        ("/v1/messages", {"max_tokens": 1, "messages": HELLO, "top_k": SECRET}, "'top_k' must be an integer."),
        ("/v1/messages/count_tokens", {"messages": HELLO, "tools": SECRET}, "'tools' must be an array."),
        ("/v1/embeddings", {"input": [SECRET, None]}, "'input[1]' must be a string or an integer or an array or an object."),
        ("/v1/rerank", {"query": "q", "documents": [SECRET], "top_n": SECRET}, "'top_n' must be an integer."),
        ("/v1/images/generations", {"prompt": SECRET, "n": SECRET}, "'n' does not have the form that is expected."),
        ("/v1/audio/speech", {"input": "x", "speed": SECRET}, "'speed' must be a number."),
    ],
)  # fmt: skip
async def test_every_dialect_gets_its_own_error_and_nothing_of_what_was_sent(
    path: str, body: dict[str, Any], said: str
) -> None:
    async with guarded() as gateway:
        answer = await gateway.request({"model": MODEL, **body}, path=path)
        assert (answer.status, answer.error["message"]) == (400, said)
        assert SECRET.encode() not in answer.raw
        assert answer.error["type"] == "invalid_request_error"
        assert not gateway.upstream.received


async def test_a_form_is_checked_like_any_other_request() -> None:
    async with guarded() as gateway, httpx.AsyncClient(base_url=gateway.url, trust_env=False) as client:
        sound = {"file": ("a.wav", b"RIFF", "audio/wav")}
        wrong = await client.post(
            "/v1/audio/transcriptions", files=sound, data={"model": MODEL, "temperature": SECRET}
        )
        assert wrong.status_code == 400 and wrong.json()["error"]["param"] == "temperature"
        assert SECRET not in wrong.text
        right = await client.post(
            "/v1/audio/transcriptions", files=sound, data={"model": MODEL, "temperature": "0.2"}
        )
        assert right.status_code != 400  # no provider of this gateway transcribes


async def test_strict_refuses_what_lenient_lets_through() -> None:
    for strict, status in (("lenient", 200), ("strict", 400)):
        async with guarded(mode_of_unknown_fields=strict) as gateway:
            answer = await gateway.chat(**{SECRET: 1})
            assert answer.status == status and SECRET.encode() not in answer.raw
            assert len(gateway.upstream.received) == (status == 200)


@pytest.mark.parametrize(
    ("limits", "body", "param"),
    [
        ({"messages": 2}, {"messages": HELLO * 3}, "messages"),
        ({"tools": 0}, {"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"tools": 0}, {"functions": [{"name": "f"}]}, "functions"),
        ({"choices": 2}, {"n": 3}, "n"),
        ({"stop_sequences": 1}, {"stop": ["a", "b"]}, "stop"),
        ({"text_chars": 20}, {"messages": [{"role": "user", "content": "x" * 21}]}, None),
        ({"schema_depth": 2}, {"tools": [{"type": "function", "function": {"name": "f", "parameters": WEATHER}}]}, "tools[0].function.parameters"),
        ({"schema_nodes": 3}, {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": WEATHER}}}, "response_format.json_schema.schema"),
    ],
)  # fmt: skip
async def test_a_request_over_a_limit_is_refused_and_one_at_it_is_not(
    limits: dict[str, int], body: dict[str, Any], param: str | None
) -> None:
    [(name, limit)] = limits.items()
    async with guarded(limits=limits) as gateway:
        answer = await gateway.chat(**body)
        assert answer.status == 400 and answer.error["param"] == param
        assert not gateway.upstream.received
    above = {"schema_depth": 4, "schema_nodes": 10}.get(name, limit + 1)
    async with guarded(limits={name: above}) as gateway:
        assert (await gateway.chat(**body)).status == 200


async def test_limits_count_the_fields_of_every_dialect() -> None:
    async with guarded(limits={"messages": 1, "stop_sequences": 1, "choices": 1}) as gateway:
        for path, body, param in (
            ("/v1/responses", {"input": HELLO * 2}, "input"),
            ("/v1/messages", {"max_tokens": 1, "messages": HELLO * 2}, "messages"),
            ("/v1/messages", {"max_tokens": 1, "messages": HELLO, "stop_sequences": ["a", "b"]}, "stop_sequences"),
            ("/v1/images/generations", {"prompt": "x", "n": "2"}, "n"),
        ):  # fmt: skip
            answer = await gateway.request({"model": MODEL, **body}, path=path)
            assert answer.status == 400 and f"'{param}' must".encode() in answer.raw
        assert not gateway.upstream.received


# -- the operator's own ---------------------------------------------------------------------------


async def test_own_schemas_are_asked_for_their_dialects_and_models() -> None:
    schema = {
        "required": ["user"],
        "properties": {"user": {"type": "string", "pattern": "^team-[a-z]+$"}, "n": {"const": 1}},
    }
    settings = own(schema, dialects=["openai.chat"], models=["test-*"])
    async with Harness(mesh(**settings), classes=CLASSES, models=[MODEL, "other"]) as gateway:
        missing = await gateway.chat()
        assert (missing.status, missing.error["param"]) == (400, "user")
        wrong = await gateway.chat(user=SECRET)
        assert wrong.error["message"] == "'user' does not have the form that is expected."
        assert (await gateway.chat(user="team-a", n=2)).error["message"] == "'n' must be 1."
        assert not gateway.upstream.received
        assert (await gateway.chat(user="team-a")).status == 200
        assert (await gateway.chat(model="other")).status == 200
        embedded = await gateway.request({"model": MODEL, "input": "x"}, path="/v1/embeddings")
        assert embedded.status == 200


async def test_a_pattern_that_would_backtrack_for_ever_takes_no_time() -> None:
    async with guarded(**own({"properties": {"user": {"pattern": "^(a+)+$"}}})) as gateway:
        started = time.process_time()
        answer = await gateway.chat(user="a" * 100_000 + "!")
        assert answer.status == 400 and answer.error["param"] == "user"
        assert time.process_time() - started < 2


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"properties": {"a": {"type": "strin"}}}, "json_schema.properties.a.type: not valid in JSON Schema 2020-12"),
        ({"properties": {"a": {"$ref": "https://example.com/s.json"}}}, "json_schema.properties.a.$ref: a reference to another document"),
        ({"$ref": "file:///etc/passwd"}, "json_schema.$ref: a reference to another document"),
        ({"$id": "https://example.com/", "$ref": "other"}, "a reference to another document"),
        ({"$ref": "#/$defs/nothing"}, "the reference leads nowhere"),
        ({"properties": {"a": {"pattern": "(?=x)y"}}}, "json_schema.properties.a.pattern: the pattern is none of the linear engine's"),
        ({"properties": {"a": {"pattern": "(x)\\1"}}}, "json_schema.properties.a.pattern: the pattern is none of the linear engine's"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "json_schema.$schema: must be https://json-schema.org/draft/2020-12/schema"),
    ],
)  # fmt: skip
def test_a_schema_that_cannot_be_used_stops_the_start_and_says_where(
    schema: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        draft(validate(MeshConfig, mesh(**own(schema)), (), None), installed={}, classes=CLASSES)
    assert said in str(raised.value) and "schemas" in str(raised.value)


def test_a_dialect_that_is_none_stops_the_start() -> None:
    with pytest.raises(ConfigError, match=r"'openai\.chats' is no dialect"):
        draft(
            validate(MeshConfig, mesh(**own({}, dialects=["openai.chats"])), (), None),
            installed={},
            classes=CLASSES,
        )


async def test_a_schema_that_refers_to_itself_ends() -> None:
    tree = {"$defs": {"node": {"items": {"$ref": "#/$defs/node"}, "maxItems": 3}}, "properties": {"x_tree": {"$ref": "#/$defs/node"}}}  # fmt: skip
    deep: list[Any] = []
    for _ in range(100):
        deep = [deep]
    async with guarded(**own(tree)) as gateway:
        assert (await gateway.chat(x_tree=deep)).status == 200
        assert (await gateway.chat(x_tree=[[1, 2, 3, 4]])).status == 400


# -- clients --------------------------------------------------------------------------------------


@pytest.mark.parametrize("strict", ["lenient", "strict"])
async def test_what_the_official_clients_send_passes(strict: str) -> None:
    tool: Any = {"type": "function", "function": {"name": "f", "parameters": WEATHER}}
    call: Any = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages: Any = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "18"},
    ]
    async with guarded(mode_of_unknown_fields=strict) as gateway:
        async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="sk-x", max_retries=0) as client:
            done = await client.chat.completions.create(
                model=MODEL,
                messages=messages,
                tools=[tool],
                tool_choice="auto",
                temperature=0.5,
                stop=["END"],
            )
            assert done.choices[0].message.content == "Hello!"
            vectors = await client.embeddings.create(model=MODEL, input=["a", "b"])
            assert vectors.data
            with pytest.raises(openai.BadRequestError) as refused:
                await client.chat.completions.create(model=MODEL, messages=messages, temperature=9)
            assert refused.value.param == "temperature" and refused.value.code == "invalid_request"
            answered = await client.responses.create(model=MODEL, input="hi", instructions="Be brief.")
            assert answered.output_text == "Hello!"
        async with anthropic.AsyncAnthropic(base_url=gateway.url, api_key="sk-x", max_retries=0) as client:
            message = await client.messages.create(
                model=MODEL, max_tokens=16, messages=[{"role": "user", "content": "hi"}], system="Be brief."
            )
            assert message.content
        assert len(gateway.upstream.received) == 4


async def test_a_request_that_is_changed_anywhere_is_never_our_fault() -> None:
    chance = random.Random(7)
    junk = [None, True, -1, 1.5, 10**30, SECRET, "", [], {}, [None], {"type": SECRET}, [[{}]]]
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("/v1/chat/completions", {"model": MODEL, "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}, {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}, {"role": "tool", "tool_call_id": "c", "content": "x"}], "tools": [{"type": "function", "function": {"name": "f", "parameters": WEATHER}}], "tool_choice": {"type": "function", "function": {"name": "f"}}}),
        ("/v1/responses", {"model": MODEL, "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}], "text": {"format": {"type": "json_schema", "name": "n", "schema": WEATHER}}}),
        ("/v1/messages", {"model": MODEL, "max_tokens": 9, "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}], "tools": [{"name": "f", "input_schema": WEATHER}]}),
        ("/v1/embeddings", {"model": MODEL, "input": ["a"], "dimensions": 2}),
    ]  # fmt: skip
    async with guarded(mode_of_unknown_fields="strict", limits={"messages": 9, "text_chars": 999}) as gateway:
        gateway.host.metrics.enabled = True
        refused = 0
        for _ in range(400):
            path, body = chance.choice(bodies)
            body = copy.deepcopy(body)
            spot: Any = body
            while True:
                key = chance.choice(list(spot) if isinstance(spot, dict) else range(len(spot)))
                if not isinstance(spot[key], dict | list) or not spot[key] or chance.random() < 0.3:
                    break
                spot = spot[key]
            spot[key] = chance.choice(junk)
            before = len(gateway.upstream.received)
            answer = await gateway.request(body, path=path)
            assert answer.status < 500 or answer.error["code"] != "internal_error", (body, answer.raw)
            if answer.status == 400:
                refused += 1
                assert len(gateway.upstream.received) == before
                assert SECRET.encode() not in answer.raw
        assert refused > 200
        assert not gateway.host.component_errors.series


# -- the component --------------------------------------------------------------------------------


async def test_in_shadow_a_malformed_request_goes_on_and_is_told_of() -> None:
    async with guarded(mode="shadow") as gateway:
        assert (await gateway.chat(temperature="hot")).status == 200
        exchange = await gateway.ended()
        assert exchange.shadowed == [("schema_guard", "on_request", "Deny(invalid_request)")]


async def test_it_conforms() -> None:
    await check_component(lambda: (SchemaGuard, {"limits": {"messages": 50}}))

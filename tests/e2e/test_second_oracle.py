"""llama.cpp serves three dialects by itself: what the gateway translates must say what llama.cpp says directly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from anthropic import Anthropic
from openai import OpenAI

QUESTION: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]
LIMIT = 24


@pytest.fixture(scope="module")
def gateway(serve: Any, llama: str, key: str) -> Iterator[Any]:
    """One real model under three names: reached by chat completions, by messages, and by responses."""
    mesh = f"""
pipeline:
  - auth_static: {{keys: [{{key: "${{MESH_KEY}}", subject: sdk}}]}}
providers:
  local: {{endpoint: "{llama}", models: [smollm]}}
  anthropic: {{endpoint: "{llama}", api_key: sk-ant-none-0123, models: [by-messages], model_map: {{by-messages: smollm}}}}
  openai: {{endpoint: "{llama}", api_key: sk-none-0123456, models: [by-responses], model_map: {{by-responses: smollm}}}}
"""
    with serve(mesh, environ={"MESH_KEY": key}) as running:
        yield running


@pytest.fixture(scope="module")
def key() -> str:
    return "sk-e2e-0123456789abcdef"


def anthropic(url: str, key: str) -> Anthropic:
    return Anthropic(base_url=url, api_key=key, max_retries=0, timeout=60)


def openai(url: str, key: str) -> OpenAI:
    return OpenAI(
        base_url=url + "/v1",
        api_key=key,
        max_retries=0,
        timeout=60,
    )


def by_messages(made: Anthropic, model: str, *, stream: bool) -> tuple[str, Any, int]:
    with made as client:
        return _by_messages(client, model, stream)


def _by_messages(client: Anthropic, model: str, stream: bool) -> tuple[str, Any, int]:
    more: Any = {"model": model, "max_tokens": LIMIT, "messages": QUESTION, "extra_body": {"temperature": 0}}
    if stream:
        with client.messages.stream(**more) as events:
            message = events.get_final_message()
    else:
        message = client.messages.create(**more)
    return message.content[0].text, message.stop_reason, message.usage.output_tokens


def by_responses(made: OpenAI, model: str, *, stream: bool) -> tuple[str, Any]:
    with made as client:
        return _by_responses(client, model, stream)


def _by_responses(client: OpenAI, model: str, stream: bool) -> tuple[str, Any]:
    more: Any = {"model": model, "max_output_tokens": LIMIT, "temperature": 0, "input": QUESTION}
    if not stream:
        answer = client.responses.create(**more)
        return answer.output_text, answer.status
    text, last = "", ""
    for event in client.responses.create(stream=True, **more):
        last = event.type
        if event.type == "response.output_text.delta":
            text += event.delta
    return text, last.removeprefix("response.")


def by_chat(made: OpenAI, model: str, *, stream: bool) -> tuple[str, Any]:
    with made as client:
        return _by_chat(client, model, stream)


def _by_chat(client: OpenAI, model: str, stream: bool) -> tuple[str, Any]:
    more: Any = {"model": model, "max_tokens": LIMIT, "temperature": 0, "messages": QUESTION}
    if not stream:
        choice = client.chat.completions.create(**more).choices[0]
        return choice.message.content or "", choice.finish_reason
    chunks = [c.choices[0] for c in client.chat.completions.create(stream=True, **more) if c.choices]
    text = "".join(choice.delta.content or "" for choice in chunks)
    return text, next(choice.finish_reason for choice in chunks if choice.finish_reason)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_messages_translated_to_chat_say_what_messages_say(
    gateway: Any, llama: str, key: str, stream: bool
) -> None:
    direct = by_messages(anthropic(llama, "none"), "smollm", stream=stream)
    assert "Paris" in direct[0]
    assert by_messages(anthropic(gateway.url, key), "smollm", stream=stream) == direct


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_chat_translated_to_messages_says_what_chat_says(
    gateway: Any, llama: str, key: str, stream: bool
) -> None:
    direct = by_chat(openai(llama, "none"), "smollm", stream=stream)
    assert "Paris" in direct[0]
    assert by_chat(openai(gateway.url, key), "by-messages", stream=stream) == direct


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("model", ["smollm", "by-messages", "by-responses"])
def test_responses_translated_or_passed_say_what_responses_say(
    gateway: Any, llama: str, key: str, stream: bool, model: str
) -> None:
    direct, _ = by_responses(openai(llama, "none"), "smollm", stream=stream)
    assert "Paris" in direct
    text, status = by_responses(openai(gateway.url, key), model, stream=stream)
    assert text == direct
    assert status in ("completed", "incomplete")


@pytest.mark.parametrize("model", ["smollm", "by-messages"])
def test_tokens_are_counted_by_the_upstream_or_estimated(gateway: Any, key: str, model: str) -> None:
    with anthropic(gateway.url, key) as client:
        counted = client.messages.count_tokens(model=model, messages=QUESTION)
    assert 4 < counted.input_tokens < 60

"""The clients that applications use, each over real sockets, before a Gemini API that reads strictly."""

from __future__ import annotations

import json
from typing import Any

import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI, BadRequestError, RateLimitError
from pydantic import BaseModel

from lmg.testing import sse
from lmg.testing.samples import PIXEL

MODEL = "gemini-3.1-pro-preview"
SIGNATURE, TEXT_SIGNATURE = "c2ln/+8rAAEC", "dGV4dA=="
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
CALLS = [
    {
        "functionCall": {"id": "fc-1", "name": "weather", "args": {"city": "Paris"}},
        "thoughtSignature": SIGNATURE,
    },
    {"functionCall": {"name": "weather", "args": {"city": "Rome"}}},
]
PNG = {"inlineData": {"mimeType": "image/png", "data": PIXEL}}


class Person(BaseModel):
    """A person."""

    name: str
    age: int


def openai_of(gateway: Any) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="sk-callers-own", max_retries=0)


def anthropic_of(gateway: Any) -> AsyncAnthropic:
    return AsyncAnthropic(base_url=gateway.url, api_key="sk-callers-own", max_retries=0)


def thinking(sent: dict[str, Any]) -> Any:
    return sent["generationConfig"]["thinkingConfig"]


# OpenAI, chat completions


async def test_openai_chat(harness: Any, response: Any, candidate: Any) -> None:
    async with harness() as gateway, openai_of(gateway) as client:
        usage = {
            "promptTokenCount": 9,
            "candidatesTokenCount": 4,
            "thoughtsTokenCount": 2,
            "cachedContentTokenCount": 5,
        }
        gateway.upstream.reply(response(candidate({"text": "Hi!"}), usage=usage))
        answer = await client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}],
            max_completion_tokens=50, temperature=0.3, top_p=0.9, stop=["END"], seed=7, presence_penalty=0.1,
        )  # fmt: skip
        sent = gateway.upstream.received[0].json
    assert answer.choices[0].message.content == "Hi!"
    assert (answer.id, answer.model, answer.choices[0].finish_reason) == ("resp-1", MODEL, "stop")
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (9, 6)
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 5
    assert answer.usage.completion_tokens_details is not None
    assert answer.usage.completion_tokens_details.reasoning_tokens == 2
    assert sent == {
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": [{"role": "user", "parts": [{"text": "Hello"}]}],
        "generationConfig": {
            "maxOutputTokens": 50, "temperature": 0.3, "topP": 0.9, "stopSequences": ["END"], "seed": 7, "presencePenalty": 0.1,
        },
    }  # fmt: skip


async def test_openai_chat_streamed(harness: Any, response: Any, candidate: Any) -> None:
    async with harness() as gateway, openai_of(gateway) as client:
        gateway.upstream.stream(
            *sse(
                response(candidate({"text": "Hé"}, finish=None)),
                response(candidate({"text": "llo"}, finish=None)),
                response(candidate(finish="MAX_TOKENS")),
            )
        )
        events = [
            chunk
            async for chunk in await client.chat.completions.create(
                model=MODEL,
                messages=[{"role": "user", "content": "Hello"}],
                stream=True,
                stream_options={"include_usage": True},
            )
        ]
    choices = [chunk.choices[0] for chunk in events if chunk.choices]
    assert "".join(choice.delta.content or "" for choice in choices) == "Héllo"
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["length"]
    assert events[-1].usage is not None
    assert events[-1].usage.completion_tokens == 4


async def openai_calls(client: AsyncOpenAI, messages: list[Any], stream: bool) -> Any:
    asked: dict[str, Any] = {
        "model": MODEL,
        "messages": messages,
        "tools": [
            {"type": "function", "function": {"name": "weather", "parameters": WEATHER, "strict": True}}
        ],
        "reasoning_effort": "low",
    }
    if not stream:
        return (await client.chat.completions.create(**asked)).choices[0]
    async with client.chat.completions.stream(**asked) as events:
        async for _ in events:
            pass
        return (await events.get_final_completion()).choices[0]


@pytest.mark.parametrize("stream", [False, True])
async def test_openai_parallel_calls_return_with_their_signature(
    harness: Any, response: Any, candidate: Any, stream: bool
) -> None:
    thought = {"text": "Two cities.", "thought": True}
    async with harness() as gateway, openai_of(gateway) as client:
        parts = [thought, {"text": "I look."}, *CALLS]
        if stream:
            whole = [response(candidate(part, finish=None)) for part in parts]
            gateway.upstream.stream(*sse(*whole, response(candidate())))
        else:
            gateway.upstream.reply(response(candidate(*parts)))
        messages: list[Any] = [{"role": "user", "content": "How warm are Paris and Rome?"}]
        choice = await openai_calls(client, messages, stream)
        assert choice.finish_reason == "tool_calls"
        calls = choice.message.tool_calls
        assert [json.loads(call.function.arguments) for call in calls] == [
            {"city": "Paris"},
            {"city": "Rome"},
        ]
        # Back in the other order, as a client may that waits for whichever is first.
        messages += [
            {"role": "assistant", "content": choice.message.content, "tool_calls": [c.model_dump(exclude={"index", "parsed_arguments"}) for c in calls]},
            {"role": "tool", "tool_call_id": calls[1].id, "content": "20"},
            {"role": "tool", "tool_call_id": calls[0].id, "content": "18"},
        ]  # fmt: skip
        gateway.upstream.reply(
            response(candidate({"text": "18 and 20.", "thoughtSignature": TEXT_SIGNATURE}))
        )
        await openai_calls(client, messages, False)
        first, second = (received.json for received in gateway.upstream.received)
    assert thinking(first) == {"thinkingLevel": "LOW", "includeThoughts": True}
    assert first["toolConfig"] == {"functionCallingConfig": {"mode": "VALIDATED"}}
    assert second["contents"][1] == {"role": "model", "parts": [{"text": "I look."}, *CALLS]}
    assert [part["functionResponse"] for part in second["contents"][2]["parts"]] == [
        {"id": "fc-1", "name": "weather", "response": {"output": "18"}},
        {"name": "weather", "response": {"output": "20"}},
    ]


@pytest.mark.parametrize("stream", [False, True])
async def test_openai_reasoning_and_its_signatures_return_with_the_message(
    harness: Any, response: Any, candidate: Any, stream: bool
) -> None:
    parts = [
        {"text": "Hm. ", "thought": True},
        {"text": "Yes.", "thought": True, "thoughtSignature": SIGNATURE},
        {"text": "It is."},
        {"text": "", "thoughtSignature": TEXT_SIGNATURE},
    ]
    async with harness() as gateway, openai_of(gateway) as client:
        messages: list[Any] = [{"role": "user", "content": "Is 7 prime?"}]
        message: dict[str, Any] = {"role": "assistant", "content": "", "reasoning_details": []}
        if stream:
            gateway.upstream.stream(
                *sse(*(response(candidate(part, finish=None)) for part in parts), response(candidate()))
            )
            details: dict[int, dict[str, Any]] = {}
            async for chunk in await client.chat.completions.create(
                model=MODEL, messages=messages, stream=True
            ):
                delta = chunk.choices[0].delta
                message["content"] += delta.content or ""
                for piece in (delta.model_extra or {}).get("reasoning_details", []):
                    detail = details.setdefault(piece["index"], {"type": piece["type"], "text": ""})
                    detail["text"] += piece.get("text", "")
                    detail |= {key: piece[key] for key in ("signature",) if key in piece}
            message["reasoning_details"] = [details[n] for n in sorted(details)]
        else:
            gateway.upstream.reply(response(candidate(*parts)))
            answer = await client.chat.completions.create(model=MODEL, messages=messages)
            message = answer.choices[0].message.model_dump(exclude_none=True)
            assert message["reasoning_content"] == "Hm. Yes."
        assert message["content"] == "It is."
        gateway.upstream.reply(response(candidate({"text": "Sure."})))
        await client.chat.completions.create(
            model=MODEL, messages=[*messages, message, {"role": "user", "content": "Sure?"}]
        )
        sent = gateway.upstream.received[1].json
    assert sent["contents"][1]["parts"] == [
        {"text": "Hm. Yes.", "thought": True, "thoughtSignature": SIGNATURE},
        {"text": "It is.", "thoughtSignature": TEXT_SIGNATURE},
    ]


async def test_openai_structured_output(harness: Any, response: Any, candidate: Any) -> None:
    async with harness() as gateway, openai_of(gateway) as client:
        gateway.upstream.reply(response(candidate({"text": '{"name": "Ada", "age": 36}'})))
        answer = await client.chat.completions.parse(
            model=MODEL, messages=[{"role": "user", "content": "Who?"}], response_format=Person
        )
        config = gateway.upstream.received[0].json["generationConfig"]
    assert answer.choices[0].message.parsed == Person(name="Ada", age=36)
    assert config["responseMimeType"] == "application/json"
    assert config["responseJsonSchema"]["properties"].keys() == {"name", "age"}


async def test_openai_images_and_documents(harness: Any, response: Any, candidate: Any) -> None:
    async with harness() as gateway, openai_of(gateway) as client:
        gateway.upstream.reply(response(candidate({"text": "A pixel."})))
        await client.chat.completions.create(
            model=MODEL,
            messages=[
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What is this?"},
                        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
                        {"type": "image_url", "image_url": {"url": "https://x.example/cat.webp"}},
                        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}},
                        {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
                    ],
                }
            ],
        )  # fmt: skip
        sent = gateway.upstream.received[0].json
    assert sent["contents"][0]["parts"] == [
        {"text": "What is this?"},
        PNG,
        {"fileData": {"fileUri": "https://x.example/cat.webp", "mimeType": "image/webp"}},
        {"text": "a.pdf"},
        {"inlineData": {"mimeType": "application/pdf", "data": "JVBERi0="}},
        {"inlineData": {"mimeType": "audio/wav", "data": "UklGRg=="}},
    ]


@pytest.mark.parametrize("stream", [False, True])
async def test_openai_several_answers_with_log_probabilities(
    harness: Any, response: Any, candidate: Any, stream: bool
) -> None:
    def told(text: str, **more: Any) -> dict[str, Any]:
        token = {"token": text, "tokenId": 1, "logProbability": -0.5}
        result = {"chosenCandidates": [token], "topCandidates": [{"candidates": [token]}]}
        return dict(candidate({"text": text}, logprobsResult=result, **more))

    asked: Any = {
        "model": MODEL, "messages": [{"role": "user", "content": "Name one."}], "n": 2, "logprobs": True, "top_logprobs": 1,
    }  # fmt: skip
    async with harness() as gateway, openai_of(gateway) as client:
        if stream:
            gateway.upstream.stream(
                *sse(response(told("A", finish=None), told("B", index=1)), response(candidate()))
            )
            async with client.chat.completions.stream(**asked) as events:
                async for _ in events:
                    pass
                answer: Any = await events.get_final_completion()
        else:
            gateway.upstream.reply(response(told("A"), told("B", index=1)))
            answer = await client.chat.completions.create(**asked)
        config = gateway.upstream.received[0].json["generationConfig"]
    assert config == {"candidateCount": 2, "responseLogprobs": True, "logprobs": 1}
    assert [choice.message.content for choice in answer.choices] == ["A", "B"]
    for choice, text in zip(answer.choices, "AB", strict=True):
        (token,) = choice.logprobs.content
        assert (token.token, token.logprob, token.top_logprobs[0].token) == (text, -0.5, text)


async def test_openai_errors_are_those_of_the_sdk(harness: Any) -> None:
    async with harness() as gateway, openai_of(gateway) as client:
        asked: Any = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}
        gateway.upstream.reply({"promptFeedback": {"blockReason": "SAFETY"}})
        with pytest.raises(BadRequestError) as blocked:
            await client.chat.completions.create(**asked)
        assert blocked.value.code == "content_filter"
        limit = {
            "error": {
                "code": 429,
                "message": "Quota",
                "status": "RESOURCE_EXHAUSTED",
                "details": [{"retryDelay": "3s"}],
            }
        }
        gateway.upstream.reply(limit, status=429)
        with pytest.raises(RateLimitError) as limited:
            await client.chat.completions.create(**asked)
        assert limited.value.response.headers["retry-after"] == "3"


async def test_openai_embeddings(harness: Any) -> None:
    async with (
        harness({"models": ["gemini-embedding-001"]}, strict=False) as gateway,
        openai_of(gateway) as client,
    ):
        answer = await client.embeddings.create(
            model="gemini-embedding-001", input="text", encoding_format="float"
        )
    assert answer.data[0].embedding == [0.1, 0.2]


# OpenAI, responses


async def responses_turn(client: AsyncOpenAI, input: Any, stream: bool, **more: Any) -> Any:
    asked: dict[str, Any] = {
        "model": MODEL,
        "input": input,
        "store": False,
        "include": ["reasoning.encrypted_content"],
        **more,
    }
    if not stream:
        return await client.responses.create(**asked)
    async with client.responses.stream(**asked) as events:
        async for _ in events:
            pass
        return await events.get_final_response()


@pytest.mark.parametrize("stream", [False, True])
async def test_responses_with_calls_reasoning_and_signatures(
    harness: Any, response: Any, candidate: Any, stream: bool
) -> None:
    parts = [
        {"text": "Two cities.", "thought": True, "thoughtSignature": TEXT_SIGNATURE},
        {"text": "I look."},
        *CALLS,
    ]
    tools = [{"type": "function", "name": "weather", "parameters": WEATHER, "strict": True}]
    async with harness() as gateway, openai_of(gateway) as client:
        if stream:
            gateway.upstream.stream(
                *sse(*(response(candidate(part, finish=None)) for part in parts), response(candidate()))
            )
        else:
            gateway.upstream.reply(response(candidate(*parts)))
        asked: list[Any] = [{"role": "user", "content": "How warm are Paris and Rome?"}]
        more: Any = {
            "tools": tools,
            "reasoning": {"effort": "high", "summary": "auto"},
            "instructions": "Be brief.",
        }
        answer = await responses_turn(client, asked, stream, **more)
        assert answer.output_text == "I look."
        assert (answer.usage.input_tokens, answer.usage.output_tokens) == (9, 4)
        calls = [item for item in answer.output if item.type == "function_call"]
        assert [json.loads(call.arguments) for call in calls] == [{"city": "Paris"}, {"city": "Rome"}]
        asked += [item.model_dump(exclude_none=True, exclude={"parsed_arguments"}) for item in answer.output]
        asked += [
            {"type": "function_call_output", "call_id": call.call_id, "output": text}
            for call, text in zip(calls, ("18", "20"), strict=True)
        ]
        gateway.upstream.reply(response(candidate({"text": "18 and 20."})))
        assert (await responses_turn(client, asked, False, **more)).output_text == "18 and 20."
        first, second = (received.json for received in gateway.upstream.received)
    assert thinking(first) == {"thinkingLevel": "HIGH", "includeThoughts": True}
    assert first["systemInstruction"] == {"parts": [{"text": "Be brief."}]}
    assert first["store"] is False
    assert second["contents"][1] == {"role": "model", "parts": parts}
    assert [part["functionResponse"]["response"] for part in second["contents"][2]["parts"]] == [
        {"output": "18"},
        {"output": "20"},
    ]


@pytest.mark.parametrize("stream", [False, True])
async def test_responses_return_the_signature_of_a_text(
    harness: Any, response: Any, candidate: Any, stream: bool
) -> None:
    part = {"text": "It is.", "thoughtSignature": TEXT_SIGNATURE}
    async with harness() as gateway, openai_of(gateway) as client:
        if stream:
            gateway.upstream.stream(*sse(response(candidate(part))))
        else:
            gateway.upstream.reply(response(candidate(part)))
        answer = await responses_turn(client, "Is 7 prime?", stream)
        assert answer.output_text == "It is."
        asked = [
            {"role": "user", "content": "Is 7 prime?"},
            *(item.model_dump(exclude_none=True) for item in answer.output),
            {"role": "user", "content": "Sure?"},
        ]
        gateway.upstream.reply(response(candidate({"text": "Sure."})))
        await responses_turn(client, asked, False)
        sent = gateway.upstream.received[1].json
    assert sent["contents"][1] == {"role": "model", "parts": [part]}


async def test_responses_structured_output_and_images(harness: Any, response: Any, candidate: Any) -> None:
    async with harness() as gateway, openai_of(gateway) as client:
        gateway.upstream.reply(response(candidate({"text": '{"name": "Ada", "age": 36}'})))
        image: Any = {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "auto"}
        answer = await client.responses.parse(
            model=MODEL, text_format=Person,
            input=[{"role": "user", "content": [{"type": "input_text", "text": "Who?"}, image]}],
        )  # fmt: skip
        sent = gateway.upstream.received[0].json
    assert answer.output_parsed == Person(name="Ada", age=36)
    assert sent["contents"][0]["parts"] == [{"text": "Who?"}, PNG]
    assert "responseJsonSchema" in sent["generationConfig"]


# Anthropic


async def anthropic_turn(client: AsyncAnthropic, messages: list[Any], stream: bool, **more: Any) -> Any:
    asked: dict[str, Any] = {"model": MODEL, "max_tokens": 16000, "messages": messages, **more}
    if not stream:
        return await client.messages.create(**asked)
    async with client.messages.stream(**asked) as events:
        return await events.get_final_message()


@pytest.mark.parametrize("stream", [False, True])
async def test_anthropic_messages_with_calls_reasoning_and_signatures(
    harness: Any, response: Any, candidate: Any, stream: bool
) -> None:
    parts = [
        {"text": "Two cities.", "thought": True, "thoughtSignature": SIGNATURE},
        {"text": "I look.", "thoughtSignature": TEXT_SIGNATURE},
        *CALLS,
    ]
    more: Any = {
        "system": "Be brief.",
        "tools": [{"name": "weather", "input_schema": WEATHER}],
        "tool_choice": {"type": "auto"},
        "thinking": {"type": "enabled", "budget_tokens": 8000},
        "stop_sequences": ["END"],
    }
    async with harness() as gateway, anthropic_of(gateway) as client:
        if stream:
            gateway.upstream.stream(
                *sse(*(response(candidate(part, finish=None)) for part in parts), response(candidate()))
            )
        else:
            gateway.upstream.reply(response(candidate(*parts)))
        messages: list[Any] = [{"role": "user", "content": "How warm are Paris and Rome?"}]
        answer = await anthropic_turn(client, messages, stream, **more)
        assert answer.stop_reason == "tool_use"
        assert (answer.usage.input_tokens, answer.usage.output_tokens) == (9, 4)
        calls = [block for block in answer.content if block.type == "tool_use"]
        assert [call.input for call in calls] == [{"city": "Paris"}, {"city": "Rome"}]
        image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
        results = [
            {"type": "tool_result", "tool_use_id": calls[1].id, "content": "no such city", "is_error": True},
            {
                "type": "tool_result",
                "tool_use_id": calls[0].id,
                "content": [{"type": "text", "text": "18"}, image],
            },
        ]
        content = [block.model_dump(exclude_none=True) for block in answer.content]
        messages += [{"role": "assistant", "content": content}, {"role": "user", "content": results}]
        gateway.upstream.reply(response(candidate({"text": "18, and I do not know."})))
        last = await anthropic_turn(client, messages, False, **more)
        assert last.content[0].text == "18, and I do not know."
        first, second = (received.json for received in gateway.upstream.received)
    assert thinking(first) == {"thinkingLevel": "MEDIUM", "includeThoughts": True}
    assert first["systemInstruction"] == {"parts": [{"text": "Be brief."}]}
    assert second["contents"][1] == {"role": "model", "parts": parts}
    assert [part["functionResponse"] for part in second["contents"][2]["parts"]] == [
        {"id": "fc-1", "name": "weather", "response": {"output": "18"}, "parts": [PNG]},
        {"name": "weather", "response": {"error": "no such city"}},
    ]


async def test_anthropic_documents(harness: Any, response: Any, candidate: Any) -> None:
    documents: list[Any] = [
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="},
        },
        {"type": "document", "source": {"type": "url", "url": "https://x.example/report"}},
        {
            "type": "document",
            "title": "A tale",
            "source": {"type": "text", "media_type": "text/plain", "data": "Once"},
        },
        {"type": "image", "source": {"type": "url", "url": "https://x.example/cat.png"}},
    ]
    async with harness() as gateway, anthropic_of(gateway) as client:
        gateway.upstream.reply(response(candidate({"text": "Four."}, finish="MAX_TOKENS")))
        answer = await anthropic_turn(
            client, [{"role": "user", "content": documents}], False, extra_body={"top_k": 5}
        )
        sent = gateway.upstream.received[0].json
    assert answer.stop_reason == "max_tokens"
    assert sent["generationConfig"] == {"topK": 5, "maxOutputTokens": 16000}
    assert sent["contents"][0]["parts"] == [
        {"inlineData": {"mimeType": "application/pdf", "data": "JVBERi0="}},
        {"fileData": {"fileUri": "https://x.example/report", "mimeType": "application/pdf"}},
        {"text": "A tale"},
        {"inlineData": {"mimeType": "text/plain", "data": "T25jZQ=="}},
        {"fileData": {"fileUri": "https://x.example/cat.png", "mimeType": "image/png"}},
    ]


async def test_anthropic_count_tokens_is_an_estimate(harness: Any) -> None:
    async with harness() as gateway, anthropic_of(gateway) as client:
        counted = await client.messages.count_tokens(
            model=MODEL, messages=[{"role": "user", "content": "Hello there"}]
        )
        assert counted.input_tokens > 0
        assert gateway.upstream.received == []

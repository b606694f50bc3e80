"""Clients' own libraries over real sockets: none of them knows that it talks to Bedrock."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import openai
import pytest
from pydantic import BaseModel

from lmg.testing import Cut
from lmg.testing.samples import PIXEL

TOOL = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
OPENAI_TOOLS: Any = [
    {
        "type": "function",
        "function": {"name": "get_weather", "description": "The weather", "parameters": TOOL, "strict": True},
    }
]
CACHED = {
    "inputTokens": 4,
    "outputTokens": 9,
    "totalTokens": 1477,
    "cacheReadInputTokens": 1400,
    "cacheWriteInputTokens": 64,
}
HELLO: Any = [{"role": "user", "content": "Hello"}]


@pytest.fixture
async def claude(bedrock: Any) -> Any:
    """A gateway before a Claude that thinks with a budget."""
    return await bedrock()


@pytest.fixture
async def chat(claude: Any) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{claude.url}/v1", api_key="k", max_retries=0) as client:
        yield client


@pytest.fixture
async def messages(claude: Any) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=claude.url, api_key="k", max_retries=0) as client:
        yield client


def calls(kit: Any) -> list[Any]:
    return [
        {"text": "I look."},
        {"toolUse": {"toolUseId": "tooluse_1", "name": "get_weather", "input": {"city": "Paris"}}},
        {"toolUse": {"toolUseId": "tooluse_2", "name": "get_weather", "input": {"city": "Rome"}}},
    ]


def call_frames(kit: Any) -> list[bytes]:
    return [
        kit.event("messageStart", {"role": "assistant"}),
        kit.delta(0, text="I look."),
        kit.block_stop(0),
        kit.call_start(1, "tooluse_1", "get_weather"),
        kit.delta(1, toolUse={"input": '{"city":'}),
        kit.delta(1, toolUse={"input": '"Paris"}'}),
        kit.block_stop(1),
        kit.call_start(2, "tooluse_2", "get_weather"),
        kit.delta(2, toolUse={"input": '{"city":"Rome"}'}),
        kit.block_stop(2),
        *kit.ending("tool_use", CACHED),
    ]


def thought_frames(kit: Any) -> list[bytes]:
    return [
        kit.event("messageStart", {"role": "assistant"}),
        kit.delta(0, reasoningContent={"text": "Hm, "}),
        kit.delta(0, reasoningContent={"text": "yes."}),
        kit.delta(0, reasoningContent={"signature": "c2lnbmVk"}),
        kit.block_stop(0),
        kit.delta(1, text="Yes."),
        kit.block_stop(1),
        *kit.ending(),
    ]


THOUGHT = {"reasoningContent": {"reasoningText": {"text": "Hm, yes.", "signature": "c2lnbmVk"}}}


# OpenAI's chat completions


async def test_chat(claude: Any, chat: openai.AsyncOpenAI) -> None:
    claude.answers({"text": "Hi"}, usage=CACHED)
    answer = await chat.chat.completions.create(model="claude", messages=HELLO, max_completion_tokens=9)
    assert (answer.id, answer.model) == ("req-1", "claude")
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("Hi", "stop")
    assert answer.usage is not None and answer.usage.prompt_tokens == 1468
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 1400


async def test_chat_streamed(kit: Any, claude: Any, chat: openai.AsyncOpenAI) -> None:
    claude.streams(*kit.text_stream("Hel", "lo", usage=CACHED))
    stream = await chat.chat.completions.create(
        model="claude", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Hello"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None and chunks[-1].usage.prompt_tokens == 1468


async def test_chat_calls_tools_in_parallel_and_hands_their_results_back(
    kit: Any, claude: Any, chat: openai.AsyncOpenAI
) -> None:
    claude.answers(*calls(kit), reason="tool_use")
    first = await chat.chat.completions.create(model="claude", messages=HELLO, tools=OPENAI_TOOLS)
    message = first.choices[0].message
    assert first.choices[0].finish_reason == "tool_calls" and message.tool_calls is not None
    assert [
        json.loads(call.function.arguments) for call in message.tool_calls if call.type == "function"
    ] == [
        {"city": "Paris"},
        {"city": "Rome"},
    ]
    results: Any = [
        {"role": "tool", "tool_call_id": call.id, "content": degrees}
        for call, degrees in zip(message.tool_calls, ("18", "25"), strict=True)
    ]
    claude.answers({"text": "18 and 25."})
    history: Any = [*HELLO, message.model_dump(exclude_none=True), *results]
    second = await chat.chat.completions.create(model="claude", messages=history, tools=OPENAI_TOOLS)
    assert second.choices[0].message.content == "18 and 25."
    sent = claude.upstream.received[1].json["messages"]
    assert [m["role"] for m in sent] == ["user", "assistant", "user"]
    assert sent[1]["content"] == calls(kit)
    assert [block["toolResult"]["toolUseId"] for block in sent[2]["content"]] == ["tooluse_1", "tooluse_2"]


async def test_chat_streams_calls_in_parallel(kit: Any, claude: Any, chat: openai.AsyncOpenAI) -> None:
    claude.streams(*call_frames(kit))
    async with chat.chat.completions.stream(model="claude", messages=HELLO, tools=OPENAI_TOOLS) as stream:
        final = await stream.get_final_completion()
    found = final.choices[0].message.tool_calls
    assert found is not None
    assert [(call.id, json.loads(call.function.arguments)) for call in found] == [
        ("tooluse_1", {"city": "Paris"}),
        ("tooluse_2", {"city": "Rome"}),
    ]
    assert final.choices[0].finish_reason == "tool_calls"


async def test_chat_sends_images_and_files(claude: Any, chat: openai.AsyncOpenAI) -> None:
    claude.answers({"text": "A pixel."})
    pdf = base64.b64encode(b"%PDF-1.4\n").decode()
    content: Any = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{pdf}"}},
    ]
    await chat.chat.completions.create(model="claude", messages=[{"role": "user", "content": content}])
    assert claude.upstream.received[0].json["messages"][0]["content"] == [
        {"text": "What is this?"},
        {"image": {"format": "png", "source": {"bytes": PIXEL}}},
        {"document": {"format": "pdf", "name": "a pdf", "source": {"bytes": pdf}}},
    ]


class Weather(BaseModel):
    """What is asked for."""

    city: str
    degrees: int


async def test_chat_parses_structured_output(claude: Any, chat: openai.AsyncOpenAI) -> None:
    claude.answers({"text": '{"city":"Paris","degrees":18}'})
    answer = await chat.chat.completions.parse(model="claude", messages=HELLO, response_format=Weather)
    assert answer.choices[0].message.parsed == Weather(city="Paris", degrees=18)
    form = claude.upstream.received[0].json["outputConfig"]["textFormat"]
    stated = form["structure"]["jsonSchema"]
    assert (form["type"], stated["name"]) == ("json_schema", "Weather")
    assert json.loads(stated["schema"])["required"] == ["city", "degrees"]


async def test_chat_reasons_and_its_thoughts_go_back_signed(
    kit: Any, claude: Any, chat: openai.AsyncOpenAI
) -> None:
    claude.answers(THOUGHT, {"text": "Yes."})
    first = await chat.chat.completions.create(model="claude", messages=HELLO, reasoning_effort="low")
    message = first.choices[0].message.model_dump(exclude_none=True)
    assert message["reasoning_content"] == "Hm, yes."
    await chat.chat.completions.create(model="claude", messages=[*HELLO, message, *HELLO])
    asked, sent = (received.json for received in claude.upstream.received)
    thinking = {"type": "enabled", "budget_tokens": 2048}
    assert asked["additionalModelRequestFields"] == {"thinking": thinking}
    assert sent["messages"][1]["content"] == [THOUGHT, {"text": "Yes."}]
    claude.streams(*thought_frames(kit))
    stream = await chat.chat.completions.create(model="claude", messages=HELLO, stream=True)
    deltas = [chunk.choices[0].delta async for chunk in stream if chunk.choices]
    assert "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas) == "Hm, yes."


async def test_chat_raises_what_the_api_answers(claude: Any, chat: openai.AsyncOpenAI) -> None:
    told = [("x-amzn-errortype", "ThrottlingException")]
    claude.upstream.reply({"message": "Slow down."}, status=429, headers=told)
    with pytest.raises(openai.RateLimitError) as caught:
        await chat.chat.completions.create(model="claude", messages=HELLO)
    assert (caught.value.code, caught.value.type) == ("throttling", "rate_limit_error")


@pytest.mark.parametrize("how", ["exception", "cut"])
async def test_chat_raises_where_a_stream_breaks(
    kit: Any, claude: Any, chat: openai.AsyncOpenAI, how: str
) -> None:
    last = kit.exception("modelStreamErrorException", "Broken.") if how == "exception" else Cut("rst")
    claude.streams(*kit.text_stream("Hel", "lo")[:3], last)
    text = ""
    with pytest.raises(openai.APIError):
        async for chunk in await chat.chat.completions.create(model="claude", messages=HELLO, stream=True):
            text += chunk.choices[0].delta.content or ""
    assert text == "Hello"


# Anthropic's messages

ANTHROPIC_TOOLS: Any = [{"name": "get_weather", "description": "The weather", "input_schema": TOOL}]


async def test_messages(claude: Any, messages: anthropic.AsyncAnthropic) -> None:
    claude.answers(
        {"text": "Hi"},
        usage=CACHED,
        reason="stop_sequence",
        additionalModelResponseFields={"stop_sequence": "END"},
    )
    mark: Any = {"type": "ephemeral", "ttl": "1h"}
    answer = await messages.messages.create(
        model="claude",
        max_tokens=9,
        messages=HELLO,
        system=[{"type": "text", "text": "Be brief.", "cache_control": mark}],
        stop_sequences=["END"],
    )
    assert [block.text for block in answer.content if block.type == "text"] == ["Hi"]
    assert (answer.model, answer.stop_reason, answer.stop_sequence) == ("claude", "stop_sequence", "END")
    usage = answer.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (
        4,
        1400,
        64,
    )
    assert claude.upstream.received[0].json["system"] == [
        {"text": "Be brief."},
        {"cachePoint": {"type": "default", "ttl": "1h"}},
    ]


async def test_messages_streamed_with_calls(
    kit: Any, claude: Any, messages: anthropic.AsyncAnthropic
) -> None:
    claude.streams(*call_frames(kit))
    async with messages.messages.stream(
        model="claude", max_tokens=99, messages=HELLO, tools=ANTHROPIC_TOOLS
    ) as stream:
        final = await stream.get_final_message()
    assert [block.type for block in final.content] == ["text", "tool_use", "tool_use"]
    assert [block.input for block in final.content if block.type == "tool_use"] == [
        {"city": "Paris"},
        {"city": "Rome"},
    ]
    assert (final.stop_reason, final.usage.output_tokens) == ("tool_use", 9)


async def test_messages_hand_results_back(kit: Any, claude: Any, messages: anthropic.AsyncAnthropic) -> None:
    claude.answers(*calls(kit), reason="tool_use")
    first = await messages.messages.create(
        model="claude", max_tokens=99, messages=HELLO, tools=ANTHROPIC_TOOLS
    )
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
    results: Any = [
        {"type": "tool_result", "tool_use_id": "tooluse_1", "content": [image], "is_error": True},
        {"type": "tool_result", "tool_use_id": "tooluse_2", "content": "25"},
        {"type": "text", "text": "So?"},
    ]
    history: Any = [
        *HELLO,
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": results},
    ]
    claude.answers({"text": "25."})
    await messages.messages.create(model="claude", max_tokens=99, messages=history, tools=ANTHROPIC_TOOLS)
    sent = claude.upstream.received[1].json["messages"]
    assert sent[1]["content"] == calls(kit)
    assert sent[2]["content"] == [
        {
            "toolResult": {
                "toolUseId": "tooluse_1",
                "content": [{"image": {"format": "png", "source": {"bytes": PIXEL}}}],
                "status": "error",
            }
        },
        {"toolResult": {"toolUseId": "tooluse_2", "content": [{"text": "25"}]}},
        {"text": "So?"},
    ]


async def test_messages_think(kit: Any, claude: Any, messages: anthropic.AsyncAnthropic) -> None:
    claude.streams(*thought_frames(kit))
    thinking: Any = {"type": "enabled", "budget_tokens": 1500}
    async with messages.messages.stream(
        model="claude", max_tokens=4000, messages=HELLO, thinking=thinking
    ) as stream:
        final = await stream.get_final_message()
    thought = final.content[0]
    assert thought.type == "thinking" and (thought.thinking, thought.signature) == ("Hm, yes.", "c2lnbmVk")
    claude.answers({"reasoningContent": {"redactedContent": "b3BhcXVl"}}, {"text": "Yes."})
    history: Any = [*HELLO, {"role": "assistant", "content": final.content}, *HELLO]
    answer = await messages.messages.create(
        model="claude", max_tokens=4000, messages=history, thinking=thinking
    )
    assert answer.content[0].type == "redacted_thinking"
    asked, sent = (received.json for received in claude.upstream.received)
    assert asked["additionalModelRequestFields"] == {"thinking": thinking}
    assert sent["messages"][1]["content"] == [THOUGHT, {"text": "Yes."}]


async def test_messages_cite(kit: Any, claude: Any, messages: anthropic.AsyncAnthropic) -> None:
    location = {"documentChar": {"documentIndex": 0, "start": 0, "end": 5}}
    citation = {"title": "Tale", "sourceContent": [{"text": "Once."}], "location": location}
    frames = [kit.delta(0, text="As told"), kit.delta(0, citation=citation), kit.block_stop(0), *kit.ending()]
    document: Any = {
        "type": "document",
        "title": "Tale",
        "source": {"type": "text", "media_type": "text/plain", "data": "Once."},
        "citations": {"enabled": True},
    }
    asked: Any = [{"role": "user", "content": [document, {"type": "text", "text": "?"}]}]
    claude.answers({"citationsContent": {"content": [{"text": "As told"}], "citations": [citation]}})
    whole = await messages.messages.create(model="claude", max_tokens=9, messages=asked)
    claude.streams(*frames)
    async with messages.messages.stream(model="claude", max_tokens=9, messages=asked) as stream:
        streamed = await stream.get_final_message()
    for answer in (whole, streamed):
        (block,) = answer.content
        assert block.type == "text" and block.citations is not None
        (one,) = block.citations
        assert one.type == "char_location"
        assert (one.cited_text, one.document_title, one.end_char_index) == ("Once.", "Tale", 5)


async def test_messages_raise_where_a_stream_breaks(
    kit: Any, claude: Any, messages: anthropic.AsyncAnthropic
) -> None:
    claude.streams(*kit.text_stream("Hi")[:2], kit.exception("modelStreamErrorException", "Broken."))
    with pytest.raises(anthropic.APIError):
        async with messages.messages.stream(model="claude", max_tokens=9, messages=HELLO) as stream:
            await stream.get_final_message()


async def test_messages_are_counted_by_estimate(claude: Any, messages: anthropic.AsyncAnthropic) -> None:
    counted = await messages.messages.count_tokens(model="claude", messages=HELLO)
    assert counted.input_tokens > 0
    assert claude.upstream.received == []


# OpenAI's responses

RESPONSES_TOOLS: Any = [
    {
        "type": "function",
        "name": "get_weather",
        "description": "The weather",
        "parameters": TOOL,
        "strict": True,
    }
]


async def test_responses(kit: Any, claude: Any, chat: openai.AsyncOpenAI) -> None:
    claude.answers({"text": "Hi"}, usage=CACHED)
    answer = await chat.responses.create(model="claude", input="Hello", instructions="Be brief.", store=False)
    assert (answer.output_text, answer.status) == ("Hi", "completed")
    assert answer.usage is not None and answer.usage.input_tokens_details.cached_tokens == 1400
    assert claude.upstream.received[0].json["system"] == [{"text": "Be brief."}]
    claude.streams(*kit.text_stream("Hel", "lo"))
    events = [
        event async for event in await chat.responses.create(model="claude", input="Hello", stream=True)
    ]
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == "Hello"
    assert events[-1].type == "response.completed"


async def test_responses_call_tools(kit: Any, claude: Any, chat: openai.AsyncOpenAI) -> None:
    claude.streams(*call_frames(kit))
    async with chat.responses.stream(model="claude", input="Hello", tools=RESPONSES_TOOLS) as stream:
        final = await stream.get_final_response()
    found = [item for item in final.output if item.type == "function_call"]
    assert [(item.call_id, json.loads(item.arguments)) for item in found] == [
        ("tooluse_1", {"city": "Paris"}),
        ("tooluse_2", {"city": "Rome"}),
    ]
    history: Any = [
        {"role": "user", "content": "Hello"},
        *(item.model_dump(exclude_none=True, exclude={"parsed_arguments"}) for item in final.output),
        *({"type": "function_call_output", "call_id": item.call_id, "output": "18"} for item in found),
    ]
    claude.answers({"text": "18."})
    answer = await chat.responses.create(model="claude", input=history, tools=RESPONSES_TOOLS)
    assert answer.output_text == "18."
    asked, sent = (received.json for received in claude.upstream.received)
    assert asked["toolConfig"]["tools"][0]["toolSpec"]["strict"] is True
    assert sent["messages"][1]["content"] == calls(kit)


async def test_responses_reason(kit: Any, claude: Any, chat: openai.AsyncOpenAI) -> None:
    claude.answers(THOUGHT, {"text": "Yes."})
    answer = await chat.responses.create(model="claude", input="Hello", reasoning={"effort": "low"})
    assert [item.type for item in answer.output] == ["reasoning", "message"]
    assert (
        claude.upstream.received[0].json["additionalModelRequestFields"]["thinking"]["budget_tokens"] == 2048
    )


async def test_responses_parse_structured_output(claude: Any, chat: openai.AsyncOpenAI) -> None:
    claude.answers({"text": '{"city":"Paris","degrees":18}'})
    answer = await chat.responses.parse(model="claude", input="Hello", text_format=Weather)
    assert answer.output_parsed == Weather(city="Paris", degrees=18)


async def test_responses_raise_where_a_stream_breaks(kit: Any, claude: Any, chat: openai.AsyncOpenAI) -> None:
    claude.streams(*kit.text_stream("Hi")[:2], Cut("rst"))
    with pytest.raises(openai.APIError):
        async for _ in await chat.responses.create(model="claude", input="Hello", stream=True):
            pass

"""Which targets can serve a request, in every dialect, and what a caller is told where none can."""

from __future__ import annotations

from typing import Any

import pytest

from lmg import Refusal

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
IMAGE = "data:image/png;base64,AAAA"
USER = "user"

CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"


def said(content: Any) -> list[dict[str, Any]]:
    return [{"role": USER, "content": content}]


BARE: dict[str, dict[str, Any]] = {
    CHAT: {"messages": said("hello")},
    RESPONSES: {"input": "hello"},
    MESSAGES: {"messages": said("hello"), "max_tokens": 50},
}
NEEDING: list[tuple[str, str, dict[str, Any]]] = [
    ("tools", CHAT, {"tools": [TOOL]}),
    ("tools", CHAT, {"functions": [{"name": "f"}]}),
    ("tools", RESPONSES, {"tools": [{"type": "function", "name": "f"}]}),
    ("tools", MESSAGES, {"tools": [{"name": "f", "input_schema": {"type": "object"}}]}),
    ("json_schema", CHAT, {"response_format": SCHEMA}),
    ("json_schema", RESPONSES, {"text": {"format": {"type": "json_schema", "name": "a", "schema": {}}}}),
    ("json_schema", MESSAGES, {"output_config": {"format": {"type": "json_schema", "schema": {}}}}),
    ("json_schema", MESSAGES, {"output_format": {"type": "json_schema", "schema": {}}}),
    ("vision", CHAT, {"messages": said([{"type": "image_url", "image_url": {"url": IMAGE}}])}),
    ("vision", RESPONSES, {"input": said([{"type": "input_image", "image_url": IMAGE}])}),
    (
        "vision",
        RESPONSES,
        {
            "input": [
                {
                    "type": "function_call_output",
                    "call_id": "c",
                    "output": [{"type": "input_image", "image_url": IMAGE}],
                }
            ]
        },
    ),
    (
        "vision",
        RESPONSES,
        {
            "input": [
                {
                    "type": "computer_call_output",
                    "call_id": "c",
                    "output": {"type": "computer_screenshot", "image_url": IMAGE},
                }
            ]
        },
    ),
    ("vision", MESSAGES, {"messages": said([{"type": "image", "source": {"type": "url", "url": "x"}}])}),
    (
        "vision",
        MESSAGES,
        {
            "messages": said(
                [{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image", "source": {}}]}]
            )
        },
    ),
    ("max_output_tokens", CHAT, {"max_tokens": 101}),
    ("max_output_tokens", CHAT, {"max_completion_tokens": 101}),
    ("max_output_tokens", RESPONSES, {"max_output_tokens": 101}),
    ("max_output_tokens", MESSAGES, {"max_tokens": 101}),
]
LESS = {"tools": False, "vision": False, "json_schema": False, "max_output_tokens": 100}
MORE = {"tools": True, "vision": True, "json_schema": True, "max_output_tokens": 1000}


@pytest.mark.parametrize(("what", "path", "fields"), NEEDING)
async def test_a_target_that_lacks_what_the_request_needs_is_left_out(
    board: Any, what: str, path: str, fields: dict[str, Any]
) -> None:
    facts = {"offering/a:m": LESS, "offering/b:m": MORE}
    table = await board({"a": {"priority": 1}, "b": {"priority": 2}}, facts=facts)
    assert await table.route(path=path, **BARE[path]) == ["offering/a:m", "offering/b:m"]
    assert await table.route(path=path, **{**BARE[path], **fields}) == ["offering/b:m"]
    assert table.dropped() == {"offering/a:m": (what, 400)}


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": []},
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "text"}},
        {"tools": None, "response_format": None, "max_tokens": None},
        {"messages": said([{"type": "text", "text": "the word image_url is no image"}])},
        {"max_tokens": 100},
    ],
)
async def test_what_only_looks_like_a_need_drops_nobody(board: Any, fields: dict[str, Any]) -> None:
    table = await board({"a": {}}, facts={"m": LESS})
    assert await table.route(**fields) == ["offering/a:m"]


ODD: list[Any] = [
    None,
    True,
    7,
    "text",
    [],
    {},
    [None],
    [7],
    [[]],
    {"type": []},
    [{"type": []}],
    {"format": 7},
]


@pytest.mark.parametrize(
    "key", ["tools", "response_format", "output_format", "text", "output_config", "max_tokens"]
)
@pytest.mark.parametrize("odd", ODD, ids=repr)
async def test_a_field_of_a_wrong_type_is_left_to_the_upstream_to_refuse(
    board: Any, key: str, odd: Any
) -> None:
    table = await board({"a": {}})
    assert await table.route(**{key: odd}) == ["offering/a:m"]


@pytest.mark.parametrize("odd", ODD, ids=repr)
async def test_content_of_a_wrong_type_is_left_to_the_upstream_to_refuse(board: Any, odd: Any) -> None:
    table = await board({"a": {}}, facts={"m": {"vision": False}})
    assert await table.route(messages=[{"role": USER, "content": odd}]) == ["offering/a:m"]


async def test_images_are_looked_for_no_deeper_than_one_can_stand(board: Any) -> None:
    table = await board({"a": {}}, facts={"m": {"vision": False}})
    nested: Any = [{"type": "image_url"}]
    for _ in range(50):
        nested = [{"type": "box", "content": nested}]
    assert await table.route(messages=said(nested)) == ["offering/a:m"]


# -- sizes ----------------------------------------------------------------------------------------


async def test_a_short_prompt_is_never_counted(board: Any) -> None:
    table = await board({"a": {}}, facts={"m": {"context_tokens": 1000}})

    class Uncounted:
        def estimate(self, text: str, model: str) -> int:
            raise AssertionError("its bytes fit")

    table.pipeline.host.tokenizer = Uncounted()
    assert await table.route() == ["offering/a:m"]


async def test_a_prompt_that_does_not_fit_goes_to_the_target_with_the_larger_window(board: Any) -> None:
    facts = {"offering/a:m": {"context_tokens": 1000}, "offering/b:m": {"context_tokens": 100_000}}
    table = await board({"a": {"priority": 1}, "b": {"priority": 2}}, facts=facts)
    assert (await table.route(messages=said("word " * 500)))[0] == "offering/a:m"
    assert await table.route(messages=said("word " * 2000)) == ["offering/b:m"]
    assert table.dropped() == {"offering/a:m": ("context_length", 400)}


async def test_the_answer_counts_too(board: Any) -> None:
    facts = {"offering/a:m": {"context_tokens": 1000}, "offering/b:m": {"context_tokens": 100_000}}
    table = await board({"a": {"priority": 1}, "b": {"priority": 2}}, facts=facts)
    assert await table.route(max_tokens=3000) == ["offering/b:m"]


async def test_what_is_over_by_less_than_the_estimate_is_wrong_by_is_tried_last(board: Any) -> None:
    facts = {"offering/a:m": {"context_tokens": 1000}, "offering/b:m": {"context_tokens": 100_000}}
    table = await board({"a": {"priority": 1}, "b": {"priority": 2}}, facts=facts)
    assert await table.route(messages=said("word " * 880)) == ["offering/b:m", "offering/a:m"]
    assert table.dropped() == {}


async def test_the_cap_of_policy_is_what_will_be_asked_for(board: Any) -> None:
    table = await board({"a": {}}, facts={"m": {"max_output_tokens": 100}}, bounds={"max_output_tokens": 80})
    assert await table.route(max_tokens=5000) == ["offering/a:m"]


@pytest.mark.parametrize("path", [CHAT, RESPONSES, MESSAGES])
async def test_a_prompt_that_fits_nowhere_is_refused_as_every_sdk_knows_it(board: Any, path: str) -> None:
    facts = {"offering/a:m": {"context_tokens": 500}, "offering/b:m": {"context_tokens": 1000}}
    table = await board({"a": {}, "b": {}}, facts=facts)
    long = "word " * 4000
    fields = {"input": long} if path == RESPONSES else {"messages": said(long), "max_tokens": 50}
    with pytest.raises(Refusal) as refused:
        await table.route(path=path, **fields)
    assert (refused.value.status, refused.value.code) == (400, "context_length_exceeded")
    assert "maximum context length is 1000 tokens" in refused.value.message
    assert "prompt is too long" in refused.value.message.lower()
    assert "word" not in refused.value.message + refused.value.reason
    assert (b"x-should-retry", b"false") in refused.value.headers
    assert "offering/a:m: context_length; offering/b:m: context_length" in refused.value.reason


async def test_counting_tokens_is_allowed_for_a_prompt_of_any_length(board: Any) -> None:
    table = await board({"a": {}}, facts={"m": {"context_tokens": 10, "tools": False}})
    fields = {"messages": said("word " * 5000), "tools": [{"name": "f", "input_schema": {}}]}
    assert await table.route(path="/v1/messages/count_tokens", **fields) == ["offering/a:m"]


async def test_embeddings_are_not_measured_against_the_window_of_one_text(board: Any) -> None:
    table = await board({"a": {}}, facts={"m": {"context_tokens": 10}})
    assert await table.route(path="/v1/embeddings", input=["a text " * 20] * 20) == ["offering/a:m"]


@pytest.mark.parametrize(
    ("facts", "fields", "code", "says"),
    [
        ({"tools": False}, {"tools": [TOOL]}, "capability_unavailable", "calls tools"),
        (
            {"vision": False},
            {"messages": said([{"type": "image_url", "image_url": {"url": IMAGE}}])},
            "capability_unavailable",
            "sees images",
        ),
        ({"json_schema": False}, {"response_format": SCHEMA}, "capability_unavailable", "JSON schema"),
        ({"max_output_tokens": 10}, {"max_tokens": 20}, "max_output_tokens_exceeded", "at most 10 tokens"),
    ],
)
async def test_a_need_that_nobody_meets_is_named(
    board: Any, facts: dict[str, Any], fields: dict[str, Any], code: str, says: str
) -> None:
    table = await board({"a": {}, "b": {}}, facts={"m": facts})
    with pytest.raises(Refusal) as refused:
        await table.route(**fields)
    assert (refused.value.status, refused.value.code) == (400, code)
    assert says in refused.value.message


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [
        ({"tools": False}, {"max_output_tokens": 10}, "max_output_tokens_exceeded"),
        ({"max_output_tokens": 10}, {"context_tokens": 20}, "context_length_exceeded"),
    ],
)
async def test_of_several_reasons_the_caller_is_told_what_is_easiest_to_change(
    board: Any, first: dict[str, Any], second: dict[str, Any], code: str
) -> None:
    table = await board({"a": {}, "b": {}}, facts={"offering/a:m": first, "offering/b:m": second})
    with pytest.raises(Refusal) as refused:
        await table.route(tools=[TOOL], max_tokens=50)
    assert refused.value.code == code


# -- what is not known ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unknown", "order"),
    [
        ("allow", ["offering/a:m", "offering/b:m"]),
        ("last", ["offering/b:m", "offering/a:m"]),
        ("drop", ["offering/b:m"]),
    ],
)
@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [TOOL]},
        {"response_format": SCHEMA},
        {"messages": said([{"type": "image_url", "image_url": {"url": IMAGE}}])},
        {"max_tokens": 5_000},
        {"messages": said("word " * 8_000)},
    ],
    ids=["tools", "schema", "image", "long answer", "long prompt"],
)
async def test_what_is_not_known_is_neither_yes_nor_no(
    board: Any, unknown: str, order: list[str], fields: dict[str, Any]
) -> None:
    facts = {"offering/b:m": {**MORE, "max_output_tokens": 10_000, "context_tokens": 100_000}}
    table = await board({"a": {"priority": 1}, "b": {"priority": 2}}, facts=facts, unknown=unknown)
    assert await table.route() == ["offering/a:m", "offering/b:m"]
    assert await table.route(**fields) == order


async def test_where_nothing_is_known_and_that_is_no_yes_the_request_is_refused(board: Any) -> None:
    table = await board({"a": {}}, unknown="drop")
    with pytest.raises(Refusal) as refused:
        await table.route(tools=[TOOL])
    assert (refused.value.status, refused.value.code) == (400, "capability_unavailable")

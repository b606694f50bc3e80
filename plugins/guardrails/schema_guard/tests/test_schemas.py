"""Our schemas: what every dialect takes passes, lenient and strict; a fault is found where it is."""

from __future__ import annotations

import copy
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmg.dialects.form import FEATURES
from lmg.dialects.registry import DIALECTS
from lmg.dialects.wire import Codec
from lmg.testing.wires import request_of
from lmg_schema_guard.compiled import compile_schema
from lmg_schema_guard.faults import Fault
from lmg_schema_guard.schemas import SHAPES, schema_of
from lmg_schema_guard.stated_schemas import REMEMBERED, REMEMBERED_BYTES, StatedSchemas
from lmg_schema_guard.tools import PLACES, mismatch

GUARDS: Final = {
    (name, strict): compile_schema(schema_of(shape, strict=strict))
    for name, shape in SHAPES.items()
    for strict in (False, True)
}
_HELLO: Final = [{"role": "user", "content": "Hello"}]
_SCHEMA: Final = {"type": "object", "properties": {"city": {"type": "string"}}}
_CALL: Final = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}

MINIMAL: Final[dict[str, dict[str, Any]]] = {
    "openai.chat": {"model": "m", "messages": _HELLO},
    "openai.responses": {"model": "m", "input": "Hello"},
    "openai.embeddings": {"model": "m", "input": "Hello"},
    "openai.images": {"model": "m", "prompt": "A cat"},
    "openai.image_edits": {"model": "m", "prompt": "A cat", "image": {"filename": "cat.png", "size": 3}},
    "openai.speech": {"model": "m", "input": "Hello", "voice": "alloy"},
    "openai.transcription": {"model": "m", "file": {"filename": "a.wav", "size": 3}},
    "openai.translation": {"model": "m", "file": {"filename": "a.wav", "size": 3}},
    "anthropic.messages": {"model": "m", "max_tokens": 16, "messages": _HELLO},
    "anthropic.count_tokens": {"model": "m", "messages": _HELLO},
    "rerank": {"model": "m", "query": "q", "documents": ["a"]},
}

MORE: Final[list[tuple[str, dict[str, Any]]]] = [
    ("openai.chat", {"temperature": 0, "top_p": 1, "stop": "END", "n": 1, "user": None, "tools": None, "response_format": None}),
    ("openai.chat", {"messages": [*_HELLO, {"role": "assistant", "content": None, "tool_calls": [_CALL]}, {"role": "tool", "tool_call_id": "c1", "content": "x"}]}),
    ("openai.chat", {"messages": [{"role": "system", "content": [{"type": "text", "text": "Be brief."}]}, {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}]}),
    ("openai.chat", {"functions": [{"name": "f", "parameters": _SCHEMA}], "function_call": {"name": "f"}}),
    ("openai.chat", {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": {"type": "function", "function": {"name": "f"}}}),
    ("openai.chat", {"stream": True, "stream_options": {"include_usage": True}, "routing_hint": "fast"}),
    ("openai.responses", {"input": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": [{"type": "output_text", "text": "Hi", "annotations": []}]}]}),
    ("openai.responses", {"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}], "previous_response_id": "resp_1"}),
    ("openai.responses", {"tools": [{"type": "mcp", "server_label": "x", "anything": 1}], "tool_choice": {"type": "mcp", "server_label": "x"}}),
    ("openai.embeddings", {"input": ["a", "b"], "dimensions": 8, "encoding_format": "float", "user": "u"}),
    ("openai.embeddings", {"input": [1, 2, 3]}),
    ("openai.embeddings", {"input": [[1, 2], [3]]}),
    ("openai.images", {"n": 1, "size": "1024x1024", "quality": "high", "output_format": "png", "stream": True, "partial_images": 2}),
    ("openai.image_edits", {"n": "2", "image[]": [{"filename": "a.png"}], "mask": {"filename": "m.png"}, "input_fidelity": "high"}),
    ("openai.image_edits", {"images": [{"image_url": "https://example.com/a.png"}]}),
    ("openai.speech", {"speed": 1.5, "instructions": "Softly.", "response_format": "mp3", "stream_format": "sse"}),
    ("openai.transcription", {"language": "en", "temperature": "0.2", "response_format": "verbose_json", "timestamp_granularities[]": ["word"], "stream": "true"}),
    ("openai.translation", {"prompt": "p", "temperature": "0"}),
    ("anthropic.messages", {"system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]}),
    ("anthropic.messages", {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}),
    ("anthropic.count_tokens", {"tools": [{"name": "f", "input_schema": _SCHEMA}], "tool_choice": {"type": "tool", "name": "f"}}),
    ("rerank", {"documents": ["a", {"text": "b"}], "top_n": 1, "return_documents": True}),
]  # fmt: skip


def valid_requests() -> list[tuple[str, str, dict[str, Any]]]:
    """Dialect, what it shows, and the request."""
    found = [(name, "minimal", body) for name, body in MINIMAL.items()]
    found += [(name, f"more-{n}", MINIMAL[name] | fields) for n, (name, fields) in enumerate(MORE)]
    for dialect in DIALECTS.values():
        for feature in FEATURES if isinstance(dialect, Codec) else ():
            body = request_of(dialect, feature)
            if body is not None and feature != "extra":
                found.append((dialect.name, feature, body))
    return found


VALID: Final = valid_requests()


def fault(dialect: str, body: Any, *, strict: bool = False) -> Fault | None:
    return GUARDS[dialect, strict].fault(body) or mismatch(dialect, body)


def test_every_dialect_of_the_kernel_has_a_schema() -> None:
    assert SHAPES.keys() == {dialect.name for dialect in DIALECTS.values()} == MINIMAL.keys()


@pytest.mark.parametrize(
    ("dialect", "body"), [(d, b) for d, _, b in VALID], ids=[f"{d}-{shown}" for d, shown, _ in VALID]
)
@pytest.mark.parametrize("strict", [False, True], ids=["lenient", "strict"])
def test_what_the_api_takes_passes(dialect: str, body: dict[str, Any], strict: bool) -> None:
    assert fault(dialect, body, strict=strict) is None
    stated = StatedSchemas(max_depth=32, max_nodes=1000)
    if dialect in PLACES:
        assert [stated.fault(*place) for place in PLACES[dialect].schemas(body) if place[1]] in ([], [None])


@pytest.mark.parametrize("dialect", SHAPES)
def test_a_field_that_nobody_knows_passes_lenient_and_is_refused_strict(dialect: str) -> None:
    body = MINIMAL[dialect] | {"x_secret_field": 1}
    assert fault(dialect, body) is None
    found = fault(dialect, body, strict=True)
    assert found == Fault(None, "The body has a field that is not known here.", "additionalProperties")
    near = fault(dialect, MINIMAL[dialect] | {"modell": 1}, strict=True)
    assert near is not None and near.message.endswith("(did you mean 'model'?).")


def message(**fields: Any) -> dict[str, Any]:
    return {"messages": [*_HELLO, {"role": "user", "content": "x"} | fields]}


def part(**fields: Any) -> dict[str, Any]:
    return message(content=[fields])


def item(**fields: Any) -> dict[str, Any]:
    return {"input": [{"role": "user", "content": "x"} | fields]}


FAULTS: list[tuple[str, dict[str, Any], str, str]] = [
    ("openai.chat", {"temperature": "hot"}, "temperature", "must be a number"),
    ("openai.chat", {"temperature": 2.1}, "temperature", "must be at most 2"),
    ("openai.chat", {"top_p": -0.1}, "top_p", "must be at least 0"),
    ("openai.chat", {"n": 0}, "n", "must be at least 1"),
    ("openai.chat", {"n": 1.5}, "n", "must be an integer"),
    ("openai.chat", {"max_tokens": True}, "max_tokens", "must be an integer"),
    ("openai.chat", {"stop": [1]}, "stop[0]", "must be a string"),
    ("openai.chat", {"stop": 1}, "stop", "must be a string or an array"),
    ("openai.chat", {"logit_bias": {"secret": 101}}, "logit_bias", "holds a value that is not valid"),
    ("openai.chat", {"metadata": {"secret": 1}}, "metadata", "holds a value that is not valid"),
    ("openai.chat", {"stream_options": []}, "stream_options", "must be an object"),
    ("openai.chat", {"tools": {}}, "tools", "must be an array"),
    ("openai.chat", {"tools": [{}]}, "tools[0].type", "is missing"),
    ("openai.chat", {"tools": [{"type": "function"}]}, "tools[0].function", "is missing"),
    ("openai.chat", {"tools": [{"type": "function", "function": {"name": ""}}]}, "tools[0].function.name", "must have at least 1 characters"),
    ("openai.chat", {"tool_choice": 1}, "tool_choice", "must be a string or an object"),
    ("openai.chat", {"response_format": {"type": "json_schema"}}, "response_format.json_schema", "is missing"),
    ("openai.chat", {"response_format": {"type": 1}}, "response_format.type", "must be a string"),
    ("openai.chat", message(content=1), "messages[1].content", "must be a string or an array"),
    ("openai.chat", message(content=["x"]), "messages[1].content[0]", "must be an object"),
    ("openai.chat", part(text="x"), "messages[1].content[0].type", "is missing"),
    ("openai.chat", part(type=7), "messages[1].content[0].type", "must be a string"),
    ("openai.chat", part(type="text"), "messages[1].content[0].text", "is missing"),
    ("openai.chat", part(type="text", text=1), "messages[1].content[0].text", "must be a string"),
    ("openai.chat", part(type="image_url", image_url="u"), "messages[1].content[0].image_url", "must be an object"),
    ("openai.chat", part(type="image_url", image_url={"url": 1}), "messages[1].content[0].image_url.url", "must be a string"),
    ("openai.chat", message(role="tool"), "messages[1].tool_call_id", "is missing"),
    ("openai.chat", message(role="assistant", tool_calls=[{"function": {}}]), "messages[1].tool_calls[0].id", "is missing"),
    ("openai.chat", message(role="tool", tool_call_id="secret"), "messages[1].tool_call_id", "refers to a tool call that no message before it makes"),
    ("openai.chat", {"tool_choice": {"type": "function", "function": {"name": "secret"}}}, "tool_choice.function.name", "names a tool that is not among 'tools'"),
    ("openai.chat", {"tools": [{"type": "function", "function": {"name": "secret"}}] * 2}, "tools[1].function.name", "is the name of another tool of this request already"),
    ("openai.responses", item(role=1), "input[0].role", "must be a string"),
    ("openai.responses", item(type=1), "input[0].type", "must be a string"),
    ("openai.responses", item(content=[{"type": "input_text"}]), "input[0].content[0].text", "is missing"),
    ("openai.responses", {"input": [{"type": "function_call", "call_id": "c", "name": "f"}]}, "input[0].arguments", "is missing"),
    ("openai.responses", {"input": [{"type": "function_call_output", "call_id": "secret", "output": ""}]}, "input[0].call_id", "refers to a tool call that no message before it makes"),
    ("openai.responses", {"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema", "is missing"),
    ("openai.responses", {"reasoning": {"effort": 1}}, "reasoning.effort", "must be a string"),
    ("openai.responses", {"tool_choice": {"type": "function", "name": "secret"}}, "tool_choice.name", "names a tool that is not among 'tools'"),
    ("openai.responses", {"tools": [{"type": "function"}]}, "tools[0].name", "is missing"),
    ("anthropic.messages", {"temperature": 1.5}, "temperature", "must be at most 1"),
    ("anthropic.messages", {"system": [{"type": "text"}]}, "system[0].text", "is missing"),
    ("anthropic.messages", {"stop_sequences": "END"}, "stop_sequences", "must be an array"),
    ("anthropic.messages", {"tools": [{"name": "f"}]}, "tools[0].input_schema", "is missing"),
    ("anthropic.messages", {"tools": [{"type": "custom", "name": "f"}]}, "tools[0].input_schema", "is missing"),
    ("anthropic.messages", {"thinking": {"type": "enabled"}}, "thinking.budget_tokens", "is missing"),
    ("anthropic.messages", {"tool_choice": {"type": "tool", "name": "secret"}}, "tool_choice.name", "names a tool that is not among 'tools'"),
    ("anthropic.messages", part(type="image", source={"type": "base64", "data": "x"}), "messages[1].content[0].source.media_type", "is missing"),
    ("anthropic.messages", part(type="tool_result", tool_use_id="secret"), "messages[1].content[0].tool_use_id", "refers to a tool call that no message before it makes"),
    ("anthropic.count_tokens", part(type="text"), "messages[1].content[0].text", "is missing"),
    ("openai.embeddings", {"input": [{}, None]}, "input[1]", "must be a string or an integer or an array or an object"),
    ("openai.embeddings", {"input": [[1, "secret"]]}, "input[0][1]", "must be an integer"),
    ("openai.embeddings", {"dimensions": 0}, "dimensions", "must be at least 1"),
    ("openai.images", {"n": "many"}, "n", "does not have the form that is expected"),
    ("openai.images", {"size": 1024}, "size", "must be a string"),
    ("openai.images", {"partial_images": 4}, "partial_images", "must be at most 3"),
    ("openai.image_edits", {"mask": 1}, "mask", "must be a string or an array or an object"),
    ("openai.speech", {"speed": 5}, "speed", "must be at most 4"),
    ("openai.speech", {"voice": 1}, "voice", "must be a string or an object"),
    ("openai.transcription", {"temperature": "warm"}, "temperature", "does not have the form that is expected"),
    ("openai.translation", {"response_format": 1}, "response_format", "must be a string"),
    ("rerank", {"documents": [1]}, "documents[0]", "must be a string or an object"),
    ("rerank", {"top_n": 0}, "top_n", "must be at least 1"),
]  # fmt: skip


@pytest.mark.parametrize(("dialect", "fields", "param", "said"), FAULTS)
@pytest.mark.parametrize("strict", [False, True], ids=["lenient", "strict"])
def test_a_fault_is_told_with_its_path_and_what_is_expected(
    dialect: str, fields: dict[str, Any], param: str, said: str, strict: bool
) -> None:
    found = fault(dialect, MINIMAL[dialect] | fields, strict=strict)
    assert found is not None
    assert (found.param, found.message) == (param, f"'{param}' {said}.")
    assert "secret" not in found.message


STRICT: list[tuple[str, dict[str, Any], str | None]] = [
    ("openai.chat", message(role="narrator"), "messages[1].role"),
    ("openai.chat", part(type="hologram"), "messages[1].content[0].type"),
    ("openai.chat", part(type="text", text="x", colour="red"), "messages[1].content[0]"),
    ("openai.chat", {"reasoning_effort": "gigantic"}, "reasoning_effort"),
    ("openai.responses", item(content=[{"type": "hologram"}]), "input[0].content[0].type"),
    ("openai.responses", item(type="hologram"), "input[0].type"),
    ("openai.responses", {"truncation": "hard"}, "truncation"),
    ("anthropic.messages", part(type="hologram"), "messages[1].content[0].type"),
    ("anthropic.messages", {"service_tier": "gold"}, "service_tier"),
    ("openai.images", {"quality": "great"}, "quality"),
]


@pytest.mark.parametrize(("dialect", "fields", "param"), STRICT)
def test_what_an_api_may_have_learned_since_is_refused_only_where_it_is_strict(
    dialect: str, fields: dict[str, Any], param: str | None
) -> None:
    assert fault(dialect, MINIMAL[dialect] | fields) is None
    found = fault(dialect, MINIMAL[dialect] | fields, strict=True)
    assert found is not None and found.param == param


# -- schemas that a request states ----------------------------------------------------------------


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


@pytest.mark.parametrize(
    ("schema", "rule"),
    [
        ({"type": "object", "properties": {"$ref": {"type": "string"}}}, None),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}}, None),
        ({"type": "number", "minimum": 0, "exclusiveMinimum": True}, None),  # draft 4
        ({"type": "object", "examples": [{"$ref": "https://example.com"}]}, None),
        (nested(31), None),
        (nested(32), "schema_depth"),
        ({"enum": list(range(100_000))}, None),
        ({"properties": {f"p{n}": True for n in range(1001)}}, "schema_size"),
        ({"properties": {"a": {"$ref": "https://example.com/secret"}}}, "schema_ref"),
        ({"$ref": "file:///etc/secret"}, "schema_ref"),
        ({"type": "secret"}, "stated_schema"),
        ({"properties": []}, "stated_schema"),
        ({"required": "secret"}, "stated_schema"),
    ],
)
def test_a_stated_schema_is_valid_bounded_and_its_own(schema: dict[str, Any], rule: str | None) -> None:
    found = StatedSchemas(max_depth=32, max_nodes=1000).fault("tools[0].parameters", schema)
    assert (found.rule if found is not None else None) == rule
    if found is not None:
        assert found.param == "tools[0].parameters" and "secret" not in found.message


def test_what_is_remembered_of_stated_schemas_is_bounded_and_only_what_is_good() -> None:
    stated = StatedSchemas(max_depth=32, max_nodes=1000)
    for n in range(REMEMBERED + 50):
        assert stated.fault("x", {"title": str(n)}) is None
        assert stated.fault("x", {"title": str(n)}) is None
        assert stated.fault("x", {"title": n}) is not None
    assert stated.fault("x", {"title": "a" * REMEMBERED_BYTES}) is None
    assert len(stated._good) == REMEMBERED


# -- fuzz -----------------------------------------------------------------------------------------

SECRET: Final = "caller-wrote-this"
JUNK = st.recursive(
    st.sampled_from([None, True, -1, 1.5, 10**30, SECRET, "", [], {}]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from([SECRET, "type", "role", "text"]), inner, max_size=2),
    max_leaves=4,
)  # fmt: skip


def spots(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(spot for key, item in inner for spot in spots(item, (*path, key)))] if path else [
        spot for key, item in inner for spot in spots(item, (key,))
    ]  # fmt: skip


@given(st.sampled_from(VALID), st.data())
def test_a_request_that_is_changed_anywhere_gets_an_answer_in_our_own_words(
    sample: tuple[str, str, dict[str, Any]], data: st.DataObject
) -> None:
    dialect, _, body = sample
    changed = copy.deepcopy(body)
    *way, last = data.draw(st.sampled_from(spots(changed)))
    parent: Any = changed
    for key in way:
        parent = parent[key]
    if data.draw(st.booleans()) and isinstance(last, str):
        parent[SECRET] = parent.pop(last)
    else:
        parent[last] = data.draw(JUNK)
    stated = StatedSchemas(max_depth=32, max_nodes=1000)
    for strict in (False, True):
        found = fault(dialect, changed, strict=strict)
        if found is None and dialect in PLACES:
            found = next((f for p in PLACES[dialect].schemas(changed) if (f := stated.fault(*p))), None)
        if found is not None:
            assert SECRET not in found.message and SECRET not in str(found.param)

"""What `POST /v1/responses` takes.

Source: OpenAI API reference, "Create a model response".
"""

from __future__ import annotations

from typing import Final

from .openai_chat import EFFORT, TIER
from .shapes import (
    ANY,
    BOOL,
    OBJECT,
    STR,
    Shape,
    arr,
    choice,
    integer,
    map_of,
    number,
    obj,
    tagged,
    text,
    text_or,
)

__all__ = ["RESPONSES"]

_DETAIL: Final = choice("auto", "low", "high", "original")
_CACHE: Final = {"prompt_cache_breakpoint": OBJECT}
_PARTS: Final = tagged(
    "type",
    {
        "input_text": obj("text", text=STR, **_CACHE),
        "input_image": obj("", image_url=STR, file_id=STR, detail=_DETAIL, **_CACHE),
        "input_file": obj(
            "", file_id=STR, file_url=STR, file_data=STR, filename=STR, detail=_DETAIL, **_CACHE
        ),
        "input_audio": obj("input_audio", input_audio=obj("data format", data=STR, format=STR)),
        "output_text": obj("text", text=STR, annotations=arr(OBJECT), logprobs=arr(OBJECT)),
        "refusal": obj("refusal", refusal=STR),
        "summary_text": obj("text", text=STR),
        "reasoning_text": obj("text", text=STR),
    },
)
_STATE: Final[dict[str, Shape]] = {"id": STR, "status": choice("in_progress", "completed", "incomplete")}

# Items of the hosted tools are passed back as they came: their fields are the API's own business.
_HOSTED: Final = (
    "web_search_call", "file_search_call", "computer_call", "computer_call_output", "image_generation_call",
    "code_interpreter_call", "local_shell_call", "local_shell_call_output", "shell_call", "shell_call_output",
    "apply_patch_call", "apply_patch_call_output", "mcp_list_tools", "mcp_approval_request", "mcp_approval_response", "mcp_call",
    "tool_search_call", "tool_search_output", "compaction", "item_reference",
)  # fmt: skip

_ITEMS: Final = tagged(
    "type",
    {
        "message": obj(
            "role content", **_STATE, role=choice("user", "assistant", "system", "developer"), content=text_or(_PARTS), phase=STR,
        ),
        "function_call": obj("call_id name arguments", **_STATE, call_id=STR, name=STR, arguments=STR, namespace=STR, caller=OBJECT),
        "function_call_output": obj("call_id output", **_STATE, call_id=STR, output=text_or(_PARTS)),
        "custom_tool_call": obj("call_id name input", **_STATE, call_id=STR, name=STR, input=STR, namespace=STR, caller=OBJECT),
        "custom_tool_call_output": obj("call_id output", **_STATE, call_id=STR, output=text_or(_PARTS)),
        "reasoning": obj("summary", **_STATE, summary=arr(_PARTS), content=arr(_PARTS), encrypted_content=STR),
        **dict.fromkeys(_HOSTED, OBJECT),
    },
    default="message",
)  # fmt: skip

_HOSTED_TOOLS: Final = (
    "web_search", "web_search_2025_08_26", "web_search_preview", "web_search_preview_2025_03_11", "file_search", "mcp",
    "code_interpreter", "image_generation", "local_shell", "shell", "apply_patch", "computer", "computer_use_preview", "namespace",
    "tool_search",
)  # fmt: skip
_TOOLS: Final = tagged(
    "type",
    {
        "function": obj(
            "name", name=text(1, 256), description=STR, parameters=OBJECT, strict=BOOL, defer_loading=BOOL
        ),
        "custom": obj("name", name=text(1, 256), description=STR, format=OBJECT, defer_loading=BOOL),
        **dict.fromkeys(_HOSTED_TOOLS, OBJECT),
    },
)
_FORMAT: Final = tagged(
    "type",
    {
        "text": obj(),
        "json_object": obj(),
        "json_schema": obj("name schema", name=text(1, 64), description=STR, schema=OBJECT, strict=BOOL),
    },
)

RESPONSES: Final = obj(
    "model",
    model=STR,
    input=text_or(_ITEMS),
    background=BOOL,
    context_management=arr(OBJECT),
    conversation={"type": ["string", "object"]},
    include=arr(STR),
    instructions=STR,
    max_output_tokens=integer(1),
    max_tool_calls=integer(1),
    metadata=map_of(STR),
    moderation=OBJECT,
    parallel_tool_calls=BOOL,
    previous_response_id=STR,
    prompt=obj("id", id=STR, version=STR, variables=OBJECT),
    prompt_cache_key=STR,
    prompt_cache_options=OBJECT,
    prompt_cache_retention=STR,
    reasoning=obj(
        "", effort=EFFORT, summary=choice("auto", "concise", "detailed"), generate_summary=STR, context=STR
    ),
    safety_identifier=STR,
    service_tier=TIER,
    store=BOOL,
    stream=BOOL,
    stream_options=obj("", include_obfuscation=BOOL),
    temperature=number(0, 2),
    text=obj("", format=_FORMAT, verbosity=choice("low", "medium", "high")),
    tool_choice={"type": ["string", "object"], "properties": {"type": STR, "name": STR}},
    tools=arr(_TOOLS),
    top_logprobs=integer(0, 20),
    top_p=number(0, 1),
    truncation=choice("auto", "disabled"),
    user=STR,
    routing_hint=ANY,
)

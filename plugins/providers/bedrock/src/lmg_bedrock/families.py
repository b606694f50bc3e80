"""What the models behind the Converse API differ in: one API, and as many opinions as makers.

Source: Amazon Bedrock user guide, "Inference request parameters and response fields", "Prompt caching",
"Get validated JSON results from models", "Adaptive thinking" and "Extended thinking"; Amazon Nova user guide.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from lmg.dialects.anthropic_messages.models import traits_of
from lmg.dialects.anthropic_messages.schema import strict_schema
from lmg.dialects.form import Chat
from lmg.dialects.wire import Support, support
from lmg.jsontext import Json

from .reasoning import Asked, claude, gpt, gpt_oss, nova

__all__ = ["ANY", "CLAUDE", "Family", "family_of"]

# What the API itself has a place for, whoever answers.
_ANY: Final = support(
    carried="""system developer tools tools.strict tool_choice.none tool_choice.required tool_choice.named tool_results.images
        json_schema image.base64 document.base64 document.text audio prefill refusal max_output_tokens temperature top_p stop
        metadata service_tier""",
    ignored="""names parallel_tool_calls tool_results.error image.detail document.citations reasoning reasoning.summary
        reasoning.history top_k min_p frequency_penalty presence_penalty seed cache_control prompt_cache_key user store verbosity
        truncation prediction include extra""",
    # Images and documents by URL: the API reads S3 with the gateway's own rights, and a caller has none of them.
    refused="""tools.hosted tools.custom json_object image.url image.file document.url document.file audio.out logit_bias logprobs
        n conversation background prompt_template""",
)


def _nothing(chat: Chat) -> Asked:
    return Asked()


def _as_it_is(schema: Json) -> Json:
    return schema


@dataclass(frozen=True, slots=True)
class Family:
    """How a request is written for the models of one maker.

    ``reason`` writes how much to reason, ``fields`` what else has no place in the API itself, by attribute of
    ``Chat``; ``nested`` is the member of ``additionalModelRequestFields`` that they stand in.
    """

    name: str
    support: Mapping[str, Support]
    reason: Callable[[Chat], Asked] = _nothing
    fields: Mapping[str, str] = field(default_factory=dict)
    nested: str = ""
    schema: Callable[[Json], Json] = _as_it_is
    caches_tools: bool = False
    caches_long: bool = False
    blank_stops: bool = True
    one_sampler: bool = False
    names_stops: bool = False
    """The model says which stop sequence ended its answer, where it is asked."""
    inclusive_streams: bool = False
    """Usage in streams counts cached tokens among the others, against the API's documentation."""


def _but(*, carried: str = "", ignored: str = "", refused: str = "") -> Mapping[str, Support]:
    """What any model takes, but for what is named."""
    table = dict(_ANY)
    ways: tuple[tuple[str, Support], ...] = (
        (carried, "carried"),
        (ignored, "ignored"),
        (refused, "refused"),
    )
    for text, how in ways:
        for feature in text.split():
            assert feature in table, feature
            table[feature] = how
    return table


ANY: Final = Family("any", _ANY)
"""For models that the gateway knows nothing of: what is not theirs is refused by Bedrock, in words."""

_UNSTRUCTURED: Final = Family("unstructured", _but(ignored="tools.strict", refused="json_schema"))
_NOVA: Final = Family(
    "nova",
    _but(carried="cache_control tool_results.error top_k", ignored="tools.strict", refused="json_schema"),
    fields={"top_k": "topK"},
    nested="inferenceConfig",
)
_NOVA_REASONING: Final = Family(
    "nova_reasoning",
    {**_NOVA.support, "reasoning": "carried"},
    nova,
    fields=_NOVA.fields,
    nested=_NOVA.nested,
)
_GPT_OSS: Final = Family("gpt_oss", _but(carried="reasoning"), gpt_oss)
_GPT: Final = Family("gpt", _but(carried="reasoning reasoning.history"), gpt, inclusive_streams=True)
_COHERE: Final = Family(
    "cohere",
    _but(
        carried="top_k seed frequency_penalty presence_penalty", ignored="tools.strict", refused="json_schema"
    ),
    fields={
        "top_k": "k",
        "seed": "seed",
        "frequency_penalty": "frequency_penalty",
        "presence_penalty": "presence_penalty",
    },
)

_VERSION: Final = re.compile(r"claude-(?:[a-z]+-)?(\d{1,2})(?!\d)(?:[.-](\d{1,2})(?!\d))?", re.ASCII)
_NEWEST: Final = (99, 0)


def _claude(model: str) -> Family:
    """The family of one Claude: they differ by version."""
    traits = traits_of(model)
    found = _VERSION.search(model)
    version = (int(found[1]), int(found[2] or 0)) if found else _NEWEST
    carried = "cache_control tool_results.error document.citations"
    ignored = refused = ""
    if traits.thinks != "no":
        carried += " reasoning reasoning.history"
    if traits.thinks == "adaptive":
        carried += " reasoning.summary"
    if traits.samples:
        carried += " top_k"
    else:
        ignored += " temperature top_p"
    if version >= (4, 5):
        carried += " parallel_tool_calls"
    else:
        ignored += " tools.strict"
        refused += " json_schema"
    if not traits.prefills:
        refused += " prefill"
    if not traits.forces:
        refused += " tool_choice.required tool_choice.named"
    return Family(
        "claude",
        _but(carried=carried, ignored=ignored, refused=refused),
        partial(claude, traits, off=version >= (5, 0)),
        fields={"top_k": "top_k"},
        schema=strict_schema,
        caches_tools=True,
        caches_long=version >= (4, 5),
        blank_stops=False,
        one_sampler=version >= (4, 1),
        names_stops=True,
    )


CLAUDE: Final = _claude("anthropic.claude-sonnet-4-6")
"""A Claude that takes all that a Claude may take, as an example."""

_FAMILIES: Final[tuple[tuple[re.Pattern[str], Callable[[str], Family]], ...]] = tuple(
    (re.compile(rf"(?:^|[./:]){pattern}"), family)
    for pattern, family in (
        (r"anthropic\.claude", _claude),
        (r"amazon\.nova-(?:micro|lite|pro|premier)-v1", lambda _: _NOVA),
        (r"amazon\.nova", lambda _: _NOVA_REASONING),
        (r"openai\.gpt-oss", lambda _: _GPT_OSS),
        (r"openai\.", lambda _: _GPT),
        (r"cohere\.", lambda _: _COHERE),
        (r"(?:amazon\.titan|meta\.|ai21\.|writer\.|deepseek\.r1)", lambda _: _UNSTRUCTURED),
    )
)


def family_of(model: str) -> Family:
    """The family of the model that Bedrock knows as ``model``: an id, an inference profile, or an ARN that holds one."""
    for pattern, family in _FAMILIES:
        if pattern.search(model):
            return family(model)
    return ANY


def fields_of(chat: Chat, family: Family) -> dict[str, Any]:
    """What of ``chat`` stands in ``additionalModelRequestFields`` only because the API has no place for it."""
    found = {
        theirs: value
        for ours, theirs in family.fields.items()
        if family.support[ours] == "carried" and (value := getattr(chat, ours)) is not None
    }
    return {family.nested: found} if found and family.nested else found

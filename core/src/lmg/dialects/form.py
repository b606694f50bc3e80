"""The intermediate form: what a chat request and its answer say, in no dialect's words.

Only used where the caller's dialect and the upstream's wire differ. A decoder notes in ``Chat.uses`` each
feature that a request uses, with the caller's own name for the place; ``wire.admit`` holds them against what
the wire can express. So what is not carried is refused or ignored by name, never lost by accident.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from ..jsontext import Json
from ..records import Usage

__all__ = [
    "FEATURES",
    "Audio",
    "Chat",
    "Choice",
    "Completion",
    "Counted",
    "Document",
    "End",
    "Finish",
    "FinishReason",
    "FormEvent",
    "Format",
    "Image",
    "Part",
    "PartBegin",
    "PartDelta",
    "PartEnd",
    "Reasoning",
    "ReasoningAsk",
    "Refused",
    "Start",
    "Text",
    "Tool",
    "ToolCall",
    "ToolChoice",
    "ToolResult",
    "Turn",
    "completion_of",
    "events_of",
]

FEATURES: dict[str, str] = {
    "system": "system messages",
    "developer": "developer messages, as a role of their own",
    "names": "names of speakers",
    "tools": "function tools, their calls and results",
    "tools.strict": "strict schemas of tools",
    "tools.hosted": "tools that the provider itself runs",
    "tools.custom": "tools with free-form input",
    "tool_choice.none": "no tool may be called",
    "tool_choice.required": "some tool must be called",
    "tool_choice.named": "this tool must be called",
    "parallel_tool_calls": "whether calls may come in parallel",
    "tool_results.images": "images and documents in tool results",
    "tool_results.error": "tool results marked as failed",
    "json_object": "any JSON object as the answer",
    "json_schema": "an answer that follows a JSON schema",
    "image.url": "images by URL",
    "image.base64": "images in the request",
    "image.file": "images by file id",
    "image.detail": "how closely to look at an image",
    "document.url": "documents by URL",
    "document.base64": "documents in the request",
    "document.text": "plain-text documents",
    "document.file": "documents by file id",
    "document.citations": "citations of documents",
    "audio": "audio in the request",
    "audio.out": "audio in the answer",
    "reasoning": "how much to reason",
    "reasoning.summary": "summaries of the reasoning",
    "reasoning.history": "reasoning of earlier turns, with signatures",
    "prefill": "an answer that is already begun",
    "refusal": "refusals of earlier turns",
    "max_output_tokens": "the longest answer",
    "temperature": "temperature",
    "top_p": "nucleus sampling",
    "top_k": "top-k sampling",
    "min_p": "min-p sampling",
    "frequency_penalty": "frequency penalty",
    "presence_penalty": "presence penalty",
    "logit_bias": "bias of single tokens",
    "logprobs": "log probabilities",
    "stop": "stop sequences",
    "seed": "seed",
    "n": "several answers at once",
    "cache_control": "where a prompt cache ends",
    "prompt_cache_key": "which prompts share a cache",
    "metadata": "metadata",
    "user": "the end user",
    "service_tier": "service tier",
    "store": "whether the provider keeps the answer",
    "verbosity": "verbosity",
    "truncation": "truncation of what does not fit",
    "conversation": "state that the provider keeps between requests",
    "background": "answers in the background",
    "prediction": "predicted output",
    "include": "further parts of the answer on demand",
    "prompt_template": "prompts that the provider keeps",
    "extra": "fields that the gateway does not know",
}
"""Every feature that a request may use, and what it is."""


# -- what stands in a turn ------------------------------------------------------------------------


@dataclass(slots=True)
class Text:
    """Plain text. ``citations`` are in Anthropic's words for places in documents, and ``url`` and ``title`` for
    pages of the web.
    """

    text: str
    cache: Json = None
    citations: list[Json] = field(default_factory=list)
    logprobs: Json = None


@dataclass(slots=True)
class Image:
    """An image: exactly one of ``url``, ``data`` (base64, with ``media_type``) and ``file_id``."""

    url: str = ""
    data: str = ""
    media_type: str = ""
    file_id: str = ""
    detail: str = ""
    cache: Json = None


@dataclass(slots=True)
class Document:
    """A document: exactly one of ``url``, ``data`` (base64, with ``media_type``), ``text`` and ``file_id``."""

    url: str = ""
    data: str = ""
    media_type: str = ""
    text: str = ""
    file_id: str = ""
    title: str = ""
    context: str = ""
    citations: bool = False
    cache: Json = None


@dataclass(slots=True)
class Audio:
    """Sound, in base64; ``format`` is ``wav``, ``mp3``, …"""

    data: str
    format: str


@dataclass(slots=True)
class ToolCall:
    """The model's call of a function; ``arguments`` is JSON text (any text where ``custom``)."""

    id: str
    name: str
    arguments: str
    custom: bool = False
    cache: Json = None


@dataclass(slots=True)
class ToolResult:
    """What a call brought."""

    call_id: str
    parts: list[Text | Image | Document]
    is_error: bool = False
    custom: bool = False
    cache: Json = None


@dataclass(slots=True)
class Reasoning:
    """What the model thought. ``signature`` belongs to ``text``; ``encrypted`` stands where there is no text."""

    text: str = ""
    signature: str = ""
    encrypted: str = ""
    id: str = ""

    @property
    def foreign(self) -> bool:
        """Whether what seals it is marked with a provider's name (``name:…``): any other would refuse it."""
        return ":" in (self.signature or self.encrypted)


@dataclass(slots=True)
class Refused:
    """The model's refusal."""

    text: str


Part = Text | Image | Document | Audio | ToolCall | ToolResult | Reasoning | Refused


@dataclass(slots=True)
class Turn:
    """One message. ``tool`` turns hold tool results only, ``assistant`` turns what a model wrote."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    parts: list[Part]
    name: str = ""


# -- what is asked for ----------------------------------------------------------------------------


@dataclass(slots=True)
class Tool:
    """A function that the model may call; ``schema`` is the JSON schema of its arguments.

    ``hosted`` is the whole definition of a tool that the provider itself runs.
    """

    name: str
    description: str = ""
    schema: Json = None
    strict: bool | None = None
    cache: Json = None
    custom: Json = None
    hosted: Json = None


@dataclass(slots=True)
class ToolChoice:
    """Which tools must be used; ``name`` only where ``mode`` is ``named``."""

    mode: Literal["auto", "none", "required", "named"]
    name: str = ""


@dataclass(slots=True)
class Format:
    """The form of the answer."""

    kind: Literal["json_object", "json_schema"]
    name: str = "answer"
    schema: Json = None
    strict: bool | None = None
    description: str = ""


@dataclass(slots=True)
class ReasoningAsk:
    """How much to reason: an effort in words, a budget in tokens, or off."""

    effort: str = ""
    budget_tokens: int | None = None
    enabled: bool = True
    summary: str = ""


@dataclass(slots=True)
class Chat:
    """One request. What is None or empty was not asked for.

    ``uses`` holds each feature that the request uses and where the caller wrote it; ``extra`` what the
    decoder did not know; ``output_limit`` what the target can write at most, where the catalogue knows.
    """

    model: str
    turns: list[Turn] = field(default_factory=list)
    tools: list[Tool] = field(default_factory=list)
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    format: Format | None = None
    reasoning: ReasoningAsk | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: Json = None
    logprobs: bool = False
    top_logprobs: int | None = None
    stop: list[str] = field(default_factory=list)
    seed: int | None = None
    n: int | None = None
    user: str = ""
    metadata: Json = None
    service_tier: str = ""
    store: bool | None = None
    verbosity: str = ""
    truncation: str = ""
    prompt_cache_key: str = ""
    stream: bool = False
    extra: dict[str, Json] = field(default_factory=dict)
    uses: dict[str, str] = field(default_factory=dict)
    output_limit: int | None = None

    def use(self, feature: str, where: str) -> None:
        """Notes that the request uses ``feature``, written by the caller at ``where`` (the first place counts)."""
        assert feature in FEATURES, feature
        self.uses.setdefault(feature, where)


# -- answers --------------------------------------------------------------------------------------

FinishReason = Literal["stop", "stop_sequence", "length", "tool_calls", "content_filter", "refusal", "pause"]


@dataclass(slots=True)
class Choice:
    """One answer of possibly several."""

    parts: list[Part] = field(default_factory=list)
    finish: FinishReason = "stop"
    stop_sequence: str = ""
    index: int = 0


@dataclass(slots=True)
class Completion:
    """A whole answer. ``created`` is in seconds since the epoch, 0 where the upstream did not say."""

    id: str
    model: str
    choices: list[Choice]
    usage: Usage | None = None
    created: int = 0
    service_tier: str = ""


@dataclass(frozen=True, slots=True)
class Start:
    """A stream has begun."""

    id: str
    model: str
    created: int = 0
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class PartBegin:
    """Part ``part`` of choice ``choice`` begins; ``id`` and ``name`` are those of a tool call (``id`` also of reasoning)."""

    choice: int
    part: int
    kind: Literal["text", "reasoning", "tool_call", "refusal"]
    id: str = ""
    name: str = ""
    custom: bool = False


@dataclass(frozen=True, slots=True)
class PartDelta:
    """More of a part: text (of a tool call, of its arguments), a citation, or the signature of reasoning."""

    choice: int
    part: int
    text: str = ""
    signature: str = ""
    encrypted: str = ""
    citation: Json = None
    logprobs: Json = None


@dataclass(frozen=True, slots=True)
class PartEnd:
    """A part is complete."""

    choice: int
    part: int


@dataclass(frozen=True, slots=True)
class Finish:
    """A choice is complete."""

    choice: int
    reason: FinishReason
    stop_sequence: str = ""


@dataclass(frozen=True, slots=True)
class Counted:
    """What was used so far, or in all."""

    usage: Usage


@dataclass(frozen=True, slots=True)
class End:
    """The answer is complete: the upstream said so."""


FormEvent = Start | PartBegin | PartDelta | PartEnd | Finish | Counted | End


def completion_of(events: Iterable[FormEvent]) -> Completion:
    """The whole answer that a stream amounts to."""
    whole = Completion("", "", [])
    choices: dict[int, Choice] = {}
    parts: dict[tuple[int, int], Part] = {}
    for event in events:
        if isinstance(event, Start):
            whole.id, whole.model, whole.created = event.id, event.model, event.created
            whole.usage = event.usage
        elif isinstance(event, PartBegin):
            choice = choices.setdefault(event.choice, Choice(index=event.choice))
            part = parts[event.choice, event.part] = _new_part(event)
            choice.parts.append(part)
        elif isinstance(event, PartDelta):
            _extend(parts[event.choice, event.part], event)
        elif isinstance(event, Finish):
            choice = choices.setdefault(event.choice, Choice(index=event.choice))
            choice.finish, choice.stop_sequence = event.reason, event.stop_sequence
        elif isinstance(event, Counted):
            whole.usage = event.usage
    whole.choices = [choices[index] for index in sorted(choices)]
    return whole


def _new_part(event: PartBegin) -> Part:
    if event.kind == "tool_call":
        return ToolCall(event.id, event.name, "", event.custom)
    if event.kind == "reasoning":
        return Reasoning(id=event.id)
    return Refused("") if event.kind == "refusal" else Text("")


def _extend(part: Part, delta: PartDelta) -> None:
    if isinstance(part, ToolCall):
        part.arguments += delta.text
    elif isinstance(part, Reasoning):
        part.text += delta.text
        part.signature += delta.signature
        part.encrypted += delta.encrypted
    elif isinstance(part, Text | Refused):
        part.text += delta.text
        if isinstance(part, Text) and delta.citation is not None:
            part.citations.append(delta.citation)
        if isinstance(part, Text) and delta.logprobs is not None:
            known = part.logprobs if type(part.logprobs) is list else []
            part.logprobs = [*known, *(delta.logprobs if type(delta.logprobs) is list else [])]


def events_of(completion: Completion) -> Sequence[FormEvent]:
    """A whole answer as the events of a stream: one delta a part."""
    start_usage = replace(completion.usage, output_tokens=0) if completion.usage is not None else None
    out: list[FormEvent] = [Start(completion.id, completion.model, completion.created, start_usage)]
    for choice in completion.choices:
        n = choice.index
        for m, part in enumerate(choice.parts):
            if isinstance(part, ToolCall):
                out.append(PartBegin(n, m, "tool_call", part.id, part.name, part.custom))
                out.append(PartDelta(n, m, part.arguments))
            elif isinstance(part, Reasoning):
                out.append(PartBegin(n, m, "reasoning", part.id))
                if part.text:
                    out.append(PartDelta(n, m, part.text))
                if part.signature or part.encrypted:
                    out.append(PartDelta(n, m, "", part.signature, part.encrypted))
            elif isinstance(part, Refused):
                out += [PartBegin(n, m, "refusal"), PartDelta(n, m, part.text)]
            elif isinstance(part, Text):
                out += [PartBegin(n, m, "text"), PartDelta(n, m, part.text, logprobs=part.logprobs)]
                out += [PartDelta(n, m, citation=citation) for citation in part.citations]
            else:
                continue  # what a model cannot write
            out.append(PartEnd(n, m))
        out.append(Finish(n, choice.finish, choice.stop_sequence))
    if completion.usage is not None:
        out.append(Counted(completion.usage))
    out.append(End())
    return out

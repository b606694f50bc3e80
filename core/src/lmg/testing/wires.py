"""Checks of a translation: goldens that a person reviews, cells of the matrix, and streams cut at every place."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Final

import orjson
import yaml

from ..dialects.form import FEATURES, Completion, End, FormEvent, completion_of, events_of
from ..dialects.wire import Codec, Unsupported, Wire, admit
from ..sse import EventSplitter
from .samples import ANSWERS, SAMPLES, WRITTEN

__all__ = [
    "cell",
    "check_golden",
    "check_split_points",
    "decoded",
    "golden_answer",
    "golden_pair",
    "golden_request",
    "request_of",
    "shown",
    "streamed",
]


AS_ANOTHER: Final = {"developer": "a system message", "refusal": "text"}
"""Features that a wire may carry as something else: what they say arrives, that they are of their own kind does not."""


def request_of(dialect: Codec, feature: str) -> dict[str, Any] | None:
    """A request in ``dialect`` that uses ``feature``; None where it has no words for it."""
    written = WRITTEN.get(dialect.name, {}).get(feature)
    if written is not None:
        return written
    sample = SAMPLES.get(feature)
    if sample is None or dialect.support[feature] != "carried":
        return None
    body = dialect.encode_request(sample)
    if feature in AS_ANOTHER and feature not in dialect.decode_request(body).uses:
        return None
    return body


def cell(dialect: Codec, wire: Wire, feature: str) -> str:
    """What becomes of ``feature`` from ``dialect`` to ``wire``: ``carried``, ``refused (field)``, ``ignored (field)``, or
    ``""`` where the dialect has no words for it. Computed from a request, not read from a table.
    """
    body = request_of(dialect, feature)
    if body is None:
        return ""
    try:
        chat = dialect.decode_request(body)
    except Unsupported as error:
        return f"refused ({error.param})"
    assert feature in chat.uses, f"{dialect.name} does not notice {feature}"
    try:
        ignored = admit(wire, chat)
    except Unsupported as error:
        return f"refused ({error.param})"
    written = wire.encode_request(chat)
    unsaid = chat.uses[feature] in ignored or (feature == "extra" and bool(ignored))
    if unsaid and isinstance(wire, Codec) and feature not in ("extra", "prefill"):
        assert feature not in wire.decode_request(written).uses, (
            f"{feature} is sent to {wire.name} all the same"
        )
    if unsaid:
        return f"ignored ({chat.uses[feature] if feature != 'extra' else ignored[0]})"
    if isinstance(wire, Codec) and feature not in wire.decode_request(written).uses:
        assert feature in AS_ANOTHER, f"{feature} is lost from {dialect.name} to {wire.name}"
        return f"carried (as {AS_ANOTHER[feature]})"
    return "carried"


# -- goldens --------------------------------------------------------------------------------------


def shown(value: object) -> str:
    """A form as text: only what is not a default, an indented line each."""
    return yaml.safe_dump(_plain(value), sort_keys=False, allow_unicode=True, width=110)


def _plain(value: object) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        kept = {field.name: getattr(value, field.name) for field in fields(value)}
        for field in fields(value):
            default = field.default_factory() if field.default_factory is not MISSING else field.default
            if kept[field.name] == default:
                del kept[field.name]
        return {type(value).__name__: _plain(kept)}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _json(value: object) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n"


def golden_request(wire: Wire, feature: str) -> str | None:
    """A request with ``feature``: of a dialect what a client sends and what it says, of a wire what is sent upstream."""
    if isinstance(wire, Codec):
        body = request_of(wire, feature)
        if body is None:
            return None
        try:
            said = shown(wire.decode_request(body))
        except Unsupported as error:
            said = f"refused: {error.param}\n"
        return f"# {wire.name}: {FEATURES[feature]}\n\n## request\n\n{_json(body)}\n## form\n\n{said}"
    sample = SAMPLES.get(feature)
    if sample is None or wire.support[feature] != "carried":
        return None
    body = wire.encode_request(sample)
    return f"# {wire.name}: {FEATURES[feature]}\n\n## form\n\n{shown(sample)}\n## request\n\n{_json(body)}"


def golden_answer(wire: Codec, name: str) -> str:
    """An answer: its form, and what a client gets, whole and streamed."""
    completion = ANSWERS[name]
    events = streamed(wire, completion).decode()
    whole = _json(wire.encode_answer(completion))
    return f"# {wire.name}: {name}\n\n## form\n\n{shown(completion)}\n## answer\n\n{whole}\n## events\n\n{events}"


def golden_pair(dialect: Codec, wire: Wire, request: dict[str, Any], answer: Any) -> str:
    """A whole exchange: the client's request, what goes upstream, the upstream's answer, what the client gets."""
    chat = dialect.decode_request(request)
    ignored = admit(wire, chat)
    sent = wire.encode_request(chat)
    completion = wire.decode_answer(answer)
    completion.created = completion.created or 1760000000  # where the upstream does not say, it is now
    back = dialect.encode_answer(completion)
    note = f"ignored: {', '.join(ignored)}\n\n" if ignored else ""
    return (
        f"# {dialect.name} to {wire.name}\n\n## the client's request\n\n{_json(request)}\n## the request upstream\n\n{note}{_json(sent)}"
        f"\n## the upstream's answer\n\n{_json(answer)}\n## the client's answer\n\n{_json(back)}"
    )


def check_golden(path: Path, text: str) -> None:
    """Compares with the file at ``path``; with ``UPDATE_GOLDEN=1`` in the environment it is written instead."""
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert path.exists(), f"{path} is missing: run the test with UPDATE_GOLDEN=1, and read what it writes"
    assert path.read_text() == text, f"{path} differs: run the test with UPDATE_GOLDEN=1, and read the diff"


# -- streams --------------------------------------------------------------------------------------


def streamed(dialect: Codec, completion: Completion) -> bytes:
    """``completion`` as the events that a client of ``dialect`` gets."""
    return _written(dialect, events_of(completion))


def decoded(wire: Wire, chunks: Sequence[bytes]) -> list[FormEvent]:
    """The events that a stream amounts to, cut as ``chunks`` are."""
    splitter, decoder = EventSplitter(), wire.decoder()
    out: list[FormEvent] = []
    for chunk in chunks:
        for sse in splitter.feed(chunk):
            out += decoder.feed(sse)
    for sse in splitter.finish():
        out += decoder.feed(sse)
    if not any(isinstance(event, End) for event in out):
        out += decoder.finish()
    return out


def check_split_points(
    wire: Wire, stream: bytes, dialects: Sequence[Codec], cut: Callable[[bytes], bytes] = lambda data: data
) -> Completion:
    """Cuts ``stream`` at every place and into single bytes: every dialect gives what the uncut one gives.

    ``cut`` is applied to each piece's bytes first, for wires whose framing is turned into events. Returns the answer.
    """
    whole = decoded(wire, [cut(stream)])
    written = {dialect.name: _written(dialect, whole) for dialect in dialects}
    cuts = [[stream[:n], stream[n:]] for n in range(1, len(stream))]
    for pieces in [*cuts, [stream[n : n + 1] for n in range(len(stream))]]:
        assert decoded(wire, [cut(piece) for piece in pieces]) == whole
    for dialect in dialects:
        assert decoded(dialect, [written[dialect.name]])[-1] == End()
    return completion_of(whole)


def _written(dialect: Codec, events: Sequence[FormEvent]) -> bytes:
    encoder = dialect.encoder()
    return b"".join(raw for event in events for raw in encoder.feed(event))

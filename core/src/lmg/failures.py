"""What a failed attempt is to ``on_failure`` and, when nothing helps, to the client: one table."""

from __future__ import annotations

import re
from typing import Any, Final

import orjson

from .errors import Refusal, UpstreamError
from .provider import Reply

__all__ = ["StatusFailure", "kind_of_status", "refusal_of_failure", "retry_after_s", "scrub"]

KEPT: Final = frozenset({400, 403, 404, 408, 409, 413, 422, 429, 502, 503, 504})
_URL: Final = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s'\"<>)\]]+", re.IGNORECASE)
_ADDRESS: Final = re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b|\[[0-9a-fA-F:]{2,}\](?::\d+)?")
_HOST: Final = re.compile(
    r"\b(?:[a-z0-9-]+\.)+(?:com|net|org|io|ai|dev|cloud|local|internal|lan|svc|example)\b(?::\d+)?",
    re.IGNORECASE,
)
_LOCAL: Final = re.compile(
    r"\blocalhost(?::\d+)?\b|(?<![\w:])(?:[0-9a-f]{1,4}(?::[0-9a-f]{0,4}){4,7}|[0-9a-f]{0,4}::[0-9a-f:]*)(?![\w:])",
    re.IGNORECASE,
)
_KEY: Final = re.compile(r"\b(?:sk|gsk|pk|rk|key|org|hf|ghp|Bearer|Basic)[-_ ][A-Za-z0-9*._+/=-]{6,}")
# JSON web tokens, and long runs of letters and digits that no word of a message is.
_TOKEN: Final = re.compile(r"\beyJ[\w-]{5,}(?:\.[\w-]+)*|\b(?=[A-Za-z_-]*\d)[A-Za-z0-9_-]{32,}\b")
_PATH: Final = re.compile(r"(?<![\w/])/(?:[\w.@+-]+/)+[\w.@+-]+|\b[A-Za-z]:\\[^\s'\"]+")
_CLASS: Final = re.compile(r"\b(?:[a-z_]\w*\.)+[A-Z]\w*|\b[A-Z]\w*(?:Error|Exception|Warning)\b")
_TRACE: Final = re.compile(r"Traceback \(most recent call last\).*|File \"[^\"]*\".*", re.DOTALL)
_PLAIN: Final = re.compile(r"[a-z][a-z0-9_.-]{0,63}")


class StatusFailure(UpstreamError):
    """The upstream answered, with an error status."""

    def __init__(self, reply: Reply) -> None:
        super().__init__("status", kind_of_status(reply.status, reply.body or b""), f"status {reply.status}")
        self.reply = reply


def scrub(text: str) -> str:
    """An upstream's error text without addresses, hosts, keys, paths, classes and tracebacks; at most 2,000 characters."""
    # Bounded before the patterns run over it, so that the text cannot make them slow.
    text = _TRACE.sub("[removed]", text[:4000])
    for pattern in (_URL, _ADDRESS, _HOST, _LOCAL, _KEY, _TOKEN, _PATH, _CLASS):
        text = pattern.sub("[removed]", text)
    return text[:2000]


def kind_of_status(status: int, body: bytes) -> str:
    """The stable kind of a failure with an HTTP status; classes that a fallback treats apart are recognised."""
    lowered = body[:4096].lower()
    if status in (400, 413, 422) and any(
        mark in lowered
        for mark in (b"context_length", b"context length", b"maximum context", b"exceed_context")
    ):
        return "context_length"
    if status in (400, 403) and any(
        mark in lowered for mark in (b"content_filter", b"content_policy", b"content management policy")
    ):
        return "content_filter"
    if status == 429:
        return "rate_limited"
    if status in (401, 402):
        return "credential"
    if status in (503, 529):
        return "overloaded"
    if status in (408, 504):
        return "timeout"
    return "status" if status >= 500 or status < 400 else "bad_request"


def retry_after_s(reply: Reply) -> float | None:
    """Seconds that the upstream asks to wait: ``retry-after-ms``, else ``retry-after`` in seconds."""
    for name, unit in ((b"retry-after-ms", 1000.0), (b"retry-after", 1.0)):
        value = reply.header(name)
        if value is not None:
            try:
                seconds = float(value) / unit
            except ValueError:
                continue
            if 0 <= seconds < 86_400 * 30:
                return seconds
    return None


def refusal_of_failure(error: UpstreamError | None, reply: Reply | None, skip: str | None) -> Refusal:
    """The refusal that a client gets for the last failed attempt."""
    if reply is not None:
        return _of_reply(reply)
    if skip is not None:
        return Refusal(
            503,
            "no_target",
            "No model is available for this request at the moment.",
            type="server_error",
            reason=f"skipped: {skip}",
        )
    assert error is not None
    if error.kind == "timeout":
        return Refusal(
            504,
            "upstream_timeout",
            "The model did not answer in time.",
            type="server_error",
            reason=str(error),
        )
    if error.stage == "connect":
        return Refusal(
            503 if error.kind == "pool_exhausted" else 502,
            "upstream_unreachable",
            "The model cannot be reached.",
            type="server_error",
            reason=str(error),
        )
    return Refusal(
        502,
        "upstream_error",
        "The model's answer broke off or could not be understood.",
        type="server_error",
        reason=str(error),
    )


def _of_reply(reply: Reply) -> Refusal:
    status = reply.status
    stated: dict[str, Any] = {}
    try:
        value = orjson.loads(reply.body or b"")
        found = value.get("error", value) if type(value) is dict else {}
        stated = found if type(found) is dict else {"message": str(found)}
    except orjson.JSONDecodeError:
        pass
    headers = tuple(
        (name, value) for name, value in reply.headers
        if name in (b"retry-after", b"retry-after-ms", b"x-should-retry") or name.startswith((b"x-ratelimit-", b"anthropic-ratelimit-"))
    )  # fmt: skip
    if status in (401, 402):
        return Refusal(
            502, "upstream_credential", "The gateway's own account with the model's provider was refused.",
            type="server_error", reason=f"upstream answered {status}", headers=((b"x-should-retry", b"false"),),
        )  # fmt: skip
    if status == 529:
        mapped = 503
    elif status in KEPT or 400 <= status < 500:
        mapped = status
    else:
        mapped = 502
    message = stated.get("message")
    code, type_, param = stated.get("code"), stated.get("type"), stated.get("param")
    kept = mapped == status
    if not kept:
        # The status is the gateway's own then: of the rest, only what reads like a published code stays.
        code, type_, param = (
            v if isinstance(v, str) and _PLAIN.fullmatch(v) else None for v in (code, type_, param)
        )
    return Refusal(
        mapped,
        scrub(str(code)) if code is not None else ("upstream_error" if mapped >= 500 else "upstream_refused"),
        scrub(message)
        if kept and isinstance(message, str) and message
        else "The model's provider reported an error.",
        type=scrub(type_)
        if isinstance(type_, str)
        else ("server_error" if mapped >= 500 else "invalid_request_error"),
        param=scrub(param) if isinstance(param, str) else None,
        reason=f"upstream answered {status}",
        headers=headers,
    )

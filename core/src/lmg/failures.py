"""What a failed attempt is to ``on_failure`` and, when nothing helps, to the client: one table."""

from __future__ import annotations

import re
from typing import Final

from .dialects import Dialect
from .dialects.registry import PLAIN
from .dialects.wire import Fault, Unsupported, Wire
from .errors import Refusal, UpstreamError
from .provider import Reply

__all__ = ["StatusFailure", "fault_of", "kind_of_status", "refusal_of_failure", "scrub"]

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
    """The upstream answered, with an error status; ``fault`` is what its body says."""

    def __init__(self, reply: Reply, fault: Fault) -> None:
        super().__init__("status", kind_of_status(reply.status, fault), f"status {reply.status}")
        self.reply = reply
        self.fault = fault


def scrub(text: str) -> str:
    """An upstream's error text without addresses, hosts, keys, paths, classes and tracebacks; at most 2,000 characters."""
    # Bounded before the patterns run over it, so that the text cannot make them slow.
    text = _TRACE.sub("[removed]", text[:4000])
    for pattern in (_URL, _ADDRESS, _HOST, _LOCAL, _KEY, _TOKEN, _PATH, _CLASS):
        text = pattern.sub("[removed]", text)
    return text[:2000]


def fault_of(wire: Dialect | Wire, status: int, body: bytes) -> Fault:
    """What an error body says, read as ``wire`` writes it."""
    return wire.fault(status, body) if isinstance(wire, Wire) else PLAIN.fault(status, body)


def kind_of_status(status: int, fault: Fault) -> str:
    """The stable kind of a failure with an HTTP status; classes that a fallback treats apart are recognised."""
    if fault.kind:
        return fault.kind
    if status == 429:
        return "rate_limited"
    if status in (401, 402):
        return "credential"
    if status in (503, 529):
        return "overloaded"
    if status in (408, 504):
        return "timeout"
    return "status" if status >= 500 or status < 400 else "bad_request"


def refusal_of_failure(
    error: UpstreamError | None, skip: str | None, kept_statuses: frozenset[int] = frozenset()
) -> Refusal:
    """The refusal that a client gets for the last failed attempt; ``kept_statuses`` are those only its dialect knows."""
    if isinstance(error, StatusFailure):
        return _of_reply(error.reply, error.fault, kept_statuses)
    if isinstance(error, Unsupported):
        return Refusal(
            400,
            "unsupported_field",
            f"'{error.param}' cannot be carried over to the provider of this model. Leave it out, or ask for another model.",
            param=error.param,
            reason=str(error),
            headers=((b"x-should-retry", b"false"),),
        )
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
    if error.kind == "credential":
        return _credential(str(error))
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


def _credential(reason: str) -> Refusal:
    return Refusal(
        502, "upstream_credential", "The gateway's own account with the model's provider was refused.",
        type="server_error", reason=reason, headers=((b"x-should-retry", b"false"),),
    )  # fmt: skip


def _of_reply(reply: Reply, fault: Fault, kept_statuses: frozenset[int]) -> Refusal:
    status = reply.status
    headers = tuple(
        (name, value) for name, value in reply.headers
        if name in (b"retry-after", b"retry-after-ms", b"x-should-retry") or name.startswith((b"x-ratelimit-", b"anthropic-ratelimit-"))
    )  # fmt: skip
    if status in (401, 402) or fault.kind == "credential":
        return _credential(f"upstream answered {status}")
    if status == 529 and status not in kept_statuses:
        mapped = 503
    elif status in KEPT or status in kept_statuses or 400 <= status < 500:
        mapped = status
    else:
        mapped = 502
    message = fault.message
    code, type_, param = fault.code, fault.type, fault.param
    if fault.kind == "context_length":
        code = "context_length_exceeded"  # the one class that clients of every dialect look for by name
    elif fault.kind == "content_filter" and code is None:
        code = "content_filter"
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

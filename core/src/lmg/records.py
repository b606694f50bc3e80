"""What an exchange is made of: who asks, where it may go, how each attempt ended, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, Literal, TypeVar

from .errors import UpstreamError
from .jsontext import JsonText

__all__ = [
    "UNBOUNDED",
    "Attempt",
    "Bounds",
    "Capabilities",
    "Failure",
    "Head",
    "Operation",
    "Outcome",
    "Prices",
    "Principal",
    "Receipt",
    "Slot",
    "Target",
    "TlsPeer",
    "Tried",
    "Usage",
]

Operation = Literal["chat", "embeddings", "rerank", "images", "speech", "transcription", "count_tokens"]
T = TypeVar("T")


class Slot(Generic[T]):
    """A component's own typed, private place on the exchange: keyed by identity, never by name.

    >>> seen = Slot[int]("seen")
    >>> exchange[seen] = 1
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks, and what the credential itself allows; policies may allow less.

    ``models`` and ``operations`` are None where the credential has no list of its own; a name in ``models`` may hold
    ``*`` for any run of characters. ``scopes`` holds ``admin`` for operators. ``budget_class`` names the class of
    budgets that the caller spends from, ``attributes`` what else is known of it (a department, a clearance).
    """

    subject: str
    tenant: str = "default"
    roles: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    models: frozenset[str] | None = None
    issuer: str = ""
    key_id: str = ""
    expires_at: float | None = None
    operations: frozenset[str] | None = None
    budget_class: str = ""
    attributes: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict, hash=False)

    def may_use(self, model: str) -> bool:
        """Whether the credential's own list allows ``model``."""
        models = self.models
        if models is None or model in models:
            return True
        return any("*" in pattern and fits(pattern, model) for pattern in models)


def fits(pattern: str, text: str) -> bool:
    """Whether ``text`` is ``pattern``, in which ``*`` stands for any run of characters and nothing else is special."""
    first, *rest = pattern.split("*")
    if not rest:
        return text == pattern
    if not text.startswith(first) or len(text) < len(first) + len(rest[-1]) or not text.endswith(rest[-1]):
        return False
    at, end = len(first), len(text) - len(rest[-1])
    for piece in rest[:-1]:
        found = text.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True


@dataclass(frozen=True, slots=True)
class TlsPeer:
    """The verified client certificate of a mutual-TLS connection.

    ``subject`` is its distinguished name with the long names of attributes, values escaped by RFC 4514 §2.4; ``sans`` are
    ``kind:value``; ``sha256`` is the digest of the whole certificate (DER), in hex.
    """

    subject: str
    sans: tuple[str, ...]
    serial: str
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Head:
    """The request's head as it stood when it was complete; trailers never join it."""

    method: str
    path: str
    headers: Sequence[tuple[bytes, bytes]]
    client: str = ""
    tls: TlsPeer | None = None

    def get(self, name: bytes) -> bytes | None:
        """The first value of the header ``name`` (lower case), or None."""
        for key, value in self.headers:
            if key == name:
                return value
        return None

    def all(self, name: bytes) -> list[bytes]:
        """Every value of the header ``name`` (lower case), in order."""
        return [value for key, value in self.headers if key == name]


@dataclass(slots=True)
class Usage:
    """Tokens, as the upstream counted them or, where it did not say, ``estimated``.

    ``input_tokens`` includes those read from a cache and those written to one, ``output_tokens`` the
    reasoning ones.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = True
    cache_write_tokens: int = 0

    def plus(self, other: Usage) -> Usage:
        """Both together; estimated where one of them is."""
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            self.estimated or other.estimated,
            self.cache_write_tokens + other.cache_write_tokens,
        )


@dataclass(frozen=True, slots=True)
class Prices:
    """What a model costs, in nano-dollars per million tokens (1 USD per million is 1,000,000,000).

    ``cache_read`` and ``cache_write`` are None where such tokens cost what input costs. ``above`` holds
    the prices of requests with more input tokens than stated, the smallest threshold first.
    """

    input: int
    output: int
    cache_read: int | None = None
    cache_write: int | None = None
    above: tuple[tuple[int, Prices], ...] = ()


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a model can do. None is unknown, which is neither yes nor no."""

    context_tokens: int | None = None
    max_output_tokens: int | None = None
    tools: bool | None = None
    vision: bool | None = None
    json_schema: bool | None = None
    reasoning: bool | None = None


UNKNOWN: Final = Capabilities()


@dataclass(frozen=True, slots=True)
class Target:
    """A provider, a model, and what the catalogue knows of the pair.

    ``model`` is the name that clients ask for, ``upstream_model`` the one sent upstream.
    ``prices`` is None where they are unknown, which is not zero.
    """

    provider: str
    model: str
    upstream_model: str
    priority: int = 100
    fallback: bool = False
    on_prem: bool = False
    region: str = ""
    operations: frozenset[str] = frozenset({"chat"})
    prices: Prices | None = None
    capabilities: Capabilities = UNKNOWN

    @property
    def name(self) -> str:
        """``provider:model``."""
        return f"{self.provider}:{self.model}"


@dataclass(frozen=True, slots=True)
class Bounds:
    """What policy allows this exchange. ``None`` is no restriction; bounds are only ever narrowed."""

    providers: frozenset[str] | None = None
    regions: frozenset[str] | None = None
    on_prem: bool = False
    max_output_tokens: int | None = None
    redact: frozenset[str] = frozenset()

    def narrow(
        self,
        *,
        providers: frozenset[str] | None = None,
        regions: frozenset[str] | None = None,
        on_prem: bool = False,
        max_output_tokens: int | None = None,
        redact: frozenset[str] = frozenset(),
    ) -> Bounds:
        """The intersection of these bounds and the given ones."""
        caps = [cap for cap in (self.max_output_tokens, max_output_tokens) if cap is not None]
        return Bounds(
            _both(self.providers, providers),
            _both(self.regions, regions),
            self.on_prem or on_prem,
            min(caps, default=None),
            self.redact | redact,
        )

    def admit(self, target: Target) -> bool:
        """Whether ``target`` may be called."""
        return (
            (self.providers is None or target.provider in self.providers)
            and (self.regions is None or target.region in self.regions)
            and (not self.on_prem or target.on_prem)
        )


UNBOUNDED = Bounds()


def _both(a: frozenset[str] | None, b: frozenset[str] | None) -> frozenset[str] | None:
    if a is None or b is None:
        return b if a is None else a
    return a & b


@dataclass(slots=True)
class Outcome:
    """How an attempt ended; what the yield of ``on_attempt`` returns, exactly once.

    Times are seconds of the host's monotonic clock, counted from the attempt's start.
    """

    status: Literal["complete", "failed", "cancelled", "skipped"]
    error: UpstreamError | None = None
    http_status: int | None = None
    committed: bool = False
    first_token_s: float | None = None
    duration_s: float = 0.0
    usage: Usage = field(default_factory=Usage)
    bytes_sent: int = 0
    reset_after_s: float | None = None
    skip_reason: str | None = None

    @property
    def kind(self) -> str:
        """``complete``, ``cancelled``, the kind of the failure (see ``Failure``), or why the target was skipped."""
        if self.error is not None:
            return self.error.kind
        return self.skip_reason or self.status


class Attempt:
    """One try at one target, with its own copy-on-write view of the request.

    ``body`` is the request in the client's dialect, ``payload`` what goes over the wire named ``wire``,
    ``stream`` whether events are asked for, and ``ignored`` the client's fields that this wire cannot
    express and that may be left out.
    """

    __slots__ = (
        "body",
        "deadline",
        "first_byte_at",
        "headers",
        "ignored",
        "number",
        "outcome",
        "payload",
        "prefill",
        "started",
        "stream",
        "target",
        "wire",
    )

    def __init__(self, target: Target, number: int, body: JsonText, started: float, deadline: float) -> None:
        self.target = target
        self.number = number
        self.body = body
        self.headers: list[tuple[bytes, bytes]] = []
        self.started = started
        self.deadline = deadline
        self.first_byte_at: float | None = None
        self.outcome: Outcome | None = None
        self.prefill: str | None = None
        self.wire = ""
        self.stream = False
        self.payload = body
        self.ignored: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Attempt({self.number}, {self.target.name})"


@dataclass(frozen=True, slots=True)
class Failure:
    """What ``on_failure`` is told: where and how the attempt failed, and what is left.

    ``kind`` is stable: ``skipped``, ``connect_error``, ``timeout``, ``closed``, ``protocol``, ``status``,
    ``rate_limited``, ``overloaded``, ``credential``, ``context_length``, ``content_filter``, ``bad_request``.
    """

    stage: str
    kind: str
    attempt: Attempt
    http_status: int | None
    committed: bool
    targets_left: tuple[Target, ...]
    time_left_s: float
    retry_after_s: float | None = None
    skip_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Tried:
    """One attempt as the receipt names it. ``outcome`` is ``complete``, ``cancelled``, the kind of the failure, or why
    the target was skipped.
    """

    target: str
    outcome: str
    http_status: int | None = None
    duration_ms: float = 0.0


@dataclass(slots=True)
class Receipt:
    """What the exchange used and cost, settled exactly once. Costs are nano-dollars, None if unpriced.

    ``attempts`` counts what ``tried`` names, in order.
    """

    exchange_id: str
    at: float
    tenant: str
    subject: str
    operation: str
    dialect: str
    model: str
    provider: str
    status: int
    ended: Literal["complete", "failed", "cancelled", "refused"]
    code: str
    attempts: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    estimated: bool
    cost: int | None
    streamed: bool
    first_token_ms: float | None
    duration_ms: float
    purpose: str = ""
    parent: str = ""
    tried: tuple[Tried, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)

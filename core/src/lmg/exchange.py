"""One client request and all that becomes of it, from its head to the settled receipt."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from .jsontext import Json, JsonPath, JsonText
from .records import (
    UNBOUNDED,
    Attempt,
    Bounds,
    Capabilities,
    Failure,
    Head,
    Operation,
    Outcome,
    Prices,
    Principal,
    Receipt,
    Slot,
    Target,
    TlsPeer,
    Usage,
)
from .segments import Segment
from .verdicts import Signal

if TYPE_CHECKING:
    from .compiler import Plan
    from .component import Component, Mode
    from .dialects import Dialect
    from .fork import ForkResult
    from .host import Host
    from .provider import Provider

__all__ = [
    "Attempt", "Bounds", "Capabilities", "Exchange", "Failure", "Head", "Operation", "Outcome", "Prices", "Principal", "Receipt",
    "Request", "Response", "Slot", "Target", "TlsPeer", "Usage",
]  # fmt: skip

T = TypeVar("T")
NOTHING: Final[Mapping[str, object]] = {}
NO_TAGS: Final[Mapping[str, str]] = {}


class Request:
    """The request's body as the walk has left it so far: read freely, write through ``set`` and ``replace``."""

    __slots__ = ("_dialect", "body", "sent", "stream")

    def __init__(self, dialect: Dialect, body: JsonText) -> None:
        self._dialect = dialect  # not the exchange: a cycle would leave every exchange to the collector
        self.sent = body  # as the client sent it: what `when` is decided on
        self.body = body
        self.stream = dialect.wants_stream(body.value)

    @property
    def model(self) -> str:
        """The model that is asked for, as the walk has left it."""
        model = self.body.get("model")
        return model if isinstance(model, str) else ""

    def segments(self) -> Iterator[Segment]:
        """Every text that the model will read."""
        return self._dialect.request_segments(self.body.value)

    def replace(self, segment: Segment, text: str) -> None:
        """Puts ``text`` in the place of ``segment``; refused for signed and opaque ones."""
        if segment.signed or segment.format == "opaque":
            raise ValueError(
                f"segment {segment.id} is {'signed' if segment.signed else 'opaque'} and cannot be replaced"
            )
        self.body = self.body.set(segment.path, text)

    def set(self, path: JsonPath, value: Json) -> None:
        """Sets one member; everything beside it keeps its bytes."""
        self.body = self.body.set(path, value)

    def remove(self, path: JsonPath) -> None:
        """Removes one member, where it is there."""
        self.body = self.body.remove(path)


class Response:
    """A whole answer on its way to the client: what ``on_response`` reviews. What repeats a text in other words (log
    probabilities, say) goes when the text is replaced.
    """

    __slots__ = ("_dialect", "body", "headers", "replay", "status")

    def __init__(
        self,
        dialect: Dialect,
        status: int,
        body: JsonText,
        headers: list[tuple[bytes, bytes]],
        *,
        replay: bool = False,
    ) -> None:
        self._dialect = dialect
        self.status = status
        self.body = body
        self.headers = headers
        self.replay = replay

    def segments(self) -> Iterator[Segment]:
        """Every text that the model wrote, or the upstream's error text."""
        return self._dialect.response_segments(self.body.value)

    def replace(self, segment: Segment, text: str) -> None:
        """Puts ``text`` in the place of ``segment``; refused for signed and opaque ones."""
        if segment.signed or segment.format == "opaque":
            raise ValueError(f"segment {segment.id} cannot be replaced")
        self.body = self._dialect.after_edit(self.body.set(segment.path, text), segment.path)


class Exchange:
    """What every hook is given. Facts, slots, bounds, signals and reply headers may be written; writes
    of a hook that fails, times out or runs in shadow are taken back.
    """

    __slots__ = (
        "_facts",
        "_journal",
        "_reader_shadow",
        "_reply_headers",
        "_shadow_facts",
        "_signals",
        "_slots",
        "attempts",
        "bounds",
        "bytes_sent",
        "client_gone",
        "client_request_id",
        "code",
        "committed",
        "deadline",
        "dialect",
        "drops",
        "ended",
        "first_token_at",
        "forked",
        "head",
        "host",
        "id",
        "obligations",
        "operation",
        "outcome",
        "parent",
        "pipeline",
        "plan",
        "purpose",
        "raw_body",
        "receipt",
        "replay_of",
        "request",
        "settled",
        "shadowed",
        "started",
        "status",
        "tags",
        "timeline",
        "usage",
        "when",
        "written",
    )  # fmt: skip

    def __init__(
        self, host: Host, pipeline: Any, head: Head, operation: Operation, dialect: Dialect, id: str
    ) -> None:
        self.host = host
        self.pipeline = pipeline
        self.plan: Plan = pipeline.plan
        self.head = head
        self.operation: Operation = operation
        self.dialect = dialect
        self.id = id
        self.started = time.monotonic()
        self.deadline = self.started + pipeline.deadline_s
        self.request: Request = None  # type: ignore[assignment]
        self.raw_body = b""
        self.bounds = UNBOUNDED
        self.obligations: Mapping[str, object] = NOTHING
        self.tags: Mapping[str, str] = NO_TAGS
        self.attempts: list[Attempt] = []
        self.usage = Usage()
        self.outcome: Outcome | None = None
        self.receipt: Receipt | None = None
        self.status = 0
        self.code = ""
        self.ended: Literal["complete", "failed", "cancelled", "refused"] = "failed"
        self.drops: list[tuple[str, str, int]] = []
        self.committed = False
        self.settled = False
        self.client_gone = False
        self.client_request_id = ""
        self.bytes_sent = 0
        self.first_token_at: float | None = None
        self.parent: Exchange | None = None
        self.purpose = ""
        self.forked = 0
        self.replay_of = ""
        self.timeline: list[tuple[str, str, float, float, str]] | None = None
        self.shadowed: list[tuple[str, str, str]] = []
        self.when: dict[int, bool] = {}
        self.written: str | None = ""
        self._facts: dict[str, object] = {}
        self._shadow_facts: dict[str, object] = {}
        self._signals: list[Signal] = []
        self._slots: dict[object, object] = {}
        self._reply_headers: dict[bytes, bytes] = {}
        self._journal: list[tuple[str, Any, Any]] = []
        self._reader_shadow = False

    def __repr__(self) -> str:
        return f"Exchange({self.id}, {self.operation}, {self.dialect.name})"

    @property
    def request_id(self) -> str:
        """The id that the client sees: its own where it sent one, else the exchange's."""
        return self.client_request_id or self.id

    @property
    def id_headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """The headers of the answer that tell the request's id."""
        value = self.request_id.encode()
        name = self.dialect.id_header
        return ((b"x-request-id", value), (name, value)) if name else ((b"x-request-id", value),)

    # -- facts ------------------------------------------------------------------------------
    def fact(self, name: str) -> Any:
        """The value of a fact, or None where nobody has put it."""
        if self._reader_shadow and name in self._shadow_facts:
            return self._shadow_facts[name]
        return self._facts.get(name)

    def set_fact(self, name: str, value: object) -> None:
        """Puts a fact; only components that declare it in ``provides`` may."""
        self._journal.append(("fact", name, self._facts.get(name, _ABSENT)))
        self._facts[name] = value

    @property
    def principal(self) -> Principal | None:
        """The fact ``principal``."""
        value = self.fact("principal")
        return value if isinstance(value, Principal) else None

    def signal(self, signal: Signal) -> None:
        """Adds a risk observation."""
        self._journal.append(("signal", None, None))
        self._signals.append(signal)

    @property
    def signals(self) -> tuple[Signal, ...]:
        """The risk observations so far; those of shadow components only for shadow components."""
        if self._reader_shadow:
            return tuple(self._signals)
        return tuple(signal for signal in self._signals if not signal.shadow)

    # -- slots ------------------------------------------------------------------------------
    def __getitem__(self, slot: Slot[T]) -> T:
        return self._slots[slot]  # type: ignore[return-value]

    def __setitem__(self, slot: Slot[T], value: T) -> None:
        self._journal.append(("slot", slot, self._slots.get(slot, _ABSENT)))
        self._slots[slot] = value

    def get(self, slot: Slot[T]) -> T | None:
        """What the component put into its slot, or None."""
        return self._slots.get(slot)  # type: ignore[return-value]

    def take(self, slot: Slot[T]) -> T | None:
        """What the component put into its slot, which is empty afterwards."""
        return self._slots.pop(slot, None)  # type: ignore[return-value]

    # -- reply, bounds, deadline ------------------------------------------------------------
    def reply_header(self, name: bytes, value: bytes) -> None:
        """Sets a header of the answer; possible until commit."""
        if self.committed:
            raise RuntimeError("the head has left: reply headers can be written until commit")
        self._journal.append(("reply", name, self._reply_headers.get(name, _ABSENT)))
        self._reply_headers[name] = value

    def set_reply_headers(self, headers: Mapping[bytes, bytes]) -> None:
        """Sets several at once; possible until commit."""
        if self.committed:
            raise RuntimeError("the head has left: reply headers can be written until commit")
        self._journal.append(("replies", None, self._reply_headers))
        self._reply_headers = {**self._reply_headers, **headers}

    @property
    def reply_headers(self) -> Mapping[bytes, bytes]:
        """The headers that components have set on the answer."""
        return self._reply_headers

    def narrow(self, **bounds: Any) -> None:
        """Narrows ``bounds`` (see ``Bounds.narrow``); there is no way to widen them."""
        self._journal.append(("bounds", None, self.bounds))
        self.bounds = self.bounds.narrow(**bounds)

    def oblige(self, by: Component, name: str, value: object = True) -> None:
        """Binds what is further down the list: some component below ``by`` must carry ``name`` out (``carries``).

        ``redact:<entity>`` joins the bounds, too. Read what was bound from ``obligations``.

        Raises:
            Refusal: 403, nobody down there can carry it out.
        """
        self.pipeline.check_carried(self, by, name)
        self._journal.append(("obligations", None, self.obligations))
        self.obligations = {**self.obligations, name: value}
        if name.startswith("redact:"):
            self.narrow(redact=frozenset({name.removeprefix("redact:")}))

    def set_mode(self, by: Component, component: str, mode: Mode) -> None:
        """Runs ``component``, which stands below ``by``, in another mode for this exchange: tightened always, loosened as
        far as its ``may_loosen`` says.

        Raises:
            Refusal: 403, it cannot be.
        """
        self._journal.append(("plan", None, self.plan))
        self.plan = self.pipeline.plan_with(self, by, component, mode)

    def enforces(self, component: Component) -> bool:
        """Whether ``component`` runs here, and not in shadow: whether what it does outside the exchange may stay."""
        return self.pipeline.place_of(component) in self.plan.enforcing

    def tag(self, name: str, value: str) -> None:
        """Puts a tag on the receipt: at most 32, names of up to 64 characters and values of up to 256.

        Raises:
            ValueError: it is longer, or there are too many.
        """
        if len(name) > 64 or len(value) > 256 or (len(self.tags) >= 32 and name not in self.tags):
            raise ValueError(
                "a tag's name has at most 64 characters, its value 256, and there are at most 32"
            )
        self._journal.append(("tags", None, self.tags))
        self.tags = {**self.tags, name: value}

    def shorten_deadline(self, seconds_from_now: float) -> None:
        """Brings the deadline forward; a later one is ignored."""
        self._journal.append(("deadline", None, self.deadline))
        self.deadline = min(self.deadline, time.monotonic() + seconds_from_now)

    @property
    def candidates(self) -> tuple[Target, ...]:
        """All targets of the catalogue that could serve this exchange, within its bounds."""
        return self.offered(self.request.model)

    def offered(self, model: str | None = None) -> tuple[Target, ...]:
        """Like ``candidates``, for another model's name; without one, every target that the configuration names."""
        if model is None:
            targets = self.pipeline.offered(self.operation, self.dialect.name)
        else:
            targets = self.pipeline.candidates(model, self.operation, self.dialect.name)
        if self.bounds is UNBOUNDED:
            return targets  # type: ignore[no-any-return]
        return tuple(target for target in targets if self.bounds.admit(target))

    def label(self, target: Target) -> str:
        """The target's name for a metric; without the model where the caller, and not the operator, named it."""
        for named in self.offered():
            if named.provider == target.provider and named.model == target.model:
                return target.name
        return f"{target.provider}:*"

    def estimate_usage(self, output_tokens: int) -> None:
        """What was probably used, where the upstream did not say."""
        usage = self.usage
        if not usage.estimated:
            return
        usage.output_tokens = max(usage.output_tokens, output_tokens)
        if not usage.input_tokens and self.request is not None:
            count = self.host.tokenizer.estimate
            usage.input_tokens = sum(
                count(segment.text, self.request.model) for segment in self.request.segments()
            )

    def provider(self, target: Target) -> Provider:
        """The provider component behind ``target``."""
        return self.pipeline.providers[target.provider]  # type: ignore[no-any-return]

    def drop(self, target: Target, reason: str, status: int = 503) -> None:
        """Explains why ``on_route`` left ``target`` out; the last reason decides how an empty list is refused."""
        self._journal.append(("drop", None, None))
        self.drops.append((target.name, reason, status))

    async def fork(self, target: Target, purpose: str) -> ForkResult:
        """Calls a model as a child of this exchange, within its bounds, with its own receipt.

        The only way for a component to reach a model. A fork cannot fork; forks wait in a bounded queue.

        Raises:
            QueueFull: too many forks are waiting.
            Refusal: the target is outside the bounds, or the child was refused.
        """
        return await self.pipeline.fork(self, target, purpose)  # type: ignore[no-any-return]

    # -- staging (the kernel's) ---------------------------------------------------------------
    def mark(self) -> tuple[int, JsonText | None]:
        """Where the journal stands: what ``roll_back`` returns to."""
        return len(self._journal), self.request.body if self.request is not None else None

    def roll_back(self, mark: tuple[int, JsonText | None]) -> list[tuple[str, Any, Any]]:
        """Takes back every write since ``mark``; returns what was taken back, newest first."""
        length, body = mark
        undone = []
        while len(self._journal) > length:
            kind, key, old = self._journal.pop()
            if kind == "fact":
                undone.append((kind, key, self._facts.get(key)))
                _restore(self._facts, key, old)
            elif kind == "slot":
                # The value stays reachable for its owner's on_settle only if it was there before.
                undone.append((kind, key, self._slots.get(key)))
                _restore(self._slots, key, old)
            elif kind == "reply":
                undone.append((kind, key, self._reply_headers.get(key)))
                _restore(self._reply_headers, key, old)
            elif kind == "signal":
                undone.append((kind, None, self._signals.pop()))
            elif kind == "drop":
                undone.append((kind, None, self.drops.pop()))
            elif kind == "bounds":
                undone.append((kind, None, self.bounds))
                self.bounds = old
            elif kind == "deadline":
                undone.append((kind, None, self.deadline))
                self.deadline = old
            elif kind == "replies":
                undone.append((kind, None, self._reply_headers))
                self._reply_headers = old
            else:  # obligations, plan, tags
                undone.append((kind, None, getattr(self, kind)))
                setattr(self, kind, old)
        if body is not None and self.request.body is not body:
            undone.append(("body", None, None))
            self.request.body = body
        return undone

    def keep_as_shadow(self, undone: list[tuple[str, Any, Any]]) -> None:
        """Keeps a shadow component's facts, signals and slots where only shadow components see them."""
        for kind, key, value in reversed(undone):
            if kind == "fact":
                self._shadow_facts[key] = value
            elif kind == "slot":
                self._slots[key] = value
            elif kind == "signal":
                self._signals.append(replace(value, shadow=True))


class _Absent:
    __slots__ = ()


_ABSENT = _Absent()


def _restore(mapping: dict[Any, Any], key: Any, old: Any) -> None:
    if old is _ABSENT:
        mapping.pop(key, None)
    else:
        mapping[key] = old

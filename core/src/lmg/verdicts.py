"""What a component may say: about an exchange, an attempt, or a failure."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import Literal

__all__ = [
    "Answer",
    "Deny",
    "Finding",
    "Later",
    "Next",
    "Resume",
    "Retry",
    "Signal",
    "Skip",
    "Stop",
    "Verdict",
]


@dataclass(frozen=True, slots=True)
class Deny:
    """Ends the walk. ``message`` is safe for the caller, ``reason`` is for the operator alone."""

    status: int
    code: str
    message: str = "The request was refused by policy."
    reason: str = ""
    type: str = "invalid_request_error"
    param: str | None = None
    headers: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer in the caller's dialect, given without an upstream.

    It walks back up from the component that gave it, through those above it and no others, and is
    replayed as events where a stream was asked for. It uses nothing, whatever its body says was used.
    ``replay_of`` is the exchange whose receipt covers it: there is no second one then.
    """

    body: bytes
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ()
    replay_of: str = ""


@dataclass(frozen=True, slots=True)
class Signal:
    """One risk observation; ``probability`` and ``weight`` lie in 0..1."""

    name: str
    probability: float
    weight: float = 1.0
    where: str = ""
    detail: str = ""
    shadow: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """What a ``Later`` check found: facts and signals, put on the exchange when it is joined."""

    facts: dict[str, object] = field(default_factory=dict)
    signals: Sequence[Signal] = ()


@dataclass(frozen=True, slots=True)
class Later:
    """Goes on down the list while a check runs.

    The kernel joins ``check`` before the first component that needs a fact it provides, at the latest
    before the upstream call, or, where the operator writes ``join: answer``, before commit. The check
    gives a ``Deny``, a ``Finding`` or nothing; it may not edit.
    """

    check: Awaitable[Deny | Finding | None]


Verdict = Deny | Answer | Later


class Skip(Exception):
    """Raised in ``on_attempt`` before the yield: this target shall not be called now.

    It is no failure of the target and counts for no breaker and no retry budget.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Retry:
    """The same target again, or ``to`` by its name (``provider:model``), after ``after_s`` seconds."""

    after_s: float = 0.0
    to: str | None = None


@dataclass(frozen=True, slots=True)
class Next:
    """The next target of the list, or ``to`` by its name (``provider:model``)."""

    to: str | None = None


@dataclass(frozen=True, slots=True)
class Resume:
    """After commit: go on with ``to``, whose events are spliced beneath the open filters."""

    to: str
    prefill: str


@dataclass(frozen=True, slots=True)
class Stop:
    """Give up; the client gets the failure."""

    kind: Literal["stop"] = "stop"

"""What risk's tests share: a guard that signals what texts tell it to, people with names, and a clock that stands still."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import pytest

from lmg import Component, Exchange, Principal, Response, Signal, StreamEvent, StreamFilter
from lmg.testing import Harness, VirtualClock
from lmg_risk import Risk

TOLD = re.compile(r"!([a-z_.]+)=([0-9.]+)")


def told(text: str, where: str = "") -> Iterator[Signal]:
    """The signals that ``text`` asks for: ``!injection=0.6`` is one."""
    for name, probability in TOLD.findall(text):
        yield Signal(name, float(probability), where=where)


class Users(Component):
    """Lets in whoever says who it is: ``x-user: tenant/subject``, with the scopes of ``x-scopes``."""

    provides: ClassVar[Any] = {"on_request": ("principal",)}
    modes = frozenset({"enforce"})

    def on_request(self, exchange: Exchange) -> None:
        tenant, _, subject = (exchange.head.get(b"x-user") or b"acme/alice").decode().partition("/")
        scopes = frozenset((exchange.head.get(b"x-scopes") or b"").decode().split())
        key = exchange.head.get(b"authorization")
        if key == b"Bearer sk-officer":
            subject, scopes = "officer", frozenset({"admin"})
        exchange.set_fact("principal", Principal(subject, tenant, scopes=scopes))


class Guard(Component):
    """Signals what the texts of a request or of an answer tell it to."""

    provides: ClassVar[Any] = {
        "on_request": ("signals",),
        "on_stream": ("signals",),
        "on_response": ("signals",),
    }
    requires: ClassVar[Any] = {"on_request": ("body",)}
    carries = frozenset({"redact:email"})

    def on_request(self, exchange: Exchange) -> None:
        for segment in exchange.request.segments():
            for signal in told(segment.text, segment.id):
                exchange.signal(signal)

    def on_response(self, exchange: Exchange, response: Response) -> None:
        for segment in response.segments():
            for signal in told(segment.text, segment.id):
                exchange.signal(signal)

    def on_stream(self, exchange: Exchange) -> StreamFilter:
        return Watch(exchange)


class Watch(StreamFilter):
    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._late: list[Signal] = []

    def feed(self, event: StreamEvent) -> Iterable[StreamEvent]:
        for delta in event.deltas:
            for signal in told(delta.text, delta.id):
                if signal.name.startswith("late"):
                    self._late.append(signal)
                else:
                    self._exchange.signal(signal)
        return (event,)

    def finish(self) -> Iterable[StreamEvent]:
        for signal in self._late:
            self._exchange.signal(signal)
        return ()


class Redactor(Component):
    """Carries out ``redact:email`` below the risk, and signals nothing."""

    carries = frozenset({"redact:email"})
    requires: ClassVar[Any] = {"on_request": ("body",)}

    def on_request(self, exchange: Exchange) -> None:
        if "redact:email" in exchange.obligations:
            for segment in list(exchange.request.segments()):
                exchange.request.replace(segment, segment.text.replace("bob@example.com", "[email]"))


CLASSES: dict[str, type[Component]] = {"users": Users, "guard": Guard, "redactor": Redactor, "risk": Risk}


def harness(
    settings: Mapping[str, Any] | None = None,
    *,
    answers: Mapping[str, Any] | None = None,
    below: Iterable[str] = (),
    classes: Mapping[str, type[Component]] | None = None,
    **more: Any,
) -> Harness:
    """A gateway whose guard signals; ``risk/in`` with ``settings`` below it, ``risk/out`` above where ``answers`` are given."""
    pipeline: list[Any] = ["users"]
    if answers is not None:
        pipeline.append({"risk/out": {"reviews": "answer", **answers}})
    pipeline += ["guard", {"risk/in": dict(settings or {})}, *below]
    return Harness({"pipeline": pipeline}, classes={**CLASSES, **(classes or {})}, **more)


def user(name: str, **headers: str) -> dict[str, str]:
    """The headers of ``tenant/subject``."""
    return {"x-user": name, **headers}


OFFICER = {"x-user": "acme/officer", "x-scopes": "admin"}


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()

"""Checks that every component passes, as plain functions that take a factory.

A factory gives ``(component_class, settings)``; what it gives is listed in a real gateway, made to fail, run in
shadow, and left by its client at every await. Each check raises AssertionError with what was broken.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, SecretBytes, SecretStr

from ..component import Component
from ..exchange import Exchange
from ..hookspecs import LIFE_HOOKS, PARAMETERS
from .gateway import ChatAnswer, Harness
from .upstream import chat_events

__all__ = [
    "Factory", "check_cancellation", "check_component", "check_failure_matrix", "check_lifecycle", "check_secrets", "check_shadow",
]  # fmt: skip

Factory = Callable[[], tuple[type[Component], Mapping[str, Any]]]
"""Gives a listed component's class and its settings."""

MESH_KEY = "sk-conformance-0123456789"
HEADERS = {"authorization": f"Bearer {MESH_KEY}"}


async def check_component(factory: Factory, *, above: Sequence[tuple[str, type[Component]]] = ()) -> None:
    """All checks. ``above`` are components that provide what this one requires."""
    await check_lifecycle(factory, above=above)
    await check_failure_matrix(factory, above=above)
    await check_shadow(factory, above=above)
    await check_cancellation(factory, above=above)
    check_secrets(factory)


def _mesh(
    settings: Mapping[str, Any], above: Sequence[tuple[str, type[Component]]], **envelope: Any
) -> dict[str, Any]:
    return {"pipeline": [*(name for name, _ in above), {"subject": {**settings, **envelope}}]}


def _harness(
    component: type[Component],
    settings: Mapping[str, Any],
    above: Sequence[tuple[str, type[Component]]],
    **envelope: Any,
) -> Harness:
    return Harness(_mesh(settings, above, **envelope), classes={"subject": component, **dict(above)})


async def check_lifecycle(factory: Factory, *, above: Sequence[tuple[str, type[Component]]] = ()) -> None:
    """A whole answer, a stream, a malformed request and a client that leaves each end exactly once, without a failure."""
    component, settings = factory()
    async with _harness(component, settings, above) as gateway:
        gateway.host.metrics.enabled = True
        await gateway.chat("hello", headers=HEADERS)
        await gateway.chat("hello", stream=True, headers=HEADERS)
        await gateway.request(b"{not json", headers=HEADERS)
        client = await gateway.connect()
        gateway.upstream.stream(*chat_events("one"))
        await client.send(gateway.encode(gateway.body("hello", stream=True), headers=HEADERS))
        await client.close(reset=True)
        await gateway.ended(4)
        ids = [exchange.id for exchange in gateway.exchanges]
        assert len(ids) == len(set(ids)), "an exchange ended more than once"
        assert len(gateway.receipts) == len(ids), "an exchange ended without a receipt"
        failed = {
            labels: n for labels, n in gateway.host.component_errors.series.items() if labels[0] == "subject"
        }
        assert not failed, f"hooks failed in ordinary exchanges: {failed}"
        for exchange in gateway.exchanges:
            for attempt in exchange.attempts:
                assert attempt.outcome is not None, "an attempt ended without an outcome"


# -- the failure matrix ---------------------------------------------------------------------------


class _Told(Exception):
    """What a hook raises here; its text must not reach anybody."""


def _failing(component: type[Component], hook: str) -> type[Component]:
    """``component`` with ``hook`` made to fail, whatever it is."""
    secret = "text-that-must-not-leak"

    def plain(self: Any, *args: Any) -> Any:
        raise _Told(secret)

    def around(self: Any, *args: Any) -> Any:
        raise _Told(secret)
        yield

    made = around if hook == "on_attempt" else plain
    body = ", ".join(("self", *PARAMETERS[hook]))
    assert re.fullmatch(r"[a-z_, ]+", body)
    made.__signature__ = _signature(hook)  # type: ignore[attr-defined]
    # The other hooks still get what they require: only this one fails, before it reads anything.
    others = {
        name: {h: facts for h, facts in getattr(component, name).items() if h != hook}
        for name in ("requires", "uses")
    }
    return type(f"Failing{component.__name__}", (component,), {hook: made, **others})


def _signature(hook: str) -> Any:
    import inspect

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Signature([inspect.Parameter(name, kind) for name in ("self", *PARAMETERS[hook])])


EXPECTED: dict[tuple[str, str], tuple[int, int]] = {
    ("on_request", "deny"): (503, 503), ("on_request", "allow"): (200, 200),
    ("on_route", "deny"): (503, 503), ("on_route", "allow"): (200, 200),
    ("on_attempt", "deny"): (503, 503), ("on_attempt", "allow"): (200, 200),
    ("on_stream", "deny"): (503, 503), ("on_stream", "allow"): (200, 200),
    ("on_response", "deny"): (503, 503), ("on_response", "allow"): (200, 200),
    ("on_settle", "deny"): (503, 200), ("on_settle", "allow"): (200, 200),
    ("on_end", "deny"): (200, 200), ("on_end", "allow"): (200, 200),
}  # fmt: skip
"""Hook and ``on_error`` to the status of a whole answer and of a stream (whose head may have left already)."""


async def check_failure_matrix(
    factory: Factory, *, above: Sequence[tuple[str, type[Component]]] = ()
) -> None:
    """Each hook that the component has, made to fail: the client gets what the matrix of ``on_error`` says."""
    component, settings = factory()
    for hook in LIFE_HOOKS:
        if not hasattr(component, hook):
            continue
        failing = _failing(component, hook)
        for on_error in ("deny", "allow"):
            if (hook, on_error) not in EXPECTED or (
                on_error == "allow" and "principal" in component.provides.get("on_request", ())
            ):
                continue
            whole, streamed = EXPECTED[hook, on_error]
            async with _harness(failing, settings, above, on_error=on_error) as gateway:
                gateway.host.metrics.enabled = True
                case = f"{hook} failing under on_error: {on_error}"
                # A component with its own way for streams is not asked about whole answers, and the reverse.
                both = not (hook == "on_stream" and hasattr(component, "on_response"))
                if both:
                    _assert_case(await gateway.chat("hello", headers=HEADERS), whole, case)
                if not (hook == "on_response" and hasattr(component, "on_stream")):
                    answer = await gateway.chat("hello", stream=True, headers=HEADERS)
                    _assert_case(answer, streamed, f"{case}, streamed")
                    if on_error == "deny" and hook == "on_settle":
                        assert answer.error is not None and "[DONE]" not in answer.events, (
                            f"{case}: the ending was not withheld"
                        )
                await gateway.ended(1)
                assert any(labels[1] == hook for labels in gateway.host.component_errors.series), (
                    f"{case}: the failure was not counted"
                )


def _assert_case(answer: ChatAnswer, status: int, case: str) -> None:
    assert answer.status == status, f"{case}: status {answer.status}, not {status}: {answer.raw[:200]!r}"
    assert b"text-that-must-not-leak" not in answer.raw, f"{case}: the exception's text reached the client"
    assert b"Traceback" not in answer.raw and b"_Told" not in answer.raw, (
        f"{case}: internals reached the client"
    )


async def check_shadow(factory: Factory, *, above: Sequence[tuple[str, type[Component]]] = ()) -> None:
    """In shadow the client gets, byte for byte, what it gets without the component."""
    component, settings = factory()
    if "shadow" not in component.modes:
        return
    answers = []
    for mode in ("off", "shadow"):
        async with _harness(component, settings, above, mode=mode) as gateway:
            whole = await gateway.chat("hello", headers=HEADERS)
            stream = await gateway.chat("hello", stream=True, headers=HEADERS)
            answers.append(
                [
                    (a.status, a.raw if a.status == 200 else b"", sorted(set(a.headers) - {"date"}))
                    for a in (whole, stream)
                ]
            )
            sent = [json.loads(request.body) for request in gateway.upstream.received]
            answers[-1].append((len(sent), json.dumps(sent).encode(), []))
    assert answers[0] == answers[1], "the component had an effect in shadow"


async def check_cancellation(
    factory: Factory, *, above: Sequence[tuple[str, type[Component]]] = (), points: int = 60
) -> None:
    """The client leaves at every await: the exchange settles and ends exactly once, and each attempt has its outcome."""
    component, settings = factory()
    for streamed in (False, True):
        async with _harness(component, settings, above) as gateway:
            for point in range(points):
                before = len(gateway.exchanges)
                if await _leave_at(gateway, point, streamed):
                    break
                await gateway.ended(before + 1)
                exchange = gateway.exchanges[before]
                _assert_ended(exchange, f"left at await {point}{', streamed' if streamed else ''}")


def _assert_ended(exchange: Exchange, case: str) -> None:
    assert exchange.settled and exchange.receipt is not None, f"{case}: not settled"
    for attempt in exchange.attempts:
        assert attempt.outcome is not None, f"{case}: an attempt without an outcome"


async def _leave_at(gateway: Harness, point: int, streamed: bool) -> bool:
    """Runs one exchange whose client is gone after ``point`` turns of the loop; True where it had ended before."""
    application = gateway.process.gateway
    body = json.dumps(gateway.body("hello", stream=streamed)).encode()
    given = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if not given.is_set():
            given.set()
            return {"type": "http.request", "body": body, "more_body": False}
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Any) -> None:
        await asyncio.sleep(0)

    headers = [(name.encode(), value.encode()) for name, value in HEADERS.items()] + [
        (b"content-type", b"application/json")
    ]
    scope: dict[str, Any] = {
        "type": "http", "method": "POST", "path": "/v1/chat/completions", "raw_path": b"/v1/chat/completions",
        "headers": headers, "client": ("127.0.0.1", 1), "query_string": b"",
    }  # fmt: skip
    task = asyncio.ensure_future(application(scope, receive, send))
    for _ in range(point):
        await asyncio.sleep(0)
    if task.done():
        return True
    if "lmg.gone" in scope:
        scope["lmg.gone"]()
    else:
        await asyncio.sleep(0)
        scope["lmg.gone"]()
    await asyncio.wait_for(asyncio.shield(task), 10)
    return False


def check_secrets(factory: Factory) -> None:
    """No secret of the settings shows in any representation of the configuration."""
    component, settings = factory()
    config = component.Config.model_validate(dict(settings))
    shown = repr(config) + str(config) + repr(config.model_dump()) + f"{config!s}"
    for secret in _secrets(config):
        if secret:
            assert secret not in shown, "a secret shows in the representation of the configuration"
    for name, field in component.Config.model_fields.items():
        plain = field.annotation in (str, str | None)
        named = re.search(r"(^|_)(secret|password|token|api_key|private_key)$", name)
        assert not (named and plain), (
            f"the setting '{name}' holds a secret as plain text: make it a SecretStr"
        )


def _secrets(value: Any) -> list[str]:
    if isinstance(value, SecretStr):
        return [value.get_secret_value()]
    if isinstance(value, SecretBytes):
        return [value.get_secret_value().decode("latin-1")]
    if isinstance(value, BaseModel):
        return [secret for name in type(value).model_fields for secret in _secrets(getattr(value, name))]
    if isinstance(value, Mapping):
        return [secret for item in value.values() for secret in _secrets(item)]
    if isinstance(value, list | tuple):
        return [secret for item in value for secret in _secrets(item)]
    return []

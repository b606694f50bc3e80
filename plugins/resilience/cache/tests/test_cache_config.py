"""What can be written in mesh.yaml, and what is refused with a reason; the kit's conformance checks."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from pydantic import ValidationError

from lmg.errors import OrderError
from lmg.testing import check_component
from lmg_cache import Cache, Idempotency
from lmg_cache.config import CacheConfig, IdempotencyConfig

from .conftest import ROUTE, Who, cached, gateway_of, key


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"routes": [{}]}, "Field required"),
        ({"routes": [{"model": "*", "operation": []}]}, "at least 1"),
        ({"routes": [{"model": "*", "operation": ["speech"]}]}, "chat"),
        ({"routes": [{"model": "*", "ttl_s": 0}]}, "greater than 0"),
        (
            {"routes": [{"model": "*"}, {"model": "gpt-*", "operation": ["chat"]}]},
            r"routes\[1\] is never reached",
        ),
        ({"routes": [{"model": "a"}, {"model": "a"}]}, r"routes\[1\] is never reached"),
        ({"max_bytes": 2**20, "max_entry_bytes": 2**21}, "no answer of that size would fit"),
        ({"max_bytes": 2**20, "max_entry_bytes": 2**20, "shared": True}, "half of max_bytes"),
        ({"scope": "user"}, "tenant"),
        ({"max_waiting": 3}, "Extra"),
    ],
)
def test_what_cannot_work_is_refused(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        CacheConfig.model_validate(settings)


def test_a_route_for_what_another_leaves_is_reached() -> None:
    CacheConfig.model_validate({"routes": [{"model": "*", "operation": ["chat"]}, {"model": "*"}]})


def test_the_answers_of_keys_must_fit_too() -> None:
    with pytest.raises(ValidationError, match="half of max_bytes"):
        IdempotencyConfig.model_validate({"max_bytes": 2**20, "max_entry_bytes": 2**20})


@pytest.mark.parametrize("name", ["cache", "idempotency"])
async def test_who_asks_must_be_known(name: str) -> None:
    with pytest.raises(OrderError, match="principal"):
        async with gateway_of({"pipeline": [name]}):
            pass


async def test_a_cache_above_a_guard_is_said_aloud(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "lmg"):
        async with gateway_of({"pipeline": ["who", {"cache": {"routes": [ROUTE]}}, "mask"]}) as gateway:
            await gateway.chat("hello")
            await gateway.chat("hello again")
    assert [one.getMessage() for one in caplog.records] == [
        "answers_kept_above_guards component=cache below=mask"
    ]


async def test_so_is_idempotency(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "lmg"):
        async with gateway_of(
            {"pipeline": ["who", "idempotency", "mask", {"cache": {"routes": [ROUTE]}}]}
        ) as gateway:
            for n in range(2):
                await gateway.chat("hello", headers=key(f"k{n}"))
    assert [one.getMessage() for one in caplog.records] == [
        "answers_kept_above_guards component=idempotency below=mask"
    ]


async def test_a_cache_at_its_place_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "lmg"):
        async with gateway_of(cached("mask", "idempotency")) as gateway:
            await gateway.chat("hello", headers=key())
    assert not caplog.records


@pytest.mark.parametrize(
    "settings",
    [{}, {"routes": [ROUTE]}, {"routes": [ROUTE], "shared": True}],
    ids=["off", "memory", "shared"],
)
async def test_cache_conforms(settings: dict[str, Any]) -> None:
    await check_component(lambda: (Cache, settings), above=[("who", Who)])


async def test_idempotency_conforms() -> None:
    await check_component(lambda: (Idempotency, {}), above=[("who", Who)])


async def test_idempotency_conforms_for_requests_with_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kit's clients send no key: here each request has one of its own."""
    keys = iter(range(10_000))

    class Keyed(Idempotency):
        def on_request(self, exchange: Any) -> Any:
            return self._judge(exchange, [b"key-%d" % next(keys)])

    await check_component(lambda: (Keyed, {}), above=[("who", Who)])

"""The kit's conformance checks: they hold for sound components, and fail for unsound ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import SecretStr

from lmg import Component, ComponentConfig, Deny, Exchange, Response, StreamEvent, StreamFilter
from lmg.testing import Trace, check_component, check_lifecycle, check_secrets, check_shadow


class Upper(StreamFilter):
    def feed(self, event: StreamEvent) -> list[StreamEvent]:
        for delta in event.deltas:
            event = event.replace(delta, delta.text.upper())
        return [event]


class Shouts(Component):
    def on_stream(self, exchange: Exchange) -> StreamFilter:
        return Upper()


class Reviews(Component):
    def on_response(self, exchange: Exchange, response: Response) -> Deny | None:
        for segment in response.segments():
            response.replace(segment, segment.text.replace("Hello", "Goodbye"))
        return None


@pytest.mark.parametrize("component", [Trace, Shouts, Reviews])
async def test_all_checks_pass_for(component: type[Component]) -> None:
    await check_component(lambda: (component, {}))


class Leaky(Component):
    """Raises in an ordinary exchange."""

    def on_end(self, exchange: Exchange) -> None:
        raise RuntimeError


async def test_the_lifecycle_check_fails_for_a_component_that_raises() -> None:
    with pytest.raises(AssertionError, match="hooks failed in ordinary exchanges"):
        await check_lifecycle(lambda: (Leaky, {}))


class Stubborn(Component):
    """Has an effect in shadow: it goes behind the kernel's back."""

    def on_request(self, exchange: Exchange) -> None:
        exchange._reply_headers[b"x-stubborn"] = b"1"


async def test_the_shadow_check_fails_for_a_component_with_an_effect() -> None:
    with pytest.raises(AssertionError, match="effect in shadow"):
        await check_shadow(lambda: (Stubborn, {}))


class PlainSecret(ComponentConfig):
    api_key: str


class HiddenSecret(ComponentConfig):
    api_key: SecretStr


class Holder(Component):
    Config = PlainSecret


class Keeper(Component):
    Config = HiddenSecret


def test_the_secrets_check_tells_plain_text_from_a_secret() -> None:
    settings: Mapping[str, Any] = {"api_key": "sk-0123456789"}
    check_secrets(lambda: (Keeper, settings))
    with pytest.raises(AssertionError, match="SecretStr"):
        check_secrets(lambda: (Holder, settings))

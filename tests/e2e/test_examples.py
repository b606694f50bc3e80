"""The examples, run as they are: only addresses and keys come from the environment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from lmg.testing import ScriptedUpstream, chat_body

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
ASK = {"model": "assistant", "messages": [{"role": "user", "content": "Say hello."}]}


class Three:
    """Grok, Groq and the server on the premises, and a client of the gateway before them."""

    def __init__(self, upstreams: list[ScriptedUpstream], client: httpx.AsyncClient) -> None:
        self.grok, self.groq, self.on_prem = self.all = upstreams
        self._client = client

    async def ask(self, **more: Any) -> httpx.Response:
        return await self._client.post("/v1/chat/completions", json=ASK | more)

    @property
    def calls(self) -> list[int]:
        return [len(upstream.received) for upstream in self.all]


@pytest.fixture
async def three(served: Callable[..., Any]) -> AsyncIterator[Three]:
    async with AsyncExitStack() as stack:
        upstreams = [await stack.enter_async_context(ScriptedUpstream()) for _ in range(3)]
        for upstream, text in zip(upstreams, ("from Grok", "from Groq", "from the cellar"), strict=True):
            upstream.reply(chat_body(text))
        environ = {
            "XAI_API_KEY": "xai-0123456789", "GROQ_API_KEY": "gsk-0123456789",
            "XAI_ENDPOINT": upstreams[0].url, "GROQ_ENDPOINT": upstreams[1].url, "ONPREM_ENDPOINT": upstreams[2].url,
        }  # fmt: skip
        mesh = (EXAMPLES / "grok-llama-on-prem" / "mesh.yaml").read_text()
        gateway = await asyncio.to_thread(served, mesh, environ=environ)
        async with httpx.AsyncClient(base_url=gateway.url, timeout=30.0) as client:
            yield Three(upstreams, client)


def text(answer: httpx.Response) -> str:
    return str(answer.json()["choices"][0]["message"]["content"])


async def test_grok_then_llama_then_the_servers_on_the_premises(three: Three) -> None:
    assert text(await three.ask()) == "from Grok"
    assert three.calls == [1, 0, 0]
    assert three.grok.received[0].json["model"] == "grok-4"

    three.grok.reply({"error": {"message": "slow down"}}, status=429, headers=[("retry-after", "30")])
    answer = await three.ask()
    assert (text(answer), answer.headers["x-lmg-target"]) == ("from Groq", "groq:llama-3.3-70b-versatile")
    assert three.calls == [2, 1, 0]
    assert three.groq.received[0].json["model"] == "llama-3.3-70b-versatile"

    three.groq.reply({"error": {"message": "over capacity"}}, status=503)
    answer = await three.ask()
    assert (text(answer), answer.headers["x-lmg-target"]) == ("from the cellar", "vllm:llama-3.1-8b-instruct")
    # Grok had said for how long: it was not asked again.
    assert three.calls == [2, 2, 1]


async def test_what_must_stay_on_the_premises_stays_there(three: Three) -> None:
    assert text(await three.ask(routing_hint="on_prem")) == "from the cellar"
    assert three.calls == [0, 0, 1]
    three.on_prem.reply({"error": {"message": "down"}}, status=503)
    assert (await three.ask(routing_hint="on_prem")).status_code == 503
    assert three.calls[:2] == [0, 0]


async def test_the_callers_own_mistake_goes_nowhere_else(three: Three) -> None:
    assert text(await three.ask()) == "from Grok"
    three.grok.reply({"error": {"message": "bad tool", "code": "invalid_tool"}}, status=400)
    assert (await three.ask()).status_code == 400
    assert three.calls == [2, 0, 0]

"""What the README shows is what happens."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

README = (Path(__file__).parents[1] / "README.md").read_text()
SIGNATURE = "c2ln/+8="


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    return str(found)


async def test_the_example_works(
    harness: Any, response: Any, candidate: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = yaml.safe_load(block("yaml"))["providers"]["gemini"]
    del settings["api_key"]
    call = {"functionCall": {"name": "weather", "args": {"city": "Paris"}}, "thoughtSignature": SIGNATURE}
    async with harness(settings) as gateway:
        gateway.upstream.reply(response(candidate(call)))
        gateway.upstream.reply(response(candidate({"text": "It is 18 degrees."})))
        code = block("python").replace("http://localhost:8080", gateway.url)
        await asyncio.to_thread(exec, compile(code, "README.md", "exec"), {})
        first, second = gateway.upstream.received
    assert capsys.readouterr().out == "It is 18 degrees.\n"
    assert first.path == "/v1beta/models/gemini-3.5-flash-lite:generateContent"
    assert first.json["safetySettings"] == [
        {"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_ONLY_HIGH"}
    ]
    assert first.json["generationConfig"]["thinkingConfig"] == {
        "thinkingLevel": "LOW",
        "includeThoughts": True,
    }
    assert second.json["contents"][1]["parts"] == [call]

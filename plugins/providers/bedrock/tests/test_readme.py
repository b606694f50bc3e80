"""What the README says, executed."""

from __future__ import annotations

import asyncio
import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from lmg.config import MeshConfig, validate
from lmg.pipeline import draft
from lmg_bedrock import Bedrock
from lmg_bedrock.families import family_of

README = (Path(__file__).parent.parent / "README.md").read_text()
COLUMNS = {
    "Claude 4.6": "anthropic.claude-sonnet-4-6",
    "Claude 3.7": "anthropic.claude-3-7-sonnet-20250219-v1:0",
    "Nova 2": "amazon.nova-2-lite-v1:0",
    "GPT": "us.openai.gpt-5.6-sol",
    "gpt-oss": "openai.gpt-oss-120b-1:0",
    "Command R": "cohere.command-r-v1:0",
    "Llama": "meta.llama3-3-70b-instruct-v1:0",
    "others": "mistral.mistral-large-3",
}


def block(language: str) -> str:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)[0]


def test_the_configuration_loads() -> None:
    config = validate(MeshConfig, yaml.safe_load(block("yaml")), (), None)
    (part,) = draft(config, installed={}, classes={"bedrock": Bedrock}).providers
    assert part.settings.aws_region == "eu-central-1"


async def test_the_client_of_the_example_gets_its_answer(
    kit: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = yaml.safe_load(block("yaml"))["providers"]["bedrock"]
    async with kit.Harness(settings) as gateway:
        call = {"toolUse": {"toolUseId": "tooluse_1", "name": "weather", "input": {"city": "Paris"}}}
        gateway.answers(call, reason="tool_use")
        gateway.answers({"text": "It is 18 degrees."})
        source = tmp_path / "client.py"
        source.write_text(block("python").replace("http://localhost:8080", gateway.url))
        spec = importlib.util.spec_from_file_location("client", source)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        await asyncio.to_thread(spec.loader.exec_module, module)
        module.client.close()
        sent = gateway.upstream.received[1].json["messages"]
    assert capsys.readouterr().out == "It is 18 degrees.\n"
    assert sent[1]["content"] == [call]
    assert sent[2]["content"] == [
        {"toolResult": {"toolUseId": "tooluse_1", "content": [{"text": "18 degrees"}]}}
    ]


def test_the_table_of_families_is_what_the_code_decides() -> None:
    table = README.partition("<!-- families:start -->")[2].partition("<!-- families:end -->")[0]
    head, _, *rows = (
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.split("\n") if line
    )
    assert head[1:] == list(COLUMNS)
    for feature, *cells in rows:
        name = feature.strip("`")
        assert cells == [family_of(model).support[name] for model in COLUMNS.values()], name

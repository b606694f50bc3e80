"""A configuration as operators write it, in both places where it may stand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from lmg import ConfigError
from lmg.config import read_config
from lmg.discovery import discover
from lmg.errors import DiscoveryError
from lmg.pipeline import Blueprint, draft

PROVIDERS = """\
providers:
  openai:    {api_key: ${OPENAI_API_KEY}, models: ["gpt-4", "gpt-3.5-turbo"], priority: 1, timeout_ms: 30000}
  anthropic: {api_key: ${ANTHROPIC_API_KEY}, models: ["claude-3-opus", "claude-3-sonnet"], priority: 2, fallback: true}
  local:     {endpoint: "http://llama-3-70b.local:8000", models: ["llama-3-70b"], priority: 3, on_prem: true}
"""
KEY = "sk-proj-0123456789abcdef"
ENVIRON = {"OPENAI_API_KEY": KEY, "ANTHROPIC_API_KEY": "sk-ant-0123456789abcdef"}

PLACES = ["mesh.yaml", "config/providers.yaml"]


def written(folder: Path, place: str, providers: str) -> Path:
    """mesh.yaml with ``providers`` in it, or in the file ``place`` that it includes."""
    mesh = folder / "mesh.yaml"
    if place == "mesh.yaml":
        mesh.write_text(providers)
        return mesh
    (folder / place).parent.mkdir()
    (folder / place).write_text(providers)
    mesh.write_text(f"include: [{place}]\n")
    return mesh


def loaded(path: Path, environ: dict[str, str]) -> Blueprint:
    config, document = read_config(path, environ)
    return draft(config, document)


@pytest.mark.parametrize("place", PLACES)
def test_the_block_loads_as_written(tmp_path: Path, place: str) -> None:
    openai, anthropic, local = loaded(written(tmp_path, place, PROVIDERS), ENVIRON).providers
    assert openai.settings.api_key.get_secret_value() == KEY
    assert (openai.settings.models, openai.settings.priority) == (["gpt-4", "gpt-3.5-turbo"], 1)
    assert openai.settings.timeout_ms == 30_000
    assert openai.settings.endpoint == "https://api.openai.com"
    assert anthropic.settings.models == ["claude-3-opus", "claude-3-sonnet"]
    assert (anthropic.settings.priority, anthropic.settings.fallback) == (2, True)
    assert local.settings.endpoint == "http://llama-3-70b.local:8000"
    assert (local.settings.models, local.settings.priority, local.settings.on_prem) == (
        ["llama-3-70b"],
        3,
        True,
    )
    assert "sk-" not in repr(openai) + repr(anthropic) + repr(local)


@pytest.mark.parametrize("place", PLACES)
def test_a_key_that_is_not_in_the_environment_is_named_with_its_line(tmp_path: Path, place: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(written(tmp_path, place, PROVIDERS), {})
    assert caught.value.where == f"{tmp_path / place}:2"
    assert caught.value.path == "providers.openai.api_key"
    assert "OPENAI_API_KEY" in str(caught.value)


@pytest.mark.parametrize("place", PLACES)
def test_a_provider_that_is_not_installed_is_named_with_what_helps(tmp_path: Path, place: str) -> None:
    config, document = read_config(written(tmp_path, place, PROVIDERS), ENVIRON)
    others = {name: one for name, one in discover().items() if name != "anthropic"}
    with pytest.raises(DiscoveryError) as caught:
        draft(config, document, installed=others)
    assert caught.value.where == f"{tmp_path / place}:3"
    assert "'anthropic' is not installed" in str(caught.value)
    assert caught.value.hint == "pip install lmg-anthropic"
    assert "sk-ant" not in str(caught.value)


def test_a_provider_that_is_misspelt_is_named_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(DiscoveryError, match="did you mean 'openai'"):
        loaded(written(tmp_path, "mesh.yaml", PROVIDERS.replace("openai:", "openia:")), ENVIRON)


@pytest.mark.parametrize("place", PLACES)
def test_the_block_is_served(served: Any, tmp_path: Path, place: str) -> None:
    mesh = written(tmp_path, place, PROVIDERS)
    gateway = served(environ=ENVIRON, arguments=("--config", str(mesh)))
    listed = httpx.get(f"{gateway.url}/v1/models", trust_env=False).json()["data"]
    assert [model["id"] for model in listed] == [
        "gpt-4",
        "gpt-3.5-turbo",
        "claude-3-opus",
        "claude-3-sonnet",
        "llama-3-70b",
    ]
    assert KEY not in gateway.stdout + gateway.stderr

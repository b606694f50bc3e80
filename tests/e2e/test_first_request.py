"""The first minute: `lmg serve` without a configuration, and the command that it prints."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from typing import Any

import httpx
import pytest

from lmg.testing import ScriptedUpstream
from lmg_local.embedded import find_model, missing_reason


def get(url: str, **more: Any) -> httpx.Response:
    return httpx.get(url, trust_env=False, timeout=30, **more)


def post(url: str, body: object, **more: Any) -> httpx.Response:
    return httpx.post(f"{url}/v1/chat/completions", json=body, trust_env=False, timeout=60, **more)


def asks(model: str) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hello"}]}


def pasted(command: str) -> Any:
    if shutil.which("curl") is None:
        reason = "curl is not installed: the printed command is not tried"
        print(reason)
        pytest.skip(reason)
    # What a newcomer does: the line, as it is, into a shell.
    done = subprocess.run(
        ["sh", "-c", command],
        capture_output=True,
        text=True,
        timeout=90,
        env={"PATH": os.environ["PATH"]},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def printed_command(stdout: str) -> str:
    found = re.search(r"^Try it:\n\n(curl .*)$", stdout, re.MULTILINE)
    assert found is not None, stdout
    return found[1]


def test_without_a_configuration_the_printed_command_is_answered_by_a_real_model(served: Any) -> None:
    if find_model() is None:
        reason = f"no embedded model: {missing_reason()}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    gateway = served()
    assert f"LLM Mesh Gateway on {gateway.url}  (embedded default)" in gateway.stdout
    assert get(f"{gateway.url}/livez").json() == {"status": "alive"}
    ready = get(f"{gateway.url}/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")
    answer = pasted(printed_command(gateway.stdout))
    assert "Paris" in answer["choices"][0]["message"]["content"]
    assert get(f"{gateway.url}/readyz").json() == {"status": "ready", "degraded": {}}
    models = [model["id"] for model in get(f"{gateway.url}/v1/models").json()["data"]]
    assert set(models) == {"echo", "smollm2-135m-instruct"}
    echoed = post(gateway.url, asks("echo"))
    assert echoed.json()["choices"][0]["message"]["content"] == "hello"


def test_a_key_in_the_environment_adds_its_provider_and_shows_nothing_of_it(served: Any) -> None:
    key = "sk-proj-0123456789abcdef"
    gateway = served(environ={"OPENAI_API_KEY": key})
    assert "  provider openai\n" in gateway.stdout
    assert "gpt-4o" in [model["id"] for model in get(f"{gateway.url}/v1/models").json()["data"]]
    assert key not in gateway.stdout + gateway.stderr


def test_the_printed_command_names_a_model_of_the_configuration(served: Any) -> None:
    gateway = served("providers:\n  echo: {models: [parrot]}\n")
    assert "(mesh.yaml)" in gateway.stdout
    command = printed_command(gateway.stdout)
    assert '"model": "parrot"' in command
    answer = pasted(command)
    assert answer["choices"][0]["message"]["content"] == "What is the capital of France?"


async def test_a_gateway_of_the_kernel_and_one_provider_answers(
    served: Any, scripted_upstream: ScriptedUpstream
) -> None:
    settings = f"{{endpoint: {scripted_upstream.url}, api_key: sk-upstream-0123, models: [gpt-4]}}"
    gateway = served(f"providers:\n  openai: {settings}\n")
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False) as client:
        answer = await client.post("/v1/chat/completions", json=asks("gpt-4"))
        assert answer.json()["choices"][0]["message"]["content"] == "Hello!"
        assert (await client.post("/v1/chat/completions", json=asks("gpt-none"))).status_code == 404
        assert (await client.get("/readyz")).status_code == 200
        # Nobody has configured it, so there is no admin API.
        assert (await client.get("/admin/v1/pipeline")).status_code == 404
    assert scripted_upstream.received[0].header("authorization") == "Bearer sk-upstream-0123"


def test_a_gateway_without_a_provider_is_alive_and_has_no_model(served: Any) -> None:
    gateway = served("pipeline: []\n")
    assert get(f"{gateway.url}/readyz").status_code == 200
    assert get(f"{gateway.url}/v1/models").json() == {"object": "list", "data": []}
    assert post(gateway.url, asks("echo")).status_code == 404


def test_with_a_key_configured_the_command_has_a_place_for_it(served: Any) -> None:
    mesh = (
        'pipeline:\n  - auth_static: {keys: [{key: "${TEAM_KEY}", subject: team}]}\nproviders: {echo: {}}\n'
    )
    key = "sk-mesh-team-0123456789"
    gateway = served(mesh, environ={"TEAM_KEY": key})
    command = printed_command(gateway.stdout)
    assert "YOUR_KEY" in command
    assert pasted(command)["error"]["code"] == "invalid_api_key"
    answer = pasted(command.replace("YOUR_KEY", key))
    assert answer["choices"][0]["message"]["content"] == "What is the capital of France?"
    assert key not in gateway.stdout + gateway.stderr

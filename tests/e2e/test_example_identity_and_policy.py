"""The example `identity-and-policy`, run as it is: only keys come from the environment."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import Served, command

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "identity-and-policy"
KEYS = {
    f"{name}_KEY": f"sk-{name.lower()}-0123456789abcdef"
    for name in ("DEVELOPER", "LEAD", "CONTRACTOR", "GLOBEX", "ANN", "BOB")
}


class Mesh:
    """The example's gateway, and its callers by name."""

    def __init__(self, gateway: Served, client: httpx.Client) -> None:
        self.gateway, self._client = gateway, client

    def ask(self, who: str, model: str = "small", **more: Any) -> httpx.Response:
        body = {"model": model, "messages": [{"role": "user", "content": "hello"}], **more}
        return self._client.post("/v1/chat/completions", json=body, headers=self._headers(who))

    def admin(self, who: str, path: str, body: Any = None) -> httpx.Response:
        return self._client.post(f"/admin/v1/{path}", json=body, headers=self._headers(who))

    def _headers(self, who: str) -> dict[str, str]:
        return {"authorization": f"Bearer {KEYS[f'{who}_KEY']}"} if who else {}


@pytest.fixture
def mesh(served: Callable[..., Served], tmp_path: Path) -> Iterator[Mesh]:
    shutil.copytree(EXAMPLE / "policies", tmp_path / "policies")
    gateway = served((EXAMPLE / "mesh.yaml").read_text(), environ=KEYS)
    with httpx.Client(base_url=gateway.url, timeout=30.0) as client:
        yield Mesh(gateway, client)


def tool(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}


def text(answer: httpx.Response) -> str:
    return str(answer.json()["choices"][0]["message"]["content"])


def refused(answer: httpx.Response) -> str:
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "policy_denied"), answer.text
    return str(answer.json()["error"]["message"])


def test_who_asks_decides_what_and_where(mesh: Mesh) -> None:
    assert mesh.ask("").status_code == 401
    answer = mesh.ask("DEVELOPER")
    # Nobody measures a risk yet, so the cheaper target that is not on premises is not taken.
    assert (answer.status_code, text(answer)) == (200, "from Frankfurt")
    assert text(mesh.ask("GLOBEX")) == "from Dallas"
    assert "model_not_allowed" in refused(mesh.ask("DEVELOPER", "large"))
    assert mesh.ask("LEAD", "large").status_code == 200
    assert mesh.ask("DEVELOPER", tools=[tool("search_docs")]).status_code == 200
    assert "tool_not_allowed" in refused(mesh.ask("DEVELOPER", tools=[tool("deploy")]))
    assert mesh.ask("LEAD", tools=[tool("deploy")]).status_code == 200


def test_nobody_changes_the_gateway_alone(mesh: Mesh) -> None:
    change = {"target": "echo/frankfurt:small"}
    assert mesh.admin("LEAD", "breaker/open", change).status_code == 401
    first = mesh.admin("ANN", "breaker/open", change)
    refused(first)
    name = first.headers["x-lmg-change"]
    assert mesh.admin("ANN", f"approvals/{name}").status_code == 403
    assert mesh.ask("DEVELOPER").status_code == 200
    assert mesh.admin("BOB", f"approvals/{name}").json()["approvers"] == ["bob"]
    assert mesh.admin("ANN", "breaker/open", change).status_code == 200
    assert mesh.ask("DEVELOPER").status_code == 503
    # It was approved once.
    refused(mesh.admin("ANN", "breaker/open", change))


def test_its_decisions_stay_under_the_same_policy(mesh: Mesh, tmp_path: Path) -> None:
    mesh.ask("DEVELOPER")
    mesh.ask("DEVELOPER", "large")
    mesh.gateway.process.terminate()
    mesh.gateway.process.wait(30)
    line = [
        *command(),
        "policy",
        "replay",
        "--policy",
        "policies/access",
        "decisions.jsonl",
        "--fail-on-change",
        "--json",
    ]
    ran = subprocess.run(line, cwd=tmp_path, capture_output=True, timeout=60, check=False)
    assert (ran.returncode, json.loads(ran.stdout)["decisions"]) == (0, 2), ran.stderr


@pytest.mark.parametrize("place", ["access", "risk", "changes"])
def test_its_policies_pass_their_tests(place: str) -> None:
    line = [*command(), "policy", "test", str(EXAMPLE / "policies" / place)]
    ran = subprocess.run(line, capture_output=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stdout

"""The gateway as a process: workers, reload in two steps, signals, and what a fault at start says."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lmg.testing.servers import free_port

ECHO = "providers: {echo: {models: [%s]}}\nserver: {workers: %d}\n"


def ask(url: str, path: str = "/v1/models", body: Any = None) -> tuple[int, Any]:
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(
        url + path, data, {"content-type": "application/json", "connection": "close"}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def models(url: str) -> str:
    return str(ask(url)[1]["data"][0]["id"])


def until(claim: Callable[[], bool], seconds: float = 15.0) -> None:
    limit = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < limit, "it did not come true in time"
        time.sleep(0.05)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_changed_file_is_reloaded_by_all_workers_and_a_broken_one_changes_nothing(
    served: Callable[..., Any], tmp_path: Path, workers: int
) -> None:
    gateway = served(ECHO % ("first", workers))
    assert models(gateway.url) == "first"
    (tmp_path / "mesh.yaml").write_text(ECHO % ("second", workers))
    until(lambda: models(gateway.url) == "second")
    assert {models(gateway.url) for _ in range(8)} == {"second"}
    (tmp_path / "mesh.yaml").write_text("providers: {echo: {modles: [third]}}\n")
    gateway.process.send_signal(signal.SIGHUP)
    until(lambda: ask(gateway.url, "/readyz")[1]["degraded"] == {"reload": "failed"})
    assert {models(gateway.url) for _ in range(8)} == {"second"}
    assert (
        "mesh.yaml:1: providers.echo.modles: 'modles' is not a setting (did you mean 'models'?)"
        in gateway.stderr
    )


def test_a_worker_that_dies_is_replaced(served: Callable[..., Any]) -> None:
    gateway = served(ECHO % ("m", 2))
    before = children(gateway.process.pid)
    assert len(before) == 2
    os.kill(before[0], signal.SIGKILL)
    until(lambda: len(children(gateway.process.pid)) == 2 and before[0] not in children(gateway.process.pid))
    assert {models(gateway.url) for _ in range(4)} == {"m"}


@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_lets_a_stream_end_whole_and_exits_with_0(served: Callable[..., Any], workers: int) -> None:
    gateway = served(ECHO % ("m", workers))
    body = {
        "model": "m", "stream": True, "messages": [{"role": "user", "content": "one two three four"}], "echo": {"chunk_delay_ms": 300},
    }  # fmt: skip
    request = urllib.request.Request(
        gateway.url + "/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        first = answer.readline()
        gateway.process.terminate()
        rest = answer.read()
    assert first.startswith(b"data: ")
    assert rest.endswith(b"data: [DONE]\n\n")
    assert gateway.process.wait(10) == 0


def test_the_admin_api_has_a_port_of_its_own_that_all_workers_serve(served: Callable[..., Any]) -> None:
    port, key = free_port(), "sk-admin-0123456789"
    gateway = served(
        ECHO % ("m", 2) + f"admin: {{port: {port}, pipeline: [auth_static: {{keys: [{{key: {key}, subject: op, scopes: [admin]}}]}}]}}\n"
    )  # fmt: skip
    there = f"http://127.0.0.1:{port}"
    assert ask(gateway.url, "/admin/v1/pipeline")[0] == 404
    for _ in range(8):  # whichever worker answers
        assert ask(there, "/admin/v1/pipeline")[0] == 401
        assert ask(there)[0] == 404
        request = urllib.request.Request(
            there + "/admin/v1/pipeline", headers={"authorization": f"Bearer {key}"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert json.loads(answer.read())["pipeline"] == []
    gateway.process.terminate()
    assert gateway.process.wait(10) == 0


def test_workers_share_one_ledger(served: Callable[..., Any]) -> None:
    key = "sk-admin-0123456789"
    gateway = served(
        ECHO % ("m", 2)
        + "admin: {}\n"
        + f"pipeline: [auth_static: {{keys: [{{key: {key}, subject: op, scopes: [admin]}}]}}]\n"
    )
    headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}

    def call() -> None:
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode()
        urllib.request.urlopen(
            urllib.request.Request(gateway.url + "/v1/chat/completions", body, headers), timeout=10
        ).read()

    threads = [threading.Thread(target=call) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    def recorded() -> int:
        request = urllib.request.Request(gateway.url + "/admin/v1/receipts", headers=headers)
        return len(json.loads(urllib.request.urlopen(request, timeout=10).read())["receipts"])

    until(lambda: recorded() == 12)

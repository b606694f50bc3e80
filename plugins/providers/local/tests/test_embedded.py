"""A real llama.cpp server with a real model, started, shared, stopped and orphaned."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from lmg_local import embedded
from lmg_local.embedded import EmbeddedModel, EmbeddedServer, EmbeddedServerError, find_model, missing_reason

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="follows processes through pidfd, which Linux has"
)

QUESTION = {"messages": [{"role": "user", "content": "What is the capital of France?"}]}

OWNER = """
import asyncio, pathlib, sys
from lmg_local.embedded import EmbeddedServer, find_model

async def main():
    server = EmbeddedServer(model=find_model(), state_dir=pathlib.Path(sys.argv[1]))
    print(await server.start(), flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""

MIDDLE = """
import os, subprocess, sys
subprocess.Popen([sys.executable, "-c", sys.argv[1], str(os.getpid())], stdin=subprocess.DEVNULL).wait()
"""

ORPHAN = """
import os, sys
from lmg_local.embedded_child import watch_owner
print(os.getpid(), flush=True)
watch_owner(int(sys.argv[1]))
"""


@pytest.fixture(scope="session")
def model() -> EmbeddedModel:
    found = find_model()
    if found is None:
        reason = f"no embedded model: {missing_reason()}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        print(reason)
        pytest.skip(reason)
    return found


@pytest.fixture
async def manage(model: EmbeddedModel, tmp_path: Path) -> AsyncIterator[Callable[..., EmbeddedServer]]:
    async with AsyncExitStack() as stack:

        def make(**settings: Any) -> EmbeddedServer:
            server = EmbeddedServer(**{"model": model, "state_dir": tmp_path / "state", **settings})
            stack.push_async_callback(server.stop)
            return server

        yield make


def running(tmp_path: Path) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads((tmp_path / "state" / "embedded.json").read_bytes())
    return fields


async def ends(pidfd: int, within_s: float = 10.0) -> bool:
    """Whether the process ends in time; a zombie has ended."""

    def wait() -> bool:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return bool(poll.poll(within_s * 1000))

    try:
        return await asyncio.to_thread(wait)
    finally:
        os.close(pidfd)


def client(base_url: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=base_url, trust_env=False, timeout=60.0)


async def start_owner(state_dir: Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", OWNER, str(state_dir)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )


async def reported(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), 60)).decode().strip()


# The model


def test_model_is_named_after_its_file_without_quantization(model: EmbeddedModel) -> None:
    assert model.name == "smollm2-135m-instruct"
    assert model.path.suffix == ".gguf"


def test_found_model_has_no_missing_reason(model: EmbeddedModel) -> None:
    assert missing_reason() is None


def test_absent_wheels_are_named_with_how_to_install_them() -> None:
    source = Path(embedded.__file__).parent / "embedded.py"
    # -I -S: an interpreter without site-packages, so without either wheel.
    code = (
        f"import runpy; m = runpy.run_path({str(source)!r}); print(m['find_model'](), m['missing_reason']())"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("None ")
    assert "pip install xllamacpp" in done.stdout


# Answers


async def test_model_answers_paris_at_temperature_zero(manage: Callable[..., EmbeddedServer]) -> None:
    async with client(await manage().start()) as http:
        reply = await http.post("/v1/chat/completions", json={**QUESTION, "temperature": 0})
    answer = reply.raise_for_status().json()
    assert "Paris" in answer["choices"][0]["message"]["content"]
    assert answer["model"] == "smollm2-135m-instruct"


async def test_model_answers_paris_with_the_sampling_the_server_starts_with(
    manage: Callable[..., EmbeddedServer],
) -> None:
    async with client(await manage().start()) as http:
        answers = [
            (await http.post("/v1/chat/completions", json={**QUESTION, "seed": seed}))
            .raise_for_status()
            .json()
            for seed in range(5)
        ]
    assert all("Paris" in answer["choices"][0]["message"]["content"] for answer in answers)


async def test_stream_ends_with_usage_and_done(manage: Callable[..., EmbeddedServer]) -> None:
    body = {**QUESTION, "temperature": 0, "stream": True, "stream_options": {"include_usage": True}}
    async with (
        client(await manage().start()) as http,
        http.stream("POST", "/v1/chat/completions", json=body) as reply,
    ):
        data = [
            line.removeprefix("data: ") async for line in reply.aiter_lines() if line.startswith("data: ")
        ]
    assert data[-1] == "[DONE]"
    events = [json.loads(event) for event in data[:-1]]
    text = "".join(choice["delta"].get("content") or "" for event in events for choice in event["choices"])
    assert "Paris" in text
    usage = events[-1]["usage"]
    assert usage["prompt_tokens"] > 0
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


async def test_embeddings_place_related_texts_closer(manage: Callable[..., EmbeddedServer]) -> None:
    texts = [
        "The cat sleeps on the sofa.",
        "A kitten naps on the couch.",
        "Interest rates rose by two percent.",
    ]
    async with client(await manage(embeddings=True).start()) as http:
        reply = (await http.post("/v1/embeddings", json={"input": texts})).raise_for_status().json()
        chat = (
            (await http.post("/v1/chat/completions", json={**QUESTION, "temperature": 0}))
            .raise_for_status()
            .json()
        )
    cat, kitten, rates = (item["embedding"] for item in reply["data"])
    assert sum(a * a for a in cat) == pytest.approx(1.0, abs=1e-3)
    assert sum(a * b for a, b in zip(cat, kitten, strict=True)) > sum(
        a * b for a, b in zip(cat, rates, strict=True)
    )
    assert reply["usage"]["prompt_tokens"] > 0
    assert "Paris" in chat["choices"][0]["message"]["content"]


# One server


async def test_managers_on_one_state_dir_share_one_server(
    manage: Callable[..., EmbeddedServer], tmp_path: Path
) -> None:
    first, second = manage(), manage()
    urls = await asyncio.gather(first.start(), second.start())
    assert urls[0] == urls[1] == await first.start() == await second.start()
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    assert children == [str(running(tmp_path)["pid"])]


async def test_processes_on_one_state_dir_share_one_server(
    manage: Callable[..., EmbeddedServer], tmp_path: Path
) -> None:
    owner = await start_owner(tmp_path / "state")
    try:
        assert await manage().start() == await reported(owner)
        assert running(tmp_path)["owner_pid"] in (owner.pid, os.getpid())
    finally:
        owner.kill()
        await owner.wait()


async def test_stop_by_a_manager_that_only_joined_leaves_the_server(
    manage: Callable[..., EmbeddedServer],
) -> None:
    owner, guest = manage(), manage()
    url = await owner.start()
    await guest.start()
    await guest.stop()
    async with client(url) as http:
        assert (await http.get("/health")).status_code == 200


async def test_other_settings_on_one_state_dir_are_refused(manage: Callable[..., EmbeddedServer]) -> None:
    await manage().start()
    with pytest.raises(EmbeddedServerError, match="embeddings is False, not True"):
        await manage(embeddings=True).start()


# The end


async def test_stop_ends_the_server(manage: Callable[..., EmbeddedServer], tmp_path: Path) -> None:
    server = manage()
    url = await server.start()
    pidfd = os.pidfd_open(running(tmp_path)["pid"])
    await server.stop()
    assert await ends(pidfd, within_s=0)
    async with client(url) as http:
        with pytest.raises(httpx.ConnectError):
            await http.get("/health")


async def test_stop_kills_a_server_that_ignores_it(
    manage: Callable[..., EmbeddedServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "STOP_GRACE_S", 0.1)
    server = manage()
    await server.start()
    pid = running(tmp_path)["pid"]
    pidfd = os.pidfd_open(pid)
    os.kill(pid, signal.SIGSTOP)
    await server.stop()
    assert await ends(pidfd, within_s=0)


async def test_cancelled_start_leaves_no_server(
    manage: Callable[..., EmbeddedServer], tmp_path: Path
) -> None:
    server = manage()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(server.start(), 0.05)
    lock = os.open(tmp_path / "state" / "embedded.lock", os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(lock)


async def test_start_replaces_a_server_that_crashed(
    manage: Callable[..., EmbeddedServer], tmp_path: Path
) -> None:
    server = manage()
    await server.start()
    pid = running(tmp_path)["pid"]
    os.kill(pid, signal.SIGKILL)
    async with client(await server.start()) as http:
        assert (await http.get("/health")).status_code == 200
    assert running(tmp_path)["pid"] != pid


async def test_server_ends_with_a_killed_owner_and_the_next_start_takes_over(
    manage: Callable[..., EmbeddedServer], tmp_path: Path
) -> None:
    owner = await start_owner(tmp_path / "state")
    await reported(owner)
    orphan = running(tmp_path)["pid"]
    pidfd = os.pidfd_open(orphan)
    owner.kill()
    await owner.wait()
    assert await ends(pidfd, within_s=5)
    async with client(await manage().start()) as http:
        assert (await http.get("/health")).status_code == 200
    assert running(tmp_path)["pid"] != orphan
    assert running(tmp_path)["owner_pid"] == os.getpid()


async def test_watching_the_owner_ends_a_process_without_help_of_the_kernel() -> None:
    middle = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", MIDDLE, ORPHAN),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    pidfd = os.pidfd_open(int(await reported(middle)))
    middle.kill()
    assert await ends(pidfd, within_s=5)
    await middle.wait()


# Failures


async def test_broken_model_path_is_an_error_with_the_last_lines_of_the_log(
    manage: Callable[..., EmbeddedServer], tmp_path: Path
) -> None:
    absent = EmbeddedModel(path=tmp_path / "absent.gguf", name="absent")
    with pytest.raises(EmbeddedServerError) as caught:
        await manage(model=absent).start()
    log = (tmp_path / "state" / "embedded.log").read_text().splitlines()
    assert str(tmp_path / "state" / "embedded.log") in str(caught.value)
    assert log
    assert log[-1] in str(caught.value)
    assert "absent.gguf" in str(caught.value)


async def test_start_that_takes_too_long_says_so_and_leaves_no_server(
    manage: Callable[..., EmbeddedServer], tmp_path: Path
) -> None:
    with pytest.raises(EmbeddedServerError, match=r"not healthy after 0\.05 s"):
        await manage(start_timeout_s=0.05).start()
    assert not (tmp_path / "state" / "embedded.json").exists()


async def test_server_sees_no_keys_and_logs_no_prompt(
    manage: Callable[..., EmbeddedServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another-provider")
    async with client(await manage(context_tokens=512).start()) as http:
        too_long = {"messages": [{"role": "user", "content": "confidential " * 2000}]}
        assert (await http.post("/v1/chat/completions", json=too_long)).status_code == 400
        assert (await http.post("/v1/chat/completions", content=b'{"confidential')).status_code == 400
        assert (await http.get("/slots")).status_code == 501
    assert b"sk-of-another-provider" not in Path(f"/proc/{running(tmp_path)['pid']}/environ").read_bytes()
    assert "confidential" not in (tmp_path / "state" / "embedded.log").read_text()

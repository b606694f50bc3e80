"""A real gateway process, a real model, and an upstream that does what it is told, each in its own place."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lmg.testing import ScriptedUpstream
from lmg.testing.servers import node_scripts
from lmg_local.embedded import EmbeddedServer, find_model, missing_reason

START_S = 60.0
STOP_S = 30.0
KEY = "sk-e2e-0123456789abcdef"
_READY = re.compile(r"^LLM Mesh Gateway on (https?)://(\S+):(\d+)  \((.*)\)$", re.MULTILINE)
# Nothing else of the caller's environment reaches the gateway: a key there would add a provider.
_KEPT = ("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "PYTHONDONTWRITEBYTECODE", "TMPDIR", "TZ")


@dataclass(frozen=True)
class Served:
    """A running `lmg serve`: its address, its process, and what it has written so far."""

    url: str
    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def v1(self) -> str:
        """What SDKs call the base URL."""
        return f"{self.url}/v1"

    @property
    def stdout(self) -> str:
        return (self.folder / "stdout.log").read_text()

    @property
    def stderr(self) -> str:
        return (self.folder / "stderr.log").read_text()


Serve = Callable[..., AbstractContextManager[Served]]


def command() -> list[str]:
    """`lmg` of the environment that runs the tests."""
    script = Path(sys.executable).with_name("lmg")
    return [str(script)] if script.exists() else [sys.executable, "-c", "from lmg.cli import main; main()"]


@contextmanager
def serving(
    folder: Path,
    mesh: str | None,
    *,
    environ: Mapping[str, str] | None = None,
    arguments: tuple[str, ...] = (),
) -> Iterator[Served]:
    """`lmg serve --port 0` in ``folder``, with ``mesh`` as its mesh.yaml; ends with SIGTERM and exit code 0."""
    folder.mkdir(parents=True, exist_ok=True)
    if mesh is not None:
        (folder / "mesh.yaml").write_text(mesh)
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ} | dict(environ or {})
    with (folder / "stdout.log").open("wb") as out, (folder / "stderr.log").open("wb") as err:
        process = subprocess.Popen(
            [*command(), "serve", "--port", "0", "--log-level", "info", *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=environment,
            start_new_session=True,
        )
    served = Served("", process, folder)
    try:
        served = Served(_address(served), process, folder)
        yield served
        process.terminate()
        assert process.wait(STOP_S) == 0, f"exit code {process.returncode}"
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        # Shown by pytest where the test has failed.
        print(f"-- {folder}: stdout\n{served.stdout}\n-- stderr\n{served.stderr[-8000:]}")


def _address(served: Served) -> str:
    limit = time.monotonic() + START_S
    while time.monotonic() < limit:
        ready = _READY.search(served.stdout)
        if ready is not None and "\nTry it:" in served.stdout:
            return f"{ready[1]}://{ready[2]}:{ready[3]}"
        assert served.process.poll() is None, f"lmg serve ended with {served.process.returncode}"
        time.sleep(0.02)
    raise AssertionError(f"lmg serve was not ready after {START_S:g} s")


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Serve:
    """``with serve(mesh, environ=…, arguments=…) as served:`` for fixtures that outlive one test."""

    def start(mesh: str | None, **more: Any) -> AbstractContextManager[Served]:
        return serving(tmp_path_factory.mktemp("served"), mesh, **more)

    return start


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """``served(mesh, environ=…, arguments=…)`` is a gateway that ends with the test."""
    with ExitStack() as stack:

        def start(mesh: str | None = None, **more: Any) -> Served:
            return stack.enter_context(serving(tmp_path, mesh, **more))

        yield start


class Loop:
    """An event loop on a thread of its own, for what outlives one test's loop."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Any, seconds: float = 90.0) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(seconds)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@pytest.fixture(scope="session")
def background() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture(scope="session")
def llama(background: Loop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of a real llama.cpp server with a real model; one for each worker of pytest-xdist."""
    model = find_model()
    if model is None:
        reason = f"no embedded model: {missing_reason()}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    server = EmbeddedServer(
        model=model,
        state_dir=tmp_path_factory.mktemp("llama"),
        context_tokens=1024,
        threads=1,
        embeddings=True,
    )
    yield background.run(server.start())
    background.run(server.stop())


@pytest.fixture(scope="session")
def scripted(background: Loop) -> Iterator[ScriptedUpstream]:
    """One scripted upstream for the gateways that outlive a test."""
    upstream = ScriptedUpstream()
    background.run(upstream.__aenter__())
    yield upstream
    background.run(upstream.__aexit__())


@pytest.fixture
def upstream(scripted: ScriptedUpstream) -> Iterator[ScriptedUpstream]:
    """The scripted upstream, as if it were new."""

    def forget() -> None:
        scripted._scripts.clear()
        scripted._last = None
        scripted.received.clear()

    forget()
    yield scripted
    forget()


@pytest.fixture
def key() -> str:
    """The caller's key at the gateways of these tests."""
    return KEY


@pytest.fixture(scope="session")
def sdk_gateway(serve: Serve, scripted: ScriptedUpstream) -> Iterator[Served]:
    """What the SDKs talk to: a key, a scripted upstream behind `openai`, a slow one, and `echo`."""
    mesh = f"""
server:
  limits: {{max_body_bytes: 100000}}
pipeline:
  - auth_static:
      keys:
        - {{key: "${{MESH_KEY}}", subject: sdk, scopes: [admin]}}
providers:
  openai:
    endpoint: {scripted.url}
    api_key: sk-upstream-0123456789
    models: [gpt-4, gpt-4o-mini, text-embedding-3-small]
  openai/slow:
    endpoint: {scripted.url}
    api_key: sk-upstream-0123456789
    models: [slow]
    timeout_ms: 300
    stall_timeout_ms: 300
  echo: {{}}
"""
    with serve(mesh, environ={"MESH_KEY": KEY}) as gateway:
        yield gateway


@pytest.fixture(scope="session")
def llama_gateway(serve: Serve, llama: str) -> Iterator[Served]:
    """A gateway before the real model, which is `local` to it."""
    mesh = f"""
pipeline:
  - auth_static: {{keys: [{{key: "${{MESH_KEY}}", subject: sdk}}]}}
providers:
  local: {{endpoint: "{llama}", models: [smollm]}}
"""
    with serve(mesh, environ={"MESH_KEY": KEY}) as gateway:
        yield gateway


# -- Node -----------------------------------------------------------------------------------------

NODE = Path(__file__).parent / "node"
NODE_CACHE = Path(__file__).resolve().parents[2] / ".cache/node"


@pytest.fixture(scope="session")
def node_folder() -> Path:
    """The scripts beside the clients that they import."""
    return node_scripts(NODE, NODE_CACHE, "the official Node clients are not tested")


@pytest.fixture
def node(node_folder: Path) -> Callable[..., Any]:
    """``node(script, scenario, NAME=value)`` is the JSON that the scenario wrote; names are of its environment."""

    def call(script: str, scenario: str, **environ: str) -> Any:
        done = subprocess.run(
            ["node", node_folder / script, scenario],
            env={"PATH": os.environ["PATH"], **environ},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return call

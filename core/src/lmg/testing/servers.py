"""Real servers for tests, on loopback: found (in CI: installed), started on a free port, ended by their process id."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["RedisServer", "absent", "free_port", "program"]

READY_S = 60.0


def absent(reason: str) -> None:
    """In CI a missing tool is a failure; elsewhere the test is skipped, and the reason is shown."""
    import pytest

    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def program(name: str, package: str) -> str:
    """The path of ``name``. In CI, where one is root, Debian's ``package`` is installed if it is not there."""
    found = shutil.which(name)
    if found is None and os.environ.get("CI") and os.geteuid() == 0 and shutil.which("apt-get"):
        with (Path(tempfile.gettempdir()) / "lmg-testing-apt.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            found = shutil.which(name) or _install(name, package)
    if found is None:
        absent(f"{name} is not installed (apt-get install {package})")
    assert found is not None
    return found


def _install(name: str, package: str) -> str | None:
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "update", "-q"], ["apt-get", "install", "-q", "-y", package]):
        subprocess.run(command, env=environ, capture_output=True, timeout=300, check=False)
    return shutil.which(name)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class RedisServer:
    """``with RedisServer(tmp_path) as redis:`` — a real Redis, empty, that keeps its port over restarts.

    ``options`` go to the command line, as in ``("--requirepass", "secret")``. The environment's
    ``LMG_REDIS_SERVER`` names another server to test with (a valkey-server, an older redis-server).
    """

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.options = options
        self.port = free_port()
        self.socket = folder / "redis.sock"
        self.process: subprocess.Popen[bytes] | None = None
        self._program = os.environ.get("LMG_REDIS_SERVER") or program("redis-server", "redis-server")

    @property
    def url(self) -> str:
        """As the configuration of `redis` takes it."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def log(self) -> str:
        """What it has written."""
        return (self.folder / "redis.log").read_text()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Starts it (again, with the data that it saved if there are any) and returns when it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [
            self._program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.folder),
            "--unixsocket", str(self.socket), *self.options,
        ]  # fmt: skip
        with (self.folder / "redis.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        ends = time.monotonic() + READY_S
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > ends:
                raise RuntimeError(f"the server did not start: {self.log[-2000:]}")
            time.sleep(0.005)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as there:
            there.settimeout(1.0)
            try:
                there.connect(str(self.socket))
                there.sendall(b"PING\r\n")
                return bool(there.recv(64))
            except OSError:
                return False

    def kill(self) -> None:
        """Ends it at once, as a power cut would; what it held is gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def freeze(self) -> None:
        """Stops it where it stands: connections stay open, and nobody answers."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        # The signal is asynchronous; the state is not.
        stat = Path(f"/proc/{self.process.pid}/stat")
        while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "T":
            time.sleep(0.001)

    def thaw(self) -> None:
        """Lets it go on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

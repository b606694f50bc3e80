"""Real servers for tests, on loopback: found (in CI: installed), started on a free port, ended by their process id."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["PostgresServer", "RedisServer", "absent", "free_port", "program"]

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


class PostgresServer:
    """``with PostgresServer(tmp_path) as postgres:`` — a real PostgreSQL that keeps its port and data over restarts.

    It refuses to run as root, so there it runs as ``nobody``, and its data lie in a folder of that user's own.
    The environment's ``LMG_POSTGRES_BIN`` names the folder of another version's programs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._bin = _postgres_bin()
        # A test's own folder is often closed to other users, and the path of a Unix socket has to be short.
        self.data = Path(tempfile.mkdtemp(prefix="lmg-pg-"))
        self._user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        if self._user is not None:
            os.chown(self.data, self._user.pw_uid, self._user.pw_gid)

    @property
    def url(self) -> str:
        """The database ``postgres`` of the superuser ``postgres``, who needs no password."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    @property
    def log(self) -> str:
        """What it has written."""
        return (self.folder / "postgres.log").read_text()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        shutil.rmtree(self.data, ignore_errors=True)

    def start(self) -> None:
        """Starts it (again, with the data that it had) and returns when it takes connections."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.data / "PG_VERSION").exists():
            self._run(
                "initdb", "-D", str(self.data), "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8"
            )
        command = [
            *self._as_user(), str(self._bin / "postgres"), "-D", str(self.data), "-p", str(self.port), "-k", str(self.data),
            "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "shared_buffers=16MB",
        ]  # fmt: skip
        with (self.folder / "postgres.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", start_new_session=True
            )
        ends = time.monotonic() + READY_S
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > ends:
                raise RuntimeError(f"the server did not start: {self.log[-2000:]}")
            time.sleep(0.02)

    def _as_user(self) -> list[str]:
        return ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if self._user else []

    def _run(self, name: str, *arguments: str) -> str:
        command = [*self._as_user(), str(self._bin / name), *arguments]
        done = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            raise RuntimeError(f"{name}: {done.stderr[-2000:]}")
        return done.stdout

    def _answers(self) -> bool:
        ready = [str(self._bin / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port), "-t", "5"]
        return subprocess.run(ready, capture_output=True, timeout=30, check=False).returncode == 0

    def do(self, sql: str) -> str:
        """Runs ``sql`` and returns what it gives: a line a row, ``|`` between columns."""
        return self._run("psql", "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql, self.url).strip()

    def dump(self) -> str:
        """Everything in the database, as SQL."""
        return self._run("pg_dump", self.url)

    def stop(self) -> None:
        """Ends it in order: connections are closed, data are kept (``pg_ctl stop -m fast``)."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(60)
            self.process = None

    def kill(self) -> None:
        """Ends it at once with all of its processes, as a power cut would; it recovers when it starts again."""
        if self.process is not None:
            for pid in self._stopped():
                os.kill(pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def freeze(self) -> None:
        """Stops all of its processes where they stand: connections stay open, and nobody answers."""
        self._stopped()

    def thaw(self) -> None:
        """Lets them go on."""
        assert self.process is not None
        for pid in (*_children(self.process.pid), self.process.pid):
            os.kill(pid, signal.SIGCONT)

    def _stopped(self) -> list[int]:
        """Stops the server, which then makes no more processes, and those that it has made; all of them."""
        assert self.process is not None
        first = self.process.pid
        os.kill(first, signal.SIGSTOP)
        children = _children(first)
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGSTOP)
        return [first, *children]


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _postgres_bin() -> Path:
    """Debian keeps the server's programs beside the path, in a folder of their version."""
    named = os.environ.get("LMG_POSTGRES_BIN")
    found = [Path(named)] if named else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    found = [folder for folder in found if (folder / "initdb").exists()]
    if not found:
        in_path = shutil.which("initdb")
        if in_path:
            return Path(in_path).resolve().parent
        program("pg_ctlcluster", "postgresql")  # in CI installs the server; elsewhere ends the test
        found = sorted(
            folder for folder in Path("/usr/lib/postgresql").glob("*/bin") if (folder / "initdb").exists()
        )
    if not found:
        absent("PostgreSQL is not installed (apt-get install postgresql)")
    return found[-1]

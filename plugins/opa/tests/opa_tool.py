"""The real OPA in tests: found or built by the repository's ``tools/build``, and its server started on a free port.

Where the tests are run without the repository, or Go is not there, the tests that need it are skipped with the reason
(in CI: fail).
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tarfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from lmg.jsontext import Json
from lmg.testing.servers import ServerProcess, absent

__all__ = ["ENTRY_POINTS", "OpaServer", "capabilities", "compile_wasm", "opa"]

BUILD_S = 1800
ENTRY_POINTS = ("lmg/authz/allow", "lmg/authz/reasons", "lmg/authz/obligations")


@cache
def _found() -> tuple[str, str]:
    """The path, or nothing and the reason."""
    named = os.environ.get("LMG_OPA")
    if named:
        return named, ""
    for folder in Path(__file__).resolve().parents:
        script = folder / "tools" / "build"
        if (folder / "tools" / "opa" / "go.mod").exists() and script.exists():
            built = subprocess.run(
                [str(script), "opa"], capture_output=True, text=True, timeout=BUILD_S, check=False
            )
            return (
                (built.stdout.strip(), "")
                if built.returncode == 0
                else ("", f"opa: {built.stderr.strip()[-300:]}")
            )
    return "", "opa is not there (its build script is in the repository's tools/; LMG_OPA names a program)"


def opa() -> str:
    """The path of the pinned program, built if need be. ``LMG_OPA`` names another."""
    path, reason = _found()
    if not path:
        absent(reason)
    return path


def capabilities() -> dict[str, Any]:
    """What the program itself says it can do: its builtins with their arguments."""
    said = subprocess.run([opa(), "capabilities", "--current"], capture_output=True, check=True, timeout=60)
    return json.loads(said.stdout)  # type: ignore[no-any-return]


def compile_wasm(
    folder: Path, modules: Mapping[str, str], entry_points: tuple[str, ...] = ENTRY_POINTS
) -> bytes:
    """What ``opa build -t wasm`` makes of ``modules``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, source in modules.items():
        (folder / name).write_text(source)
    points = [part for point in entry_points for part in ("-e", point)]
    command = [opa(), "build", "-t", "wasm", *points, "-o", "bundle.tar.gz", *modules]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=120)
    with tarfile.open(folder / "bundle.tar.gz") as bundle:
        member = bundle.extractfile("/policy.wasm")
        assert member is not None
        return member.read()


class OpaServer(ServerProcess):
    """A real server: ``with OpaServer(tmp_path, {"p.rego": "…"}) as server:``."""

    log_name = "opa.log"

    def __init__(
        self, folder: Path, modules: Mapping[str, str], data: Mapping[str, Json] | None = None, *options: str
    ) -> None:
        super().__init__(folder)
        # A socket's path has 108 bytes at most, which the folder of a test may well have alone.
        self.socket = Path(os.path.relpath(folder / "opa.sock"))
        self.options = options
        self._program = opa()
        policies = folder / "policies"
        policies.mkdir(parents=True, exist_ok=True)
        for name, source in modules.items():
            (policies / name).write_text(source)
        (policies / "data.json").write_text(json.dumps(data or {}))

    @property
    def url(self) -> str:
        """Where it is over TCP."""
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        """It listens on a port and on a socket, which an earlier one may have left."""
        self.socket.unlink(missing_ok=True)
        return [
            self._program, "run", "--server", "--disable-telemetry", "--log-level", "error",
            "--addr", f"127.0.0.1:{self.port}", "--addr", f"unix://{self.socket}", *self.options, str(self.folder / "policies"),
        ]  # fmt: skip

    def answers(self) -> bool:
        """Whether it is healthy."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as there:
                there.sendall(b"GET /health HTTP/1.1\r\nHost: opa\r\nConnection: close\r\n\r\n")
                return there.recv(64).startswith(b"HTTP/1.1 200") and self.socket.exists()
        except OSError:
            return False

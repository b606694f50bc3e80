"""Gateways with keys of their own, on SQLite; a real PostgreSQL where a test asks for one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lmg import Host
from lmg.testing import ChatAnswer, Harness, VirtualClock
from lmg.testing.servers import PostgresServer
from lmg_auth_keys import AuthStatic
from lmg_auth_keys.plugin import AuthKeys

PEPPER = "pepper-of-the-tests-0123456789-0123456789"
ROOT = "sk-operator-0123456789"
CLASSES: dict[str, type[Any]] = {"auth_keys": AuthKeys, "auth_static": AuthStatic}


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


OPERATOR = bearer(ROOT)


def sqlite(path: Path) -> str:
    return f"sqlite:///{path}"


class Gateway(Harness):
    """A gateway with an operator in its configuration, and short words for what the tests do."""

    def __init__(
        self,
        database: str,
        *,
        clock: VirtualClock | None = None,
        state_dir: Path | None = None,
        pipeline: list[Any] | None = None,
        models: tuple[str, ...] = ("test-model",),
        **settings: Any,
    ) -> None:
        self.settings = {"pepper": PEPPER, "database": database, "poll_s": 0.05, **settings}
        operator = {"key": ROOT, "subject": "operator", "scopes": ["admin"]}
        mesh = {
            "pipeline": [
                {"auth_static": {"keys": [operator]}},
                {"auth_keys": self.settings},
                *(pipeline or []),
            ]
        }
        host = Host(clock=clock)
        host.state_dir = state_dir
        super().__init__(mesh, classes=CLASSES, host=host, models=models)

    @property
    def component(self) -> AuthKeys:
        (found,) = [c for _, c in self.process.gateway.pipeline.listed if isinstance(c, AuthKeys)]
        return found

    @property
    def running(self) -> Any:
        running = self.component._running
        assert running is not None
        return running

    async def admin(
        self, method: str, path: str, body: object = b"", headers: dict[str, str] = OPERATOR
    ) -> ChatAnswer:
        return await self.request(body, path=f"/admin/v1/auth_keys/{path}", method=method, headers=headers)

    async def issue(self, subject: str = "alice", **asked: Any) -> dict[str, Any]:
        answer = await self.admin("POST", "keys", {"subject": subject, **asked})
        assert answer.status == 200, answer.raw
        made: dict[str, Any] = answer.json
        return made

    async def status(self, key: str) -> int:
        return (await self.chat(headers=bearer(key))).status

    async def poll(self) -> None:
        await self.running.follower.poll()

    @property
    def polls_failed(self) -> float:
        return self.counted("llm_auth_keys_store_errors_total", ())

    def counted(self, name: str, labels: tuple[str, ...]) -> float:
        (family,) = [one for one in self.host.metrics.families() if one.name == name]
        return float(family.series.get(labels, 0))  # type: ignore[attr-defined]


async def until(holds: Callable[[], object], seconds: float = 20.0) -> None:
    """Returns when ``holds`` does: what it waits for happens in another process or thread."""
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.005)


@pytest.fixture
def database(tmp_path: Path) -> str:
    return sqlite(tmp_path / "keys.sqlite")


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[PostgresServer]:
    pytest.importorskip("asyncpg")
    with PostgresServer(tmp_path / "postgres") as server:
        yield server

"""The services that need no server: they live in the process, or in one file for all workers of a machine."""

from __future__ import annotations

import asyncio
import math
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, Final

import orjson
from pydantic import SecretStr

from ..errors import QueueFull, ServiceError
from ..records import Operation, Receipt, Target, Tried
from . import Catalogue

__all__ = [
    "EstimatingTokenizer", "FileLedger", "FileSecrets", "MemoryLedger", "TargetTable",
]  # fmt: skip

MAX_RECEIPTS: Final = 10_000
MAX_QUEUE: Final = 50_000


class MemoryLedger:
    """The newest 10,000 receipts of this process."""

    def __init__(self) -> None:
        self._receipts: deque[Receipt] = deque(maxlen=MAX_RECEIPTS)

    def record(self, receipt: Receipt) -> None:
        self._receipts.append(receipt)

    async def recent(self, limit: int = 100) -> list[Receipt]:
        return list(reversed(self._receipts))[:limit]

    async def flush(self) -> None:
        return None


_COLUMNS: Final = tuple(column.name for column in fields(Receipt))


class FileLedger:
    """Receipts of all workers of a machine in one SQLite file, written in batches by a thread.

    At most 50,000 receipts wait; what a killed process had not written is lost (at most ``batch_s`` of it).
    """

    def __init__(self, path: Path, *, batch_s: float = 0.2) -> None:
        self._path = path
        self._queue: queue.Queue[Receipt | threading.Event | None] = queue.Queue(MAX_QUEUE)
        self._batch_s = batch_s
        with sqlite3.connect(path) as db:
            db.execute("PRAGMA journal_mode=WAL")
            columns = ", ".join(
                f'"{name}"' + (" TEXT PRIMARY KEY" if name == "exchange_id" else "") for name in _COLUMNS
            )
            db.execute(f"CREATE TABLE IF NOT EXISTS receipt ({columns})")
            there = {row[1] for row in db.execute("PRAGMA table_info(receipt)")}
            for name in _COLUMNS:
                if name not in there:  # written by an older release
                    db.execute(f'ALTER TABLE receipt ADD COLUMN "{name}"')
            db.execute("CREATE INDEX IF NOT EXISTS receipt_at ON receipt (at)")
        db.close()
        self._thread = threading.Thread(target=self._write, name="lmg-ledger", daemon=True)
        self._thread.start()

    def record(self, receipt: Receipt) -> None:
        try:
            self._queue.put_nowait(receipt)
        except queue.Full:
            raise QueueFull(f"{MAX_QUEUE} receipts wait to be written") from None

    def _write(self) -> None:
        db = sqlite3.connect(self._path, timeout=10)
        db.execute("PRAGMA synchronous=NORMAL")
        names = ", ".join(f'"{name}"' for name in _COLUMNS)
        insert = f"INSERT OR IGNORE INTO receipt ({names}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608 - our own names
        open_ = True
        while open_:
            batch = [self._queue.get()]
            if isinstance(batch[0], Receipt):
                time.sleep(self._batch_s)
            while not self._queue.empty() and len(batch) < 5_000:
                batch.append(self._queue.get_nowait())
            rows = [
                tuple(_cell(item, name) for name in _COLUMNS) for item in batch if isinstance(item, Receipt)
            ]
            if rows:
                with db:
                    db.executemany(insert, rows)
            for item in batch:
                if isinstance(item, threading.Event):
                    item.set()
                open_ = open_ and item is not None
        db.close()

    async def recent(self, limit: int = 100) -> list[Receipt]:
        await self.flush()

        names = ", ".join(f'"{name}"' for name in _COLUMNS)

        def read() -> list[Receipt]:
            db = sqlite3.connect(self._path, timeout=10)
            try:
                rows = db.execute(
                    f"SELECT {names} FROM receipt ORDER BY at DESC, exchange_id LIMIT ?",  # noqa: S608 - our own names
                    (limit,),
                ).fetchall()
            finally:
                db.close()
            return [_receipt(dict(zip(_COLUMNS, row, strict=True))) for row in rows]

        return await asyncio.to_thread(read)

    async def flush(self) -> None:
        written = threading.Event()
        await asyncio.to_thread(self._queue.put, written)
        await asyncio.to_thread(written.wait, 30)

    def close(self) -> None:
        """Writes what waits and ends the thread."""
        self._queue.put(None)
        self._thread.join(30)


def _cell(receipt: Receipt, name: str) -> Any:
    value = getattr(receipt, name)
    return orjson.dumps(value).decode() if name in ("tried", "tags") else value


def _receipt(row: dict[str, Any]) -> Receipt:
    row["estimated"], row["streamed"] = bool(row["estimated"]), bool(row["streamed"])
    row["tried"] = tuple(Tried(**one) for one in orjson.loads(row["tried"] or b"[]"))
    row["tags"] = orjson.loads(row["tags"] or b"{}")
    return Receipt(**row)


def as_json(receipt: Receipt) -> dict[str, Any]:
    """A receipt as the admin API shows it."""
    return asdict(receipt)


class TargetTable:
    """Which targets could serve a model: those of the configured providers, with what the catalogue knows of them."""

    def __init__(self, targets: Sequence[Target], catalogue: Catalogue | None = None) -> None:
        self._catalogue = catalogue
        known = [target if target.model == "*" else self._enriched(target) for target in targets]
        self._all = tuple(sorted(known, key=lambda target: target.priority))
        self._by: dict[tuple[str, str], tuple[Target, ...]] = {}
        for target in self._all:
            for operation in target.operations:
                self._by[target.model, operation] = (*self._by.get((target.model, operation), ()), target)
        self._any = {model for model, _ in self._by}

    def _enriched(self, target: Target) -> Target:
        return self._catalogue.enrich(target) if self._catalogue is not None else target

    def targets(self, model: str, operation: Operation) -> tuple[Target, ...]:
        """All targets that could serve ``model`` for ``operation``, best priority first."""
        found = self._by.get((model, operation))
        if found is not None:
            return found
        # A provider that names no models serves whatever is asked of it.
        open_ = [t for t in self._all if t.model == "*" and operation in t.operations]
        if model in self._any:
            return ()
        return tuple(self._enriched(replace(t, model=model, upstream_model=model)) for t in open_)

    def all(self, operation: Operation) -> tuple[Target, ...]:
        """Every target that is named by the configuration and serves ``operation``, best priority first."""
        return tuple(t for t in self._all if t.model != "*" and operation in t.operations)

    def lists(self, model: str) -> bool:
        """Whether some provider names ``model``."""
        return model in self._any

    def models(self) -> tuple[Target, ...]:
        """Every target, one a model, in the order of the configuration."""
        seen: dict[str, Target] = {}
        for target in self._all:
            if target.model != "*":
                seen.setdefault(target.model, target)
        return tuple(seen.values())


class EstimatingTokenizer:
    """Four bytes of UTF-8 make a token on average; no token is shorter than one byte."""

    def estimate(self, text: str, model: str) -> int:
        return math.ceil(len(text.encode("utf-8", "replace")) / 4)

    def upper_bound(self, text: str, model: str) -> int:
        return len(text.encode("utf-8", "replace"))


class FileSecrets:
    """Secrets as files of one folder (a mounted Kubernetes secret), read when asked for."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def get(self, name: str) -> SecretStr:
        if (
            self._folder is None
            or not name.replace("-", "").replace("_", "").replace(".", "").isalnum()
            or name.startswith(".")
        ):
            raise ServiceError(
                f"there is no secret {name!r}: server.secrets_dir is not set, or the name is not a file's"
            )
        try:
            return SecretStr((self._folder / name).read_text().rstrip("\n"))
        except OSError as error:
            raise ServiceError(f"the secret {name!r} cannot be read: {error.strerror}") from None

"""The counters of all workers of a machine: a memory-mapped file that they write in turn.

The file is LMDB's: one writer at a time behind a lock that outlives no process, a few microseconds a step.
Nothing is flushed to the disk: after a crash of the machine (not of a process) limits may begin anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import lmdb
import orjson

from ..errors import ServiceError
from . import Level, Limit, Settle, Take, Taken
from .buckets import drained, judge, level

__all__ = ["FileCounters", "read_bucket"]

MAP_BYTES: Final = 256 * 2**20
"""How far the (sparse) file may grow; past it, calls fail as if the store were gone."""
LONGEST_KEY: Final = 480  # LMDB takes 511 bytes
SWEEP_EVERY: Final = 256
SWEEP: Final = 64
ALIVE_FOR_S: Final = 0.5
"""How long a holder that was seen alive counts as alive."""

Bucket = tuple[float, float, float, dict[str, int]]  # spent, at, empty at, held by holder


class FileCounters:
    """Counters in a folder that all workers of this machine share; each process opens it once."""

    shared = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._env = _opened(folder)
        self._holders = _Holders(folder)
        self._me = self._holders.mine
        self._writes = 0
        self._swept = b""

    def close(self) -> None:
        """Lets go of what this process held and closes the file."""
        self._holders.close()
        self._env.close()

    # -- limits -------------------------------------------------------------------------------
    async def take(self, takes: Sequence[Take]) -> Taken:
        now = time.monotonic()
        with self._writing() as txn:
            buckets: dict[str, Bucket] = {}

            def load(key: str) -> tuple[float, float, int]:
                bucket = buckets[key] = self._bucket(txn, key)
                return bucket[0], bucket[1], sum(bucket[3].values())

            taken, after = judge(takes, load, now)
            if taken.refused is None:
                limits = {take.limit.key: take.limit for take in takes}
                for key, (spent, held) in after.items():
                    mine = buckets[key][3]
                    more = held - sum(mine.values())
                    if more:
                        mine[self._me] = mine.get(self._me, 0) + more
                    self._store(txn, limits[key], spent, now, mine)
        return taken

    async def peek(self, takes: Sequence[Take]) -> Taken:
        with self._env.begin() as txn:

            def load(key: str) -> tuple[float, float, int]:
                spent, at, _, held = self._bucket(txn, key)
                return spent, at, sum(held.values())

            return judge(takes, load, time.monotonic())[0]

    def settle(self, settles: Sequence[Settle]) -> None:
        now = time.monotonic()
        with suppress(ServiceError), self._writing() as txn:
            for one in settles:
                before, at, _, held = self._bucket(txn, one.limit.key)
                left = drained(before, at, now, one.limit)
                mine = held.pop(self._me, 0) - one.release
                if mine > 0:
                    held[self._me] = mine
                spent = max(0.0, left + one.spend) if one.limit.window_s is not None else 0.0
                self._store(txn, one.limit, spent, now, held)

    async def levels(self, limits: Sequence[Limit]) -> tuple[Level, ...]:
        with self._env.begin() as txn:
            return tuple(_level(self._bucket(txn, limit.key), limit) for limit in limits)

    def _bucket(self, txn: lmdb.Transaction, key: str) -> Bucket:
        raw = txn.get(_key(b"l", key))
        if raw is None:
            return 0.0, 0.0, 0.0, {}
        spent, at, empty, held = orjson.loads(raw)
        for holder in [holder for holder in held if holder != self._me and self._holders.gone(holder)]:
            del held[holder]
        return spent, at, empty, held

    def _store(
        self, txn: lmdb.Transaction, limit: Limit, spent: float, now: float, held: dict[str, int]
    ) -> None:
        empty = (
            now + spent / limit.capacity * limit.window_s
            if limit.window_s and limit.capacity and spent
            else now
        )
        txn.put(_key(b"l", limit.key), orjson.dumps((spent, now, empty, held)))

    # -- values and sums ----------------------------------------------------------------------
    async def tally(self, key: str, amounts: Mapping[str, int], ttl_s: float) -> dict[str, int]:
        with self._writing() as txn:
            there = _live(txn.get(_key(b"t", key)))
            sums: dict[str, int] = orjson.loads(there) if there is not None else {}
            for name, amount in amounts.items():
                sums[name] = sums.get(name, 0) + amount
            txn.put(_key(b"t", key), _kept(orjson.dumps(sums), ttl_s))
        return sums

    async def put(self, key: str, value: bytes, ttl_s: float, *, only_new: bool = False) -> bool:
        with self._writing() as txn:
            if only_new and _live(txn.get(_key(b"v", key))) is not None:
                return False
            txn.put(_key(b"v", key), _kept(value, ttl_s))
        return True

    async def get(self, keys: Sequence[str]) -> list[bytes | None]:
        with self._env.begin() as txn:
            return [_live(txn.get(_key(b"v", key))) for key in keys]

    async def remove(self, key: str, value: bytes | None = None) -> bool:
        with self._writing() as txn:
            there = _live(txn.get(_key(b"v", key)))
            if there is None or (value is not None and there != value):
                return False
            txn.delete(_key(b"v", key))
        return True

    # -- the file -----------------------------------------------------------------------------
    def _writing(self) -> _Write:
        return _Write(self)

    def _sweep(self, txn: lmdb.Transaction) -> None:
        """Forgets a few of what is over, from where the last sweep stopped."""
        now, clock = time.monotonic(), time.time()
        cursor = txn.cursor()
        more = cursor.set_range(self._swept) if self._swept else cursor.first()
        gone = []
        for _ in range(SWEEP):
            if not more:
                break
            key, raw = cursor.item()
            if _over(key, raw, now, clock, self._holders):
                gone.append(key)
            more = cursor.next()
        self._swept = bytes(cursor.key()) if more else b""
        for key in gone:
            txn.delete(key)


class _Write:
    """One step of a writer; an error of the file is a ``ServiceError``, and nothing of the step is kept."""

    __slots__ = ("_counters", "_txn")

    def __init__(self, counters: FileCounters) -> None:
        self._counters = counters

    def __enter__(self) -> lmdb.Transaction:
        try:
            self._txn = self._counters._env.begin(write=True)
        except lmdb.Error as error:
            raise ServiceError(f"the counter file cannot be written: {error}") from error
        return self._txn

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        counters, txn = self._counters, self._txn
        try:
            if error is not None:
                txn.abort()
            else:
                counters._writes += 1
                if counters._writes % SWEEP_EVERY == 0:
                    counters._sweep(txn)
                txn.commit()
        except lmdb.Error as failed:
            raise ServiceError(f"the counter file cannot be written: {failed}") from failed
        if isinstance(error, lmdb.Error):
            raise ServiceError(f"the counter file cannot be written: {error}") from error


class _Holders:
    """Who holds something: a process is alive while its file is locked, and the lock dies with it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "holders"
        self._folder.mkdir(exist_ok=True)
        self.mine = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._lock = os.open(self._folder / self.mine, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._seen: dict[str, float] = {}

    def gone(self, holder: str) -> bool:
        """Whether the process behind ``holder`` has ended."""
        now = time.monotonic()
        if self._seen.get(holder, 0.0) > now:
            return False
        path = self._folder / holder
        try:
            probe = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            self._seen.pop(holder, None)
            return True
        try:
            fcntl.flock(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._seen[holder] = now + ALIVE_FOR_S
            return False
        finally:
            os.close(probe)
        self._seen.pop(holder, None)
        path.unlink(missing_ok=True)
        return True

    def close(self) -> None:
        (self._folder / self.mine).unlink(missing_ok=True)
        os.close(self._lock)


def read_bucket(folder: Path, key: str) -> tuple[float, float, int]:
    """(spent, at, held) of ``key`` by the counters in ``folder``, which is not touched; nothing where there are none."""
    if not (folder / "data.mdb").exists():
        return 0.0, 0.0, 0
    try:
        with lmdb.open(str(folder), readonly=True, lock=False, create=False) as env, env.begin() as txn:
            raw = txn.get(_key(b"l", key))
    except lmdb.Error as error:
        raise ServiceError(f"{folder} cannot be read: {error}") from error
    if raw is None:
        return 0.0, 0.0, 0
    spent, at, _, held = orjson.loads(raw)
    return spent, at, sum(held.values())


def _level(bucket: Any, limit: Limit) -> Level:
    spent, at, _, held = bucket
    return level(drained(spent, at, time.monotonic(), limit), sum(held.values()), limit)


def _opened(folder: Path) -> lmdb.Environment:
    def opened() -> lmdb.Environment:
        return lmdb.open(
            str(folder), map_size=MAP_BYTES, max_spare_txns=4, sync=False, metasync=False, writemap=True, map_async=True, mode=0o600,
        )  # fmt: skip

    try:
        return opened()
    except (lmdb.CorruptedError, lmdb.InvalidError, lmdb.VersionMismatchError):
        # The machine went down while it was written: counters are worth less than a start.
        shutil.rmtree(folder)
        folder.mkdir()
        return opened()
    except lmdb.Error as error:
        raise ServiceError(f"the counters in {folder} cannot be opened: {error}") from error


def _key(kind: bytes, key: str) -> bytes:
    raw = key.encode()
    return kind + (raw if len(raw) <= LONGEST_KEY else hashlib.sha256(raw).digest())


def _kept(value: bytes, ttl_s: float) -> bytes:
    return b"%020d" % int((time.time() + ttl_s) * 1000) + value


def _live(raw: Any) -> bytes | None:
    return raw[20:] if raw is not None and int(raw[:20]) > time.time() * 1000 else None


def _over(key: Any, raw: Any, now: float, clock: float, holders: _Holders) -> bool:
    if key[:1] != b"l":
        return int(raw[:20]) <= clock * 1000
    _, at, empty, held = orjson.loads(raw)
    return (now >= empty or now < at) and all(
        holder != holders.mine and holders.gone(holder) for holder in held
    )

"""Decisions in OPA's decision-log format, as JSON lines in a file and as gzip batches to a URL.

https://www.openpolicyagent.org/docs/management-decision-logs. An exchange only leaves its input's bytes here; everything
else is done in the background, in batches of what has come in meanwhile.
"""

from __future__ import annotations

import asyncio
import gzip
import os
import random
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx
import orjson

from lmg import ServiceError

if TYPE_CHECKING:
    from lmg import Host
    from lmg.host import Worker

    from .config import DecisionLogConfig
    from .engine import Ruling

__all__ = ["Decided", "DecisionLog", "entry"]

BATCH: Final = 500
POST_TRIES: Final = 4
POST_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Decided:
    """One decision as it is queued. ``document`` is the input; ``ruling`` is None where there was no answer, and ``code``
    says then why; ``took_s`` is None for what came from the cache.
    """

    at: float
    exchange: str
    address: str
    revision: str
    document: bytes
    ruling: Ruling | None
    code: str
    outcome: str
    took_s: float | None


class DecisionLog:
    """Takes decisions without waiting; at most ``size`` wait, what comes then is dropped and counted."""

    def __init__(self, host: Host, name: str, path: str, config: DecisionLogConfig) -> None:
        self.dropped = 0
        self.failing = False
        self.random = random.Random()
        self._host = host
        self._name = name
        self._path = path
        self._config = config
        self._labels = {**config.labels, "component": name}
        self._mask = [pointer.split("/")[1:] for pointer in config.mask]
        self._held: list[Decided] = []
        self._told = False
        self._worker: Worker | None = None

    async def start(self) -> None:
        """Opens the file once, so that one that cannot be written stops the start.

        Raises:
            OSError: it cannot.
        """
        if self._config.file is not None and not self._host.reads_only:
            await asyncio.to_thread(_append, self._config.file, b"")
        # One item in the queue says that decisions wait; it stands for all of them.
        self._worker = self._host.worker(f"{self._name}:decisions", self._write, size=1)

    async def stop(self) -> None:
        """Writes what waits, for five seconds at most."""
        if self._worker is not None:
            await self._worker.stop()
        self.dropped += len(self._held)
        self._held = []

    def add(self, decided: Decided) -> bool:
        """Queues one; False where it was dropped."""
        held = self._held
        if len(held) >= self._config.size or self._worker is None or self._worker.stopped:
            self.dropped += 1
            return False
        held.append(decided)
        if not self._told:
            self._told = self._worker.offer(None)
        return True

    async def drain(self) -> None:
        """Returns when everything added before has been written."""
        if self._worker is not None:
            await self._worker.drain()

    async def _write(self, _: None) -> None:
        try:
            while self._held:
                batch, self._held = self._held[:BATCH], self._held[BATCH:]
                await self._write_batch(batch)
        finally:
            self._told = False

    async def _write_batch(self, batch: Sequence[Decided]) -> None:
        lines = [line for decided in batch if (line := self._line(decided))]
        try:
            if self._config.file is not None:
                await asyncio.to_thread(_append, self._config.file, b"".join(line + b"\n" for line in lines))
            if self._config.url is not None:
                await self._post(b"[" + b",".join(lines) + b"]")
            self.failing = False
        except asyncio.CancelledError:
            self.dropped += len(lines)
            raise
        except (OSError, ServiceError):
            self.failing = True
            self.dropped += len(lines)

    def _line(self, decided: Decided) -> bytes:
        random_id = uuid.UUID(int=self.random.getrandbits(128), version=4)
        try:
            return orjson.dumps(
                entry(decided, str(random_id), labels=self._labels, path=self._path, mask=self._mask)
            )
        except (
            TypeError,
            ValueError,
        ):  # the policy wrote what JSON does not have, as an integer beyond 64 bits
            self.dropped += 1
            return b""

    async def _post(self, events: bytes) -> None:
        assert self._config.url is not None
        packed = await asyncio.to_thread(gzip.compress, events)
        headers = {"content-type": "application/json", "content-encoding": "gzip"}
        if self._config.token is not None:
            headers["authorization"] = f"Bearer {self._config.token.get_secret_value()}"
        for attempt in range(POST_TRIES):
            if attempt:
                await self._host.clock.sleep(2.0**attempt)
            try:
                answer = await self._host.http.post(
                    self._config.url, content=packed, headers=headers, timeout=POST_TIMEOUT_S
                )
            except httpx.HTTPError:
                continue
            if answer.is_success:
                return
        raise ServiceError("the decision log's server does not take it")


def entry(
    decided: Decided, decision_id: str, *, labels: Mapping[str, str], path: str, mask: Sequence[Sequence[str]]
) -> dict[str, Any]:
    """``decided`` as OPA logs it, without what is masked; ``erased`` names what was."""
    event: dict[str, Any] = {
        "labels": dict(labels),
        "decision_id": decision_id,
        "bundles": {"policy": {"revision": decided.revision}},
        "path": path,
        "input": orjson.loads(decided.document),
        "requested_by": decided.address,
        "timestamp": datetime.fromtimestamp(decided.at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "metrics": {},
        "custom": {"exchange": decided.exchange, "outcome": decided.outcome, "cached": decided.took_s is None},
    }  # fmt: skip
    ruling = decided.ruling
    if ruling is not None:
        event["result"] = {
            "allow": ruling.allow, "reasons": list(ruling.reasons),
            "obligations": orjson.loads(orjson.dumps(ruling.obligations)),  # a copy: the cache holds the same object
        }  # fmt: skip
        if ruling.decision_id:
            event["custom"]["server_decision_id"] = ruling.decision_id
    else:
        event["error"] = {"code": decided.code}
    if decided.took_s is not None:
        event["metrics"]["timer_rego_query_eval_ns"] = int(decided.took_s * 1e9)
    erased = [f"/{'/'.join(pointer)}" for pointer in mask if _erase(event, pointer)]
    if erased:
        event["erased"] = erased
    return event


def _erase(event: dict[str, Any], pointer: Sequence[str]) -> bool:
    """Takes the member at ``pointer`` away; whether it was there."""
    holder: Any = event
    for key in pointer[:-1]:
        holder = holder.get(key) if type(holder) is dict else None
    if type(holder) is not dict or pointer[-1] not in holder:
        return False
    if len(pointer) == 1:
        holder[pointer[0]] = None
    else:
        del holder[pointer[-1]]
    return True


def _append(file: Path, lines: bytes) -> None:
    """Appends to ``file`` by its name, so that it may be moved away; only its owner may read it."""
    handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while lines:
            lines = lines[os.write(handle, lines) :]
    finally:
        os.close(handle)

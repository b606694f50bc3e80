"""What the kernel gives to components: clock, HTTP client, tasks, services, secrets, metrics."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from .errors import QueueFull
from .services.embedded import (
    EstimatingTokenizer,
    FileLedger,
    FileSecrets,
    MemoryLedger,
)
from .services.memory_counters import MemoryCounters
from .telemetry import Recorder

if TYPE_CHECKING:
    import httpx

    from .admin import AuditEvent
    from .services import CounterStore, Ledger, Secrets, Tokenizer

__all__ = ["Clock", "Host", "Worker"]

log = logging.getLogger("lmg")
audit_log = logging.getLogger("lmg.audit")
_CANCEL_S: Final = 1.0  # for a handler that was cut off and cleans up


class Clock:
    """The time; the testing kit has one that stands still until told."""

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds that never run backwards."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Waits."""
        await asyncio.sleep(seconds)


class Worker:
    """A background task with a bounded queue: ``offer`` never waits, what does not fit is counted and refused.

    Whoever asks the host for a worker stops it: a component that a reload replaces, in its own ``stop``.
    """

    def __init__(self, name: str, handle: Callable[[Any], Awaitable[None]], *, size: int) -> None:
        self.name = name
        self.dropped = 0
        self.failed = 0
        self.stopped = False
        self._handle = handle
        self._queue: asyncio.Queue[Any] = asyncio.Queue(size)
        self._task: asyncio.Task[None] | None = None

    def offer(self, item: object) -> bool:
        """Enqueues ``item``; False (and one more in ``dropped``) where the queue is full or the worker stopped."""
        if self.stopped or self._queue.full():
            self.dropped += 1
            return False
        self._queue.put_nowait(item)
        return True

    async def run(self) -> None:
        """Handles one item after the other until it is cancelled."""
        while True:
            item = await self._queue.get()
            try:
                await self._handle(item)
            except asyncio.CancelledError:
                self.dropped += 1
                raise
            except Exception as error:  # noqa: BLE001 - the plugin barrier: a worker outlives a bad item
                self.failed += 1
                log.error("worker_failed", extra={"worker": self.name, "error": type(error).__name__})
            finally:
                self._queue.task_done()

    async def drain(self) -> None:
        """Returns when everything offered before has been handled."""
        await self._queue.join()

    async def stop(self, drain_s: float = 5.0) -> None:
        """Takes nothing more, handles what is queued for at most ``drain_s`` seconds, and ends.

        What was not handled by then counts as dropped. Stopping again does nothing.
        """
        self.stopped = True
        if self._task is None:
            return
        handled = asyncio.ensure_future(self._queue.join())
        try:
            # Not for the queue alone: where the task has ended already, nobody would empty it.
            await asyncio.wait({handled, self._task}, timeout=drain_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            handled.cancel()
            self._task.cancel()
            self._drop_queued()
        await asyncio.wait({self._task}, timeout=_CANCEL_S)

    def _drop_queued(self) -> None:
        left = self._queue.qsize()
        for _ in range(left):
            self._queue.get_nowait()
            self._queue.task_done()
        if left:
            self.dropped += left
            log.warning("worker_dropped", extra={"worker": self.name, "items": left})


class Host:
    """One per process; it outlives pipelines, so what it holds survives a reload."""

    MAX_TASKS: Final = 10_000
    reads_only = False
    """True where a request is only explained: nothing may be written, nowhere."""
    connects = True
    """False where it is explained without leave to ask others: raise ``lmg.readonly.NotExplained`` instead."""

    def __init__(
        self, *, state_dir: Path | None = None, secrets_dir: Path | None = None, clock: Clock | None = None
    ) -> None:
        self.clock = clock or Clock()
        self.state_dir = state_dir
        self.keeps_state = True
        """False where ``state_dir`` is a temporary folder, which goes with the gateway: nothing to keep keys in."""
        self.metrics = Recorder()
        self.counters: CounterStore
        self.ledger: Ledger
        if state_dir is not None:
            from .services.file_counters import FileCounters  # one process needs no file, nor its library

            self.counters = FileCounters(state_dir / "counters")
            self.ledger = FileLedger(state_dir / "ledger.sqlite")
        else:
            self.counters = MemoryCounters(self.clock.monotonic)
            self.ledger = MemoryLedger()
        self.tokenizer: Tokenizer = EstimatingTokenizer()
        self.secrets: Secrets = FileSecrets(secrets_dir)
        self.component_errors = self.metrics.counter(
            "lmg_component_errors_total", "Failures of components, by hook.", ("component", "hook")
        )
        self.audit_sinks: list[Callable[[AuditEvent], None]] = []
        self._http: httpx.AsyncClient | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def http(self) -> httpx.AsyncClient:
        """A pooled client for the control plane (JWKS, OPA, webhooks); never for a model's upstream."""
        if self._http is None:
            import httpx

            self._http = httpx.AsyncClient(timeout=10.0, trust_env=False, follow_redirects=False)
        return self._http

    def audit(self, event: AuditEvent) -> None:
        """Tells the log ``lmg.audit`` and whoever has put itself into ``audit_sinks`` what an operator did."""
        audit_log.info("admin %s", orjson.dumps(event).decode())
        for sink in self.audit_sinks:
            try:
                sink(event)
            except Exception as error:  # noqa: BLE001 - the plugin barrier
                log.error("audit_sink_failed error=%s", type(error).__name__)

    def spawn(self, work: Coroutine[Any, Any, Any], *, name: str) -> asyncio.Task[Any]:
        """Runs ``work`` in the background; it is cancelled at shutdown, its failure is logged.

        Raises:
            QueueFull: 10,000 tasks run already.
        """
        if len(self._tasks) >= self.MAX_TASKS:
            work.close()
            raise QueueFull(f"{self.MAX_TASKS} background tasks run already")
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def worker(self, name: str, handle: Callable[[Any], Awaitable[None]], *, size: int) -> Worker:
        """A running ``Worker`` whose queue holds at most ``size`` items; it runs until it is stopped, or the process."""
        worker = Worker(name, handle, size=size)
        worker._task = self.spawn(worker.run(), name=f"worker:{name}")
        return worker

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task_failed", extra={"task": task.get_name(), "error": type(error).__name__})

    async def aclose(self) -> None:
        """Ends the tasks, flushes the ledger, closes the client."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._http is not None:
            await self._http.aclose()
        for service in (self.ledger, self.counters):
            close = getattr(service, "close", None)  # of the embedded ones; a component has `stop`
            if close is not None:
                await asyncio.to_thread(close)

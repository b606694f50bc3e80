"""Pre-fork: one parent that only watches, N workers that share its sockets. All swap or none."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import ConfigError
from .process import Process, new_loop, tune_collector

__all__ = ["serve_workers"]

log = logging.getLogger("lmg")
PREPARE_S = 60.0


@dataclass(slots=True)
class _Child:
    pid: int
    pipe: socket.socket
    ready: bool = False


def serve_workers(
    process: Process, sockets: list[socket.socket], count: int, ready: Callable[[], None]
) -> int:
    """Forks ``count`` workers and watches them; returns the exit code.

    ``process`` is this configuration's process, not started: each worker starts its own copy after the fork.
    """
    runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
    with runner:
        return runner.run(_Parent(process, sockets, count, ready).run())


class _Parent:
    def __init__(
        self, process: Process, sockets: list[socket.socket], count: int, ready: Callable[[], None]
    ) -> None:
        self._process = process
        self._sockets = sockets
        self._count = count
        self._on_ready = ready
        self._children: dict[int, _Child] = {}
        self._stopping = False
        self._failed_starts = 0
        self._reloading = asyncio.Lock()
        self._changed = asyncio.Event()
        self._announced = False

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._changed.set)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        tasks: set[asyncio.Task[object]] = set()
        loop.add_signal_handler(signal.SIGHUP, lambda: tasks.add(loop.create_task(self._reload())))
        for _ in range(self._count):
            self._fork()
        if self._process.config.server.watch and self._process.files:
            tasks.add(loop.create_task(self._process.watch(self._reload)))
        while self._children:
            await self._changed.wait()
            self._changed.clear()
            await self._reap()
        for task in tasks:
            task.cancel()
        return 0 if self._stopping else 1

    def _fork(self) -> None:
        ours, theirs = socket.socketpair()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                ours.close()
                signal.set_wakeup_fd(-1)
                for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
                    signal.signal(number, signal.SIG_DFL)
                code = _worker(self._process, self._sockets, theirs)
            finally:
                os._exit(code)
        theirs.close()
        ours.setblocking(False)
        child = self._children[pid] = _Child(pid, ours)
        asyncio.get_running_loop().create_task(self._await_ready(child))

    async def _await_ready(self, child: _Child) -> None:
        answer = await self._read(child, PREPARE_S)
        child.ready = answer == "ready"
        if child.ready:
            self._failed_starts = 0
        if (
            not self._announced
            and all(c.ready for c in self._children.values())
            and len(self._children) == self._count
        ):
            self._announced = True
            self._on_ready()

    async def _reap(self) -> None:
        for pid in list(self._children):
            with contextlib.suppress(ChildProcessError):
                done, status = os.waitpid(pid, os.WNOHANG)  # noqa: ASYNC222 - it does not wait
                if not done:
                    continue
                child = self._children.pop(pid)
                child.pipe.close()
                if self._stopping:
                    continue
                log.error("worker_died pid=%d status=%d", pid, os.waitstatus_to_exitcode(status))
                if not child.ready:
                    self._failed_starts += 1
                if self._failed_starts >= 3:
                    log.error("workers_do_not_start")
                    self._stop()
                    self._stopping = False
                    continue
                await asyncio.sleep(0.1 * 2**self._failed_starts)
                if not self._stopping:
                    self._fork()

    def _stop(self) -> None:
        self._stopping = True
        for pid in self._children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        self._changed.set()

    async def _reload(self) -> None:
        """Two steps over all workers: every one prepares, then all commit, or all abort."""
        async with self._reloading:
            children = [child for child in self._children.values() if child.ready]
            answers = await asyncio.gather(*(self._ask(child, "prepare") for child in children))
            fault = next((answer for answer in answers if answer != "ok"), "")
            await asyncio.gather(
                *(self._ask(child, f"abort {fault}" if fault else "commit") for child in children)
            )
            with contextlib.suppress(ConfigError):
                await asyncio.to_thread(self._process.reread)
            if fault:
                log.error("reload_refused: %s", fault)

    async def _ask(self, child: _Child, what: str) -> str:
        try:
            await asyncio.get_running_loop().sock_sendall(
                child.pipe, what.replace("\n", "\v").encode() + b"\n"
            )
        except OSError:
            return "the worker is gone"
        return await self._read(child, PREPARE_S)

    async def _read(self, child: _Child, seconds: float) -> str:
        loop = asyncio.get_running_loop()
        line = b""
        try:
            async with asyncio.timeout(seconds):
                while not line.endswith(b"\n"):
                    piece = await loop.sock_recv(child.pipe, 65536)
                    if not piece:
                        return "the worker is gone"
                    line += piece
        except (TimeoutError, OSError):
            return "the worker does not answer"
        return line.decode().strip().replace("\v", "\n")


def _worker(process: Process, sockets: list[socket.socket], pipe: socket.socket) -> int:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(_serve(process, sockets, pipe))


async def _serve(process: Process, sockets: list[socket.socket], pipe: socket.socket) -> int:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, process.drain)
    await process.start(sockets)
    tune_collector()
    reader, writer = await asyncio.open_connection(sock=pipe)

    async def obey() -> None:
        writer.write(b"ready\n")
        while line := await reader.readline():
            word, _, rest = line.decode().strip().partition(" ")
            answer = "ok"
            if word == "prepare":
                answer = (await process.prepare()) or "ok"
            elif word == "commit":
                process.commit()
            else:
                await process.abort(rest.replace("\v", "\n"))
            writer.write(answer.replace("\n", "\v").encode() + b"\n")
        process.drain()  # the parent is gone

    task = loop.create_task(obey())
    await process.ended()
    task.cancel()
    return 0

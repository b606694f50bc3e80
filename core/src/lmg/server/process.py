"""One serving process: listens, serves, reloads in two steps, drains, ends with 0."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import ssl
import time
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.server import ServerState

from ..config import MeshConfig, TlsConfig
from ..errors import ConfigError, MeshError
from ..host import Host
from ..pipeline import Blueprint, Pipeline
from .app import Gateway
from .protocol import make_protocol

if TYPE_CHECKING:
    from asyncio import AbstractServer

    from starlette.types import ASGIApp

__all__ = ["Process", "listen", "new_loop", "tls_context", "tune_collector"]

log = logging.getLogger("lmg")
Read = Callable[[], tuple[Blueprint, tuple[Path, ...]]]


class Process:
    """A gateway in this process. ``read`` reads the configuration anew; the first result is what it starts with."""

    def __init__(self, read: Read, *, state_dir: Path | None = None, host: Host | None = None) -> None:
        self._read = read
        self._blueprint, self.files = read()
        self._state_dir = state_dir
        self.host: Host = host  # type: ignore[assignment]  # made after the fork: it holds files and threads
        self.gateway: Gateway
        self._state = ServerState()
        self._servers: list[AbstractServer] = []
        self._sockets: list[socket.socket] = []
        self._admin_sockets: list[socket.socket] = []
        self._prepared: Pipeline | None = None
        self._tls: ssl.SSLContext | None = None
        self._ended: asyncio.Event = None  # type: ignore[assignment]
        self._draining: asyncio.Task[None] | None = None
        self._clock: asyncio.TimerHandle | None = None

    @property
    def config(self) -> MeshConfig:
        """The configuration that the process started with."""
        return self._blueprint.config

    @property
    def blueprint(self) -> Blueprint:
        """The checked configuration that the process started with."""
        return self._blueprint

    def use_state_dir(self, folder: Path) -> None:
        """Where embedded services keep their files if the configuration does not say; before ``start``."""
        self._state_dir = folder

    def use_admin_sockets(self, sockets: list[socket.socket]) -> None:
        """Where the admin API listens if it has a port of its own; before ``start``."""
        self._admin_sockets = sockets

    @property
    def admin_port(self) -> int:
        """The port of the admin API."""
        return int((self._admin_sockets or self._sockets)[0].getsockname()[1])

    def reread(self) -> None:
        """Reads the configuration anew, for whoever only watches."""
        self._blueprint, self.files = self._read()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._sockets[0].getsockname()[1])

    async def start(self, sockets: list[socket.socket]) -> None:
        """Starts the first pipeline, then listens; a failure leaves nothing open."""
        try:
            await self._start(sockets)
        except BaseException:
            for server in self._servers:
                server.close()
            for listening in (*sockets, *self._admin_sockets):
                listening.close()
            raise

    async def _start(self, sockets: list[socket.socket]) -> None:
        self._ended = asyncio.Event()
        server = self.config.server
        if self.host is None:
            self.host = Host(state_dir=server.state_dir or self._state_dir, secrets_dir=server.secrets_dir)
            self.host.keeps_state = server.state_dir is not None or self._state_dir is None
        pipeline = self._blueprint.build(self.host)
        await pipeline.start()
        pipeline.activate()
        self.gateway = Gateway(self.host, pipeline)
        self._tls = tls_context(server.tls) if server.tls is not None else None
        self._tick()
        self._sockets = sockets
        await self._listen(self.gateway, sockets, server.allowed_hosts, self._tls)
        admin = self.config.admin
        if admin is not None and self._admin_sockets:
            from .rest import build

            tls = tls_context(admin.tls) if admin.tls is not None else None
            await self._listen(build(self.gateway, front=False), self._admin_sockets, [], tls)

    async def _listen(
        self, app: ASGIApp, sockets: list[socket.socket], hosts: list[str], tls: ssl.SSLContext | None
    ) -> None:
        loop = asyncio.get_running_loop()
        protocol = make_protocol(self.config.server.limits, hosts)
        config = uvicorn.Config(
            app, http=protocol, ws="none", lifespan="off", interface="asgi3", log_config=None, access_log=False,
            server_header=False, date_header=True, proxy_headers=False,
        )  # fmt: skip
        config.load()

        def connection() -> asyncio.Protocol:
            return protocol(config=config, server_state=self._state, app_state={}, _loop=loop)

        for listening in sockets:
            self._servers.append(await loop.create_server(connection, sock=listening, ssl=tls, backlog=4096))

    def _tick(self) -> None:
        self._state.default_headers = [(b"date", formatdate(time.time(), usegmt=True).encode())]
        self._clock = asyncio.get_running_loop().call_later(1.0, self._tick)

    # -- reload: all workers swap, or none ------------------------------------------------------
    async def prepare(self) -> str:
        """Builds and starts a new pipeline beside the running one; returns why it cannot be, or nothing."""
        await self.abort()
        try:
            blueprint, self.files = await asyncio.to_thread(self._read)
            pipeline = blueprint.build(self.host, self.gateway.pipeline)
            await pipeline.start()
        except MeshError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 - the plugin barrier: a component's start may raise anything
            return f"a component failed to start: {type(error).__name__}"
        self._prepared = pipeline
        return ""

    def commit(self) -> None:
        """Swaps to the prepared pipeline; exchanges in flight finish where they began."""
        pipeline, self._prepared = self._prepared, None
        if pipeline is None:
            return
        old, new = self.gateway.pipeline.config.server, pipeline.config.server
        fixed = [
            name
            for name in ("host", "port", "workers", "tls", "state_dir", "limits")
            if getattr(old, name) != getattr(new, name)
        ]
        if _admin_port(self.config) != _admin_port(pipeline.config):
            log.warning("reload_needs_restart settings=admin.port")
        if fixed:
            log.warning("reload_needs_restart settings=%s", ",".join(f"server.{name}" for name in fixed))
        self.gateway.swap(pipeline)
        self.gateway.failed_reload = ""
        if self._tls is not None and new.tls is not None:
            self._tls.load_cert_chain(new.tls.cert_file, new.tls.key_file)
        log.info("reloaded")

    async def abort(self, why: str = "") -> None:
        """Drops the prepared pipeline; the running one has not been touched."""
        pipeline, self._prepared = self._prepared, None
        if pipeline is not None:
            await pipeline.stop(self.gateway.live)
        if why:
            self.gateway.failed_reload = why
            log.error("reload_refused: %s", why)

    async def reload(self) -> bool:
        """Both steps, for a single process."""
        why = await self.prepare()
        if why:
            await self.abort(why)
            return False
        self.commit()
        return True

    async def watch(self, changed: Callable[[], Any]) -> None:
        """Calls ``changed`` when a file of the configuration has changed."""
        before = _stamps(self.files)
        while True:
            await asyncio.sleep(1.0)
            now = _stamps(self.files)
            if now != before:
                result = changed()
                if asyncio.iscoroutine(result):
                    await result
                before = _stamps(self.files)

    # -- the end --------------------------------------------------------------------------------
    def drain(self) -> None:
        """Refuses new work at once; ends when what is in flight has ended, or the drain time is over."""
        if self._draining is None:
            self.gateway.draining = True
            self._draining = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        limit = time.monotonic() + self.gateway.pipeline.config.server.drain_s
        tasks = self._state.tasks
        while tasks and time.monotonic() < limit:
            await asyncio.wait(
                set(tasks), timeout=max(0.0, limit - time.monotonic()), return_when=asyncio.FIRST_COMPLETED
            )
        for task in list(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(set(tasks), timeout=5.0)
        await self.aclose()

    async def aclose(self) -> None:
        """Closes listeners, connections, components and services."""
        for server in self._servers:
            server.close()
        for listening in (*self._sockets, *self._admin_sockets):
            with contextlib.suppress(OSError):
                listening.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        await asyncio.sleep(0)
        if self._clock is not None:
            self._clock.cancel()
        for pipeline in list(self.gateway.live):
            self.gateway.live.remove(pipeline)
            await pipeline.stop(self.gateway.live)
        if self.gateway.retiring:
            # What a reload has just replaced still hands over what it had queued.
            await asyncio.wait(set(self.gateway.retiring), timeout=10.0)
        await self.host.aclose()
        self._ended.set()

    async def ended(self) -> None:
        """Returns when the process has drained."""
        await self._ended.wait()

    async def run(self, sockets: list[socket.socket], ready: Callable[[], None]) -> None:
        """Serves until SIGTERM or SIGINT, reloading on SIGHUP and on file change."""
        await self.start(sockets)
        tune_collector()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.drain)
        loop.add_signal_handler(signal.SIGHUP, lambda: self.host.spawn(self.reload(), name="reload"))
        if self.config.server.watch and self.files:
            self.host.spawn(self.watch(self.reload), name="watch")
        ready()
        await self.ended()


def tune_collector() -> None:
    """Takes what start-up made out of the garbage collector's sight, and lets it look less often.

    An exchange makes few reference cycles; looking for them after every 700 allocations cost a tenth of its CPU.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _admin_port(config: MeshConfig) -> tuple[str, int] | None:
    admin = config.admin
    return (admin.host, admin.port) if admin is not None and admin.port is not None else None


def _stamps(files: tuple[Path, ...]) -> list[tuple[float, int]]:
    stamps = []
    for file in files:
        try:
            stat = file.stat()
            stamps.append((stat.st_mtime, stat.st_ino))
        except OSError:
            stamps.append((0.0, 0))
    return stamps


def tls_context(tls: TlsConfig) -> ssl.SSLContext:
    """The server's TLS: 1.3 unless 1.2 is allowed; client certificates required where an authority is named.

    Raises:
        ConfigError: a file cannot be read or does not fit.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2 if tls.min_version == "1.2" else ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(tls.cert_file, tls.key_file)
        if tls.client_ca_file is not None:
            context.load_verify_locations(tls.client_ca_file)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        what = getattr(error, "strerror", None) or getattr(error, "reason", "") or type(error).__name__
        raise ConfigError(
            f"the TLS files cannot be used: {what}",
            path="server.tls",
            hint="check paths, and that key and certificate belong together",
        ) from None
    return context


def listen(host: str, port: int) -> list[socket.socket]:
    """Bound, not yet listening sockets for ``host:port``.

    Raises:
        ConfigError: the address is taken or not this machine's.
    """
    sockets: list[socket.socket] = []
    try:
        infos = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(infos):
            bound = socket.socket(family, kind, protocol)
            sockets.append(bound)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if port == 0 and len(sockets) > 1:
                address = (address[0], sockets[0].getsockname()[1], *address[2:])
            bound.bind(address)
            bound.set_inheritable(True)
    except OSError as error:
        for bound in sockets:
            bound.close()
        raise ConfigError(
            f"cannot listen on {host}:{port}: {error.strerror}",
            path="server.port",
            hint="choose another port, or stop what uses it",
        ) from None
    return sockets


def new_loop() -> asyncio.AbstractEventLoop:
    """The event loop: uvloop, which took a third of asyncio's CPU per request off in measurements."""
    try:
        import uvloop
    except ImportError:  # platforms that it does not support
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()

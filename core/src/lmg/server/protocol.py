"""The front door: uvicorn's httptools protocol, made strict.

Six duties: the header list is frozen when the head is complete (trailers never join it); exactly one
valid Host; Upgrade is ignored; absolute deadlines for head and body, and a minimum rate; bytes are
counted while they are read; the connection closes after any 4xx that came from parsing.
Source: RFC 9112 §2 to §7, RFC 9110 §7.2.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import ssl
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from ..dialects.registry import dialect_for_errors
from ..exchange import TlsPeer
from .turn import Turn

if TYPE_CHECKING:
    from ..config import Limits

__all__ = ["FrontDoor", "make_protocol"]

_HOST: Final = re.compile(
    rb"^(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?\.?|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?$"
)
_GRACE_S: Final = 5.0
_LINGER_S: Final = 2.0
_LINGERS: Final = 15
_PIPELINED: Final = 8
# Chunks of one byte are six on the wire; whatever needs more is extensions and trailers.
_FRAMING: Final = 16


class _Rejected(Exception):
    """Raised inside a parser callback to stop parsing."""


class FrontDoor(HttpToolsProtocol):
    """One client connection."""

    limits: Limits
    allowed_hosts: frozenset[bytes]
    max_head: int  # the two limits that are looked at for each header and each piece of a body
    max_body: int

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # uvicorn lets data follow a request that announced its end; here that is an error.
        self.parser = httptools.HttpRequestParser(self)
        self.access_log = False
        self.timeout_keep_alive = self.limits.idle_timeout_s  # type: ignore[assignment]
        self._head_bytes = 0
        self._head_done = False
        self._body_bytes = 0
        self._body_since = 0.0
        self._reading = False
        self._refused: tuple[int, str, str] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._replayed: list[tuple[bytes, bytes]] | None = None
        self._tls: TlsPeer | None = None
        self._lingering = False
        self._discarded = 0
        self._answering: Any = None
        self._wire = 0
        self._idle_since = 0.0
        self._asgi = {"version": self.asgi_version, "spec_version": "2.3"}

    # -- connection -----------------------------------------------------------------------------
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None:
            self._tls = tls_peer(tls)
        if len(self.connections) > self.limits.max_connections:
            self._refuse(503, "overloaded", "The gateway has too many connections.")
            return
        self._timer = self.loop.call_later(self.limits.head_timeout_s, self._head_late)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        cycle = self._answering
        super().connection_lost(exc)
        self.pipeline.clear()
        self._unset_keepalive_if_required()
        if cycle is not None and not cycle.response_complete:
            self._abandon(cycle)

    def _abandon(self, cycle: Any) -> None:
        """Tells the request that is being answered that nobody will read its answer."""
        cycle.disconnected = True
        cycle.message_event.set()
        gone: Any = cycle.scope.get("lmg.gone")
        if gone is not None:
            gone()

    def data_received(self, data: bytes) -> None:
        if self._lingering:
            self._discarded += len(data)
            return
        if self.parser is None:
            return
        self._wire += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError:
            status, code, message = self._refused or (
                400,
                "invalid_http",
                "The request is not valid HTTP/1.1.",
            )
            self._refused = None
            self._refuse(status, code, message)
            return
        if self._reading and not self._lingering:
            self._check_reading()

    def _check_reading(self) -> None:
        """What a request that is not complete must keep to: a deadline, and bytes that are mostly its own."""
        limits = self.limits
        if not self._head_done:
            # The parser hands a header over when it is complete: one that never is must not fill memory.
            if self._wire > limits.max_header_bytes:
                self._refuse(431, "headers_too_large", "The request's headers are too large.")
                return
            if self._timer is None and (self._answering is None or self._answering.response_complete):
                self._timer = self.loop.call_later(limits.head_timeout_s, self._head_late)
            return
        if self._wire > 2 * limits.max_header_bytes + _FRAMING * self._body_bytes:
            self._refuse(400, "invalid_http", "The request's chunks are more framing than data.")
        elif self._timer is None:
            self._timer = self.loop.call_later(min(1.0, limits.body_timeout_s), self._watch_body)

    def _refuse(self, status: int, code: str, message: str) -> None:
        """A clean refusal by the parser, then the end: what follows on this connection cannot be trusted."""
        if self._refused is not None:
            return
        self._refused = (status, code, message)
        self.pipeline.clear()
        cycle = self._answering
        if cycle is None or cycle.response_complete or not cycle.response_started:
            path = getattr(self, "url", b"").partition(b"?")[0]
            body = dialect_for_errors(path).error_body(
                status, code, message, "invalid_request_error" if status < 500 else "server_error", None, ""
            )
            head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n" % len(
                body
            )
            allow = b"allow: GET, POST\r\n" if status == 405 else b""
            self.transport.write(STATUS_LINE[status] + head + allow + b"\r\n" + body)
        if cycle is not None and not cycle.response_complete:
            self._abandon(cycle)
        self._linger()

    def _linger(self) -> None:
        """Closes without a reset: a client that is still sending could lose the answer to one."""
        if self._lingering:
            return
        self._lingering = True
        if self._timer is not None:
            self._timer.cancel()
        self._unset_keepalive_if_required()
        self.flow.resume_reading()
        if self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()
            self._timer = self.loop.call_later(_LINGER_S, self._lingered, _LINGERS, self._discarded)
        else:
            self.transport.close()

    def _lingered(self, left: int, discarded: int) -> None:
        """Ends the connection once its client has stopped sending, or has been sending for too long."""
        if left and self._discarded > discarded:
            self._timer = self.loop.call_later(_LINGER_S, self._lingered, left - 1, self._discarded)
        else:
            self.transport.abort()

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Serves a request with Upgrade as if it had none (RFC 9110 §7.8 lets a server ignore it)."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._refuse(405, "method_not_allowed", "This method is not supported.")
            return
        if self._replayed is not None:
            self._refuse(400, "invalid_http", "The request is not valid HTTP/1.1.")
            return
        headers = [
            (name, value)
            for name, value in self.headers
            if name not in (b"upgrade", b"connection", b"http2-settings")
        ]
        head = b"".join(
            [
                method,
                b" ",
                self.url,
                b" HTTP/1.1\r\n",
                *(name + b": " + value + b"\r\n" for name, value in headers),
                b"\r\n",
            ]
        )
        self.parser = httptools.HttpRequestParser(self)
        self._replayed = headers
        try:
            self.data_received(head + rest)
        finally:
            self._replayed = None

    # -- deadlines ------------------------------------------------------------------------------
    def _head_late(self) -> None:
        self._timer = None
        self._refuse(408, "head_timeout", "The request's head did not arrive in time.")

    def _watch_body(self) -> None:
        self._timer = None
        if not self._reading:
            return
        spent = time.monotonic() - self._body_since
        limits = self.limits
        # A body that the gateway itself does not read yet is not the client's delay.
        if self.flow.read_paused:
            self._body_since = time.monotonic()
        elif spent > limits.body_timeout_s or (
            spent > _GRACE_S and self._body_bytes < limits.min_body_rate * (spent - _GRACE_S)
        ):
            self._refuse(408, "body_timeout", "The request's body did not arrive in time.")
            return
        self._timer = self.loop.call_later(min(1.0, limits.body_timeout_s), self._watch_body)

    # -- parser callbacks -----------------------------------------------------------------------
    def _stop(self, status: int, code: str, message: str) -> None:
        self._refused = (status, code, message)
        raise _Rejected

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._wire = 0
        self._head_bytes = 0
        self._head_done = False
        self._body_bytes = 0
        self._reading = True

    def on_url(self, url: bytes) -> None:
        self._head_bytes += len(url)
        if self._head_bytes > self.max_head:
            self._stop(414, "uri_too_long", "The request's target is too long.")
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > self.max_head:
            self._stop(431, "headers_too_large", "The request's headers are too large.")
        if self._head_done:
            return  # a trailer: it names no header of this request
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            return  # feed_data raises HttpParserUpgrade next
        self._head_done = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if len(self.headers) > self.limits.max_headers:
            self._stop(431, "headers_too_large", "The request's headers are too many.")
        host: bytes | None = None
        for name, value in self.headers:
            if name == b"host":
                if host is not None:
                    self._stop(400, "invalid_host", "The request has more than one Host.")
                host = value
            elif name == b"content-length" and int(value) > self.max_body:
                self._stop(413, "body_too_large", f"The body is larger than {self.max_body} bytes.")
        if host is None or not _HOST.match(host):
            self._stop(400, "invalid_host", "The request needs exactly one valid Host.")
        if (
            self.allowed_hosts
            and host is not None
            and host.rpartition(b":")[0].lower() not in self.allowed_hosts
            and host.lower() not in self.allowed_hosts
        ):
            self._stop(421, "misdirected_request", "This gateway does not serve that host.")
        self._body_since = time.monotonic()
        self._begin_turn()

    def _begin_turn(self) -> None:
        """Hands the request to the application, or to the queue behind the one that is being answered."""
        parser = self.parser
        version = parser.get_http_version()
        target = httptools.parse_url(self.url)
        raw_path = target.path or b"/"
        path = raw_path.decode("ascii", "replace")
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": self._asgi,
            "http_version": version,
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "method": parser.get_method().decode("ascii"),
            "root_path": "",
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": target.query or b"",
            "headers": self.headers,
        }
        if self._tls is not None:
            scope["lmg.tls"] = self._tls
        before = self.cycle
        turn = self.cycle = Turn(self, scope, version != "1.0" and parser.should_keep_alive())
        scope["lmg.turn"] = turn
        if before is None or before.response_complete:
            self._start_asgi_task(turn, self.app)
        else:
            if len(self.pipeline) >= _PIPELINED:
                # Until then reading goes on: a client that leaves would not be noticed otherwise.
                self.flow.pause_reading()
            self.pipeline.appendleft((turn, self.app))

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > self.max_body:
            self._stop(413, "body_too_large", f"The body is larger than {self.max_body} bytes.")
        turn = self.cycle
        if turn.response_complete:
            return
        turn.body += body
        if len(turn.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        turn.message_event.set()

    def on_message_complete(self) -> None:
        if not self._head_done:
            return  # the head of an upgrade: the request is read anew without it
        self._reading = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        turn = self.cycle
        if not turn.response_complete:
            turn.more_body = False
            turn.message_event.set()

    def on_response_complete(self) -> None:
        if (
            self._reading
            and self._head_done
            and self.cycle is self._answering
            and not self.transport.is_closing()
        ):
            # An answer before the body's end: the rest of it must not be taken for a request.
            self._linger()
            return
        if self._lingering or self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self._idle_since = self.loop.time()
            if self.timeout_keep_alive_task is None:
                self.timeout_keep_alive_task = self.loop.call_later(
                    self.timeout_keep_alive, self.timeout_keep_alive_handler
                )
        if self._reading:
            # The next request has begun while this one was answered: its time counts from now.
            self._body_since = time.monotonic()
            self._check_reading()

    def shutdown(self) -> None:
        """The process ends: a connection whose request was refused has nothing to wait for."""
        if self._lingering:
            self.transport.abort()
        elif self._answering is None or self._answering.response_complete:
            self.transport.close()
        else:
            self.pipeline.clear()
            self._answering.keep_alive = False

    def timeout_keep_alive_handler(self) -> None:
        """Closes an idle connection; one timer a connection, that looks at the time when it fires."""
        self.timeout_keep_alive_task = None
        if self._reading or not self.cycle.response_complete or self.transport.is_closing():
            return  # the next answer's end arms it again
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self.timeout_keep_alive_task = self.loop.call_later(left, self.timeout_keep_alive_handler)
        else:
            self.transport.close()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._answering = cycle
        self.tasks.add(self.loop.create_task(cycle.run_asgi(app)))  # which takes it out again


def tls_peer(tls: ssl.SSLObject) -> TlsPeer | None:
    """Who the verified client certificate names, or None where there is none."""
    certificate, encoded = tls.getpeercert(), tls.getpeercert(binary_form=True)
    if not certificate or not encoded:
        return None
    subject: Any = certificate.get("subject", ())
    name = ",".join(f"{key}={_escaped(value)}" for part in subject for key, value in part)
    sans: Any = certificate.get("subjectAltName", ())
    return TlsPeer(
        name, tuple(f"{kind}:{value}" for kind, value in sans), str(certificate.get("serialNumber", "")),
        hashlib.sha256(encoded).hexdigest(),
    )  # fmt: skip


def _escaped(value: str) -> str:
    """A value of a distinguished name, so that none looks like two (RFC 4514 §2.4)."""
    escaped = re.sub(r'[,+"\\<>;=]', lambda found: "\\" + found.group(), value).replace("\0", "\\00")
    if escaped.startswith(("#", " ")):
        escaped = "\\" + escaped
    return f"{escaped[:-1]}\\ " if value.endswith(" ") and len(value) > 1 else escaped


def make_protocol(limits: Limits, allowed_hosts: list[str]) -> type[FrontDoor]:
    """The protocol class with its bounds: uvicorn makes one object a connection."""
    hosts = frozenset(host.lower().encode() for host in allowed_hosts)
    bounds = {"max_head": limits.max_header_bytes, "max_body": limits.max_body_bytes}
    return type("FrontDoor", (FrontDoor,), {"limits": limits, "allowed_hosts": hosts, **bounds})

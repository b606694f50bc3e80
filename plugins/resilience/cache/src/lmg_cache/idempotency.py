"""`idempotency`: requests with the same ``Idempotency-Key`` are one call, one answer and one receipt.

Source: the IETF draft "The Idempotency-Key HTTP Header Field" (draft-ietf-httpapi-idempotency-key-header).
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable
from contextlib import suppress
from hashlib import blake2b
from typing import ClassVar, Final

import orjson

from lmg import Answer, Component, Deny, Exchange, Host, QueueFull, Response, ServiceError, Slot
from lmg.component import Facts
from lmg.services import CounterStore, Limit, Take
from lmg.services.memory_counters import MemoryCounters

from .answers import assembled
from .collect import Collector
from .config import IdempotencyConfig
from .fingerprint import owner_of
from .leases import Claim, Leases
from .place import Place
from .plugin import Cache
from .records import Record, read
from .waiting import settled

__all__ = ["Idempotency"]

_PRINTABLE: Final = re.compile(rb"[\x20-\x7e]{1,255}")
FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 1.0
"""Between two looks at a key that another process works on."""
_FINAL: Final = ((b"x-should-retry", b"false"),)
INVALID: Final = Deny(
    400, "idempotency_key_invalid", "'Idempotency-Key' must be given once, with 1 to 255 printable ASCII characters.", headers=_FINAL
)  # fmt: skip
REUSED: Final = Deny(
    422, "idempotency_key_reused", "This Idempotency-Key was used with another request. Use a new key for a new request.", headers=_FINAL
)  # fmt: skip
IN_PROGRESS: Final = Deny(
    409, "idempotency_in_progress", "The first request with this Idempotency-Key is still being answered.", headers=((b"retry-after", b"1"),)
)  # fmt: skip
NOT_KEPT: Final = Deny(
    409, "idempotency_answer_not_kept", "The first request with this Idempotency-Key was answered, and its answer could not be kept.", headers=_FINAL
)  # fmt: skip
UNAVAILABLE: Final = Deny(
    503, "idempotency_unavailable", "Whether this Idempotency-Key was used cannot be looked up at the moment.", type="server_error", headers=((b"retry-after", b"1"),)
)  # fmt: skip
JSON: Final = b"application/json"
Found = Answer | Deny | None


class Idempotency(Component):
    """A retry gets the first answer. It belongs below the guards and above `cache`: what it keeps is what the upstream
    sent, and each repeat walks up through the guards of its own caller.
    """

    Config = IdempotencyConfig
    summary = "requests with the same Idempotency-Key are one call and one receipt"
    stability = "beta"
    requires: ClassVar[Facts] = {"on_request": ("body", "principal")}
    modes = frozenset({"enforce", "off"})

    def __init__(self, config: IdempotencyConfig, host: Host, name: str) -> None:
        super().__init__(config, host, name)
        self.max_wait_s = config.max_wait_ms / 1000
        self.random = random.Random()
        """Spreads the looks of several processes at one key."""
        self._room = Limit(f"{name}:bytes", config.max_bytes // 2, config.ttl_s)
        self._local = MemoryCounters(host.clock.monotonic)
        self._claims: dict[str, Claim] = {}
        self._leases = Leases(host, name, config.lease_s)
        self._place = Place(self, name, (Cache,))
        self._slot = Slot[Claim](name)
        self._requests = host.metrics.counter(
            "llm_idempotency_requests_total", "Requests with an Idempotency-Key, by what became of them.", ("result",)
        )  # fmt: skip
        self._store_errors = host.metrics.counter(
            "llm_idempotency_store_errors_total", "Calls of the counter store that failed."
        )

    async def stop(self) -> None:
        self._leases.stop()

    # -- down ---------------------------------------------------------------------------------
    def on_request(self, exchange: Exchange) -> Awaitable[Found] | None:
        """Nothing without a key; else the first answer, a refusal, or a claim to be the first."""
        given = exchange.head.all(b"idempotency-key")
        return self._judge(exchange, given) if given else None

    async def _judge(self, exchange: Exchange, given: list[bytes]) -> Found:
        key = given[0].strip()
        if len(given) != 1 or not _PRINTABLE.fullmatch(key):
            return self._refuse("invalid", INVALID)
        principal = exchange.principal
        assert principal is not None
        if not principal.may_use(exchange.request.model):
            return None  # the kernel refuses it, and an answer must not come first
        self._place.check(exchange.pipeline)
        owner = owner_of(principal) if self.config.scope == "principal" else None
        name = f"{self.name}:{_digest(repr((principal.tenant, owner, key)).encode())}"
        claim = Claim(name, Record("held", _fingerprint(exchange), exchange.id))
        try:
            return await self._first_or_repeat(exchange, claim)
        except ServiceError:
            self._store_errors.inc()
            return self._refuse("store_lost", UNAVAILABLE)

    async def _first_or_repeat(self, exchange: Exchange, claim: Claim) -> Found:
        now = self.host.clock.monotonic
        until = now() + self.max_wait_s
        while True:
            first = self._claims.get(claim.name)
            if first is None:
                record = await self._take(claim, until)
                if record is None:
                    exchange[self._slot] = claim
                    self._requests.inc(("first",))
                    return None
            elif first.record.fingerprint != claim.record.fingerprint:
                return self._refuse("reused", REUSED)
            else:
                record = await self._wait(first, until)
            if record is not None:
                if record.fingerprint != claim.record.fingerprint:
                    return self._refuse("reused", REUSED)
                if record.state == "done":
                    return self._replay(exchange, record)
                if record.state == "not_kept":
                    return self._refuse("not_kept", NOT_KEPT)
            if now() >= until or (first is not None and not first.settled.done()):
                return self._refuse("in_progress", IN_PROGRESS)

    async def _wait(self, first: Claim, until: float) -> Record | None:
        """What came of an exchange of this process; None where the key is free again, or the wait was in vain."""
        if first.waiting >= self.config.max_waiting:
            return None
        first.waiting += 1
        try:
            clock = self.host.clock
            done = await settled(first.settled, clock, until - clock.monotonic())
            return first.settled.result() if done else None
        finally:
            first.waiting -= 1

    async def _take(self, claim: Claim, until: float) -> Record | None:
        """None where the key is this claim's now; else what another process has made of it, by ``until`` at the latest.

        Meanwhile repeats in this process wait for this one: the store is asked once, however many they are.
        """
        self._claims[claim.name] = claim
        clock, pause_s = self.host.clock, FIRST_PAUSE_S
        held, record = False, None
        try:
            while True:
                record = await self._ask(claim)
                if record is None:
                    held = True
                    self._leases.hold(claim)
                    return None
                left_s = until - clock.monotonic()
                other = record.fingerprint != claim.record.fingerprint
                if record.state != "held" or other or left_s <= 0:
                    return record
                await clock.sleep(min(pause_s * (0.5 + self.random.random()), left_s))
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
        except asyncio.CancelledError:
            self._give_back(claim)  # the store may have taken it before the caller left
            raise
        finally:
            if not held:
                self._end(claim, record if record is not None and record.state != "held" else None)

    def _give_back(self, claim: Claim) -> None:
        async def remove() -> None:
            with suppress(ServiceError):
                await self.host.counters.remove(claim.name, claim.lock)

        with suppress(QueueFull):
            self.host.spawn(remove(), name=f"{self.name}:give-back")

    async def _ask(self, claim: Claim) -> Record | None:
        """Takes the key where it is free, else tells what is there.

        Raises:
            ServiceError: the store is away, and ``on_store_loss`` is ``deny``.
        """
        try:
            return await _ask_in(self.host.counters, claim, self.config.lease_s)
        except ServiceError:
            if self.config.on_store_loss == "deny":
                raise
            self._store_errors.inc()
            return await _ask_in(self._local, claim, self.config.lease_s)

    def _replay(self, exchange: Exchange, record: Record) -> Answer:
        exchange.reply_header(b"idempotent-replayed", b"true")
        self._requests.inc(("replayed",))
        headers = ((b"content-type", record.content_type.encode("latin-1")),)
        return Answer(record.body, record.status, headers, replay_of=record.exchange)

    def _refuse(self, result: str, deny: Deny) -> Deny:
        self._requests.inc((result,))
        return deny

    # -- up -----------------------------------------------------------------------------------
    def on_response(self, exchange: Exchange, response: Response) -> None:
        """Notes a whole answer, as it came from below."""
        claim = exchange.get(self._slot)
        if claim is not None and response.status < 400:
            kind = next((value for name, value in response.headers if name == b"content-type"), JSON)
            body = response.body.render()
            claim.answer = (response.status, kind, body) if len(body) <= self.config.max_entry_bytes else None

    def on_stream(self, exchange: Exchange) -> Collector | None:
        """Listens to the events of the first answer."""
        claim = exchange.get(self._slot)
        if claim is None:
            return None

        def done(events: list[bytes] | None) -> None:
            claim.answer = events

        return Collector(exchange, self.config.max_entry_bytes, done)

    def on_settle(self, exchange: Exchange) -> Awaitable[None] | None:
        """Before the last byte: the answer is on record, or the key is free for another try."""
        claim = exchange.get(self._slot)
        return None if claim is None else self._settle(exchange, claim)

    async def _settle(self, exchange: Exchange, claim: Claim) -> None:
        record = None
        try:
            if exchange.ended == "complete":
                record = await self._record_of(exchange, claim)
            async with claim.busy:
                claim.over = True
                if record is None:
                    assert claim.store is not None
                    await claim.store.remove(claim.name, claim.lock)
                else:
                    record = await self._store(claim, record)
        except ServiceError:
            # The client gets its answer all the same. Repeats are refused until the lease is over, then made anew.
            self._store_errors.inc()
        finally:
            self._end(claim, record)

    async def _record_of(self, exchange: Exchange, claim: Claim) -> Record:
        held = claim.record
        answer = claim.answer
        if isinstance(answer, list):
            whole = await assembled(exchange.dialect, answer, exchange.usage)
            answer = (200, JSON, orjson.dumps(whole)) if whole is not None else None
        if answer is None:
            return Record("not_kept", held.fingerprint, held.exchange)
        status, kind, body = answer
        return Record("done", held.fingerprint, held.exchange, status, kind.decode("latin-1"), body)

    async def _store(self, claim: Claim, record: Record) -> Record:
        """Puts the record in the place of the claim; without its answer, where the answers of others fill the room."""
        try:
            assert claim.store is not None
            return await self._store_in(claim.store, claim, record)
        except ServiceError:
            if self.config.on_store_loss == "deny":
                raise
            self._store_errors.inc()
            return await self._store_in(self._local, claim, record)

    async def _store_in(self, store: CounterStore, claim: Claim, record: Record) -> Record:
        value = record.value()
        if record.state == "done" and (await store.take([Take(self._room, len(value))])).refused is not None:
            record = Record("not_kept", record.fingerprint, record.exchange)
            value = record.value()
        await store.put(claim.name, value, self.config.ttl_s)
        return record

    def on_end(self, exchange: Exchange) -> None:
        """Whatever became of the exchange, nobody waits for it any longer."""
        claim = exchange.take(self._slot)
        if claim is not None:
            self._end(claim, None)

    def _end(self, claim: Claim, record: Record | None) -> None:
        self._leases.drop(claim)
        if self._claims.get(claim.name) is claim:
            del self._claims[claim.name]
        if not claim.settled.done():
            claim.settled.set_result(record)


async def _ask_in(store: CounterStore, claim: Claim, lease_s: float) -> Record | None:
    while True:
        if await store.put(claim.name, claim.lock, lease_s, only_new=True):
            claim.store = store
            return None
        (value,) = await store.get([claim.name])
        if value is not None:
            return read(value)


def _digest(data: bytes) -> str:
    return blake2b(data, digest_size=24, person=b"lmg-idempotency").hexdigest()


def _fingerprint(exchange: Exchange) -> str:
    """The request as the client sent it. Of a form, not the boundary: clients draw a new one for every try."""
    raw = exchange.raw_body
    boundary = exchange.request.sent.content_type.partition(b"boundary=")[2].strip(b'"')
    if boundary:
        raw = raw.replace(b"--" + boundary, b"--")
    return _digest(exchange.dialect.name.encode() + b"\n" + raw)

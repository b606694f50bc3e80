"""`cache`: an answer that was given before is given again, and requests that are the same at a time are one call."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, ClassVar, Final

import orjson

from lmg import (
    AdminCall,
    AdminRoute,
    Answer,
    Component,
    Deny,
    Exchange,
    Host,
    QueueFull,
    Refusal,
    Response,
    ServiceError,
    Slot,
    Usage,
)
from lmg.component import Facts
from lmg.jsontext import JsonText

from .answers import assembled, traits_of
from .collect import Collector, completed
from .config import CacheConfig, CacheRoute
from .directives import Asked, asked
from .entries import Entry
from .fingerprint import Policy
from .flights import Flight, Flights
from .memory import MemoryEntries
from .observed import Observed
from .place import Place
from .purges import Purge, PurgeAsked, kept_after
from .routes import Routes, depends_on_more, temperature_fits
from .shared import SharedEntries

__all__ = ["Cache"]

MARK_S: Final = 10.0
"""How long requests do not wait for each other after an answer that could not be shared."""
LONGEST_TTL_S: Final = 3600.0
JSON: Final = b"application/json"
NOT_CACHED: Final = Deny(
    504, "not_cached", "No answer to this request is kept, and it asks for a kept one only.", headers=((b"x-should-retry", b"false"),)
)  # fmt: skip
Found = Answer | Deny | None


class Fill:
    """A request whose answer may be kept: what it is known by, and who waits for it."""

    __slots__ = ("alone", "asked", "begun_at", "flight", "key", "model", "route", "tenant")

    def __init__(
        self,
        key: bytes,
        route: CacheRoute,
        asked: Asked,
        tenant: str,
        model: str,
        begun_at: float,
        alone: bool,
    ) -> None:
        self.key, self.route, self.asked, self.tenant, self.model = key, route, asked, tenant, model
        self.begun_at, self.alone = begun_at, alone
        self.flight: Flight | None = None


class Cache(Component):
    """Exact-match cache with coalescing. It belongs last in the list: it then keys the request as guards have left it,
    keeps what the upstream sent, and each hit walks up through the guards of its own caller.
    """

    Config = CacheConfig
    summary = "the same request again gets its answer again; many at a time are one call"
    stability = "beta"
    requires: ClassVar[Facts] = {"on_request": ("body", "principal")}

    def __init__(self, config: CacheConfig, host: Host, name: str) -> None:
        super().__init__(config, host, name)
        self.max_wait_s = config.max_wait_ms / 1000
        self._clock = clock = host.clock
        self._routes = Routes(config.routes)
        self._longest_s = max((route.ttl_s for route in config.routes), default=LONGEST_TTL_S)
        self._entries = MemoryEntries(config.max_entries, config.max_bytes, clock.monotonic)
        self._shared = SharedEntries(host, name, config.max_bytes, self._longest_s) if config.shared else None
        self._flights = Flights(clock, config.max_followers)
        self._observed = Observed(host.metrics, self._entries)
        self._purges: list[Purge] = []
        self._policy: Policy | None = None
        self._place = Place(self, name)
        self._slot = Slot[Fill](name)

    async def start(self) -> None:
        if self._shared is not None:
            self._shared.start()

    async def stop(self) -> None:
        if self._shared is not None:
            await self._shared.stop()
        self._observed.stop()

    # -- down ---------------------------------------------------------------------------------
    def on_request(self, exchange: Exchange) -> Found | Awaitable[Found]:
        """Answers from what is kept, waits for who asks the same, or notes that the answer may be kept."""
        request = exchange.request
        value: Any = request.body.value
        sent: Any = request.sent.value
        model = sent["model"]
        operation = exchange.operation
        route = self._routes.find(model, operation)
        if route is None:
            return self._pass_by(exchange)
        wants = asked(exchange.head)
        principal = exchange.principal
        assert principal is not None
        if (
            not wants.stores
            or type(request.body) is not JsonText  # of a form, not all that the upstream gets is in the value
            or not temperature_fits(route, operation, value)
            or depends_on_more(value)
            or not principal.may_use(request.model)
        ):
            return self._pass_by(exchange, wants)
        policy = self._policy
        if policy is None or not policy.holds_for(exchange.pipeline):
            policy = self._policy = Policy(exchange.pipeline, self.config.scope, self)
            self._place.check(exchange.pipeline)
        key = policy.fingerprint(exchange, principal)
        alone = policy.shadow or self.max_wait_s == 0
        fill = Fill(key, route, wants, principal.tenant, model, self._clock.now(), alone)
        if self._shared is not None:
            return self._ask_store(exchange, fill, self._shared)
        return self._decide(exchange, fill, self._entries.get(key))

    def _pass_by(self, exchange: Exchange, wants: Asked | None = None) -> Deny | None:
        """Not for the cache; who wants a kept answer only must not be charged for another (RFC 9111 §5.2.1.7)."""
        if wants is None and exchange.head.get(b"cache-control") is not None:
            wants = asked(exchange.head)
        if wants is not None and wants.only_if_cached:
            return NOT_CACHED
        exchange.reply_header(b"x-lmg-cache", b"bypass")
        self._observed.count("bypass")
        return None

    async def _ask_store(self, exchange: Exchange, fill: Fill, shared: SharedEntries) -> Found:
        entry = self._entries.get(fill.key)  # a mark, if anything
        if entry is None and fill.asked.reads:
            entry = await shared.get(fill.key, fill.tenant, fill.model)
        found = self._decide(exchange, fill, entry)
        return await found if isinstance(found, Awaitable) else found

    def _decide(self, exchange: Exchange, fill: Fill, entry: Entry | None) -> Found | Awaitable[Found]:
        """A hit, or how a miss goes on: alone, ahead of those that ask the same, or behind one."""
        if entry is not None:
            hit = self._hit(exchange, fill, entry)
            if hit is not None:
                return hit
        if fill.asked.only_if_cached:
            self._observed.count("miss")
            return NOT_CACHED
        alone = fill.alone or (entry is not None and entry.answer is None)
        flight = None if alone else self._flights.get(fill.key)
        if alone or (flight is not None and (not fill.asked.reads or self._flights.full(flight))):
            self._miss(exchange, fill)
            return None
        if flight is not None:
            return self._follow(exchange, fill, flight)
        self._lead(exchange, fill)
        return None

    def _hit(self, exchange: Exchange, fill: Fill, entry: Entry, result: str = "hit") -> Answer | None:
        answer = entry.answer
        now = self._clock.monotonic()
        age_s = now - entry.stored_at
        if answer is None or not fill.asked.reads or not fill.asked.accepts(age_s, entry.fresh_until - now):
            return None
        exchange.reply_header(b"x-lmg-cache", result.encode())
        exchange.reply_header(b"age", b"%d" % age_s)
        self._observed.count(result)
        return answer

    def _miss(self, exchange: Exchange, fill: Fill) -> None:
        exchange.reply_header(b"x-lmg-cache", b"miss")
        self._observed.count("miss")
        exchange[self._slot] = fill

    def _lead(self, exchange: Exchange, fill: Fill) -> None:
        fill.flight = self._flights.lead(fill.key)
        self._miss(exchange, fill)

    async def _follow(self, exchange: Exchange, fill: Fill, flight: Flight) -> Found:
        """Waits for the call that is being made. Where it fails, the first to wake makes the next one."""
        monotonic = self._clock.monotonic
        until = monotonic() + self.max_wait_s
        while monotonic() < until and not self._flights.full(flight):
            entry = await self._flights.follow(flight, until - monotonic())
            if entry is not None:
                hit = self._hit(exchange, fill, entry, "coalesced")
            else:
                entry = self._entries.get(fill.key)
                hit = self._hit(exchange, fill, entry) if entry is not None else None
            if entry is not None:
                if hit is None:
                    break  # not what is asked for, or the mark of what cannot be shared
                return hit
            following = self._flights.get(fill.key)
            if following is None:
                self._lead(exchange, fill)
                return None
            flight = following
        self._miss(exchange, fill)
        return None

    # -- up -----------------------------------------------------------------------------------
    def on_response(self, exchange: Exchange, response: Response) -> None:
        """Keeps a whole answer, as the upstream sent it."""
        fill = exchange.get(self._slot)
        if fill is None or response.status != 200 or not completed(exchange):
            return
        exchange.take(self._slot)
        kind = next((value for name, value in response.headers if name == b"content-type"), JSON)
        value = response.body.value
        self._keep(exchange, fill, value, response.body.render(), kind)

    def on_stream(self, exchange: Exchange) -> Collector | None:
        """Listens to the events of an answer that may be kept; nobody's event waits for that."""
        fill = exchange.get(self._slot)
        if fill is None:
            return None
        entries, tenant = self._entries, fill.tenant
        return Collector(
            exchange,
            self.config.max_entry_bytes,
            lambda events: self._collected(exchange, fill, events),
            lambda size: entries.hold(tenant, size),
            entries.let_go,
        )

    def _collected(self, exchange: Exchange, fill: Fill, events: list[bytes] | None) -> None:
        """A stream is complete: its answer is put together once the last event has left."""
        if exchange.take(self._slot) is None:
            return
        try:
            self.host.spawn(self._put_together(exchange, fill, events, exchange.usage), name=self.name)
        except QueueFull:
            self._land(fill, None)

    async def _put_together(
        self, exchange: Exchange, fill: Fill, events: list[bytes] | None, usage: Usage
    ) -> None:
        try:
            resumed = exchange.attempts[-1].prefill is not None  # half of it is another model's
            readable = events if not resumed else None
            whole = await assembled(exchange.dialect, readable, usage) if readable is not None else None
            body = orjson.dumps(whole) if whole is not None else b""
            self._keep(exchange, fill, whole, body, JSON)
        finally:
            self._land(fill, None)

    def _keep(self, exchange: Exchange, fill: Fill, value: Any, body: bytes, kind: bytes) -> None:
        """Keeps an answer that may be, and gives it to who waits; else tells them not to wait for the next."""
        route, now = fill.route, self._clock.monotonic()
        traits = traits_of(exchange.dialect, value) if len(body) <= self.config.max_entry_bytes else None
        if (
            traits is None
            or (traits.calls and not route.tool_calls)
            or (traits.truncated and not route.truncated)
        ):
            if fill.flight is not None and self._entries.get(fill.key) is None:
                mark = Entry(None, now, now + min(MARK_S, route.ttl_s), fill.tenant, fill.model)
                self._entries.put(fill.key, mark)
                self._observed.measure()
            self._land(fill, None)
            return
        entry = Entry.of(body, kind, now, route.ttl_s, fill.tenant, fill.model)
        purged = any(one.at >= fill.begun_at and one.fits(fill.tenant, fill.model) for one in self._purges)
        if not purged:
            if self._shared is not None:
                self._shared.put(fill.key, body, kind, route.ttl_s, fill.begun_at)
            else:
                self._entries.put(fill.key, entry)
            self._observed.stored += 1
            self._observed.measure()
        self._land(fill, entry)

    def _land(self, fill: Fill, entry: Entry | None) -> None:
        if fill.flight is not None:
            self._flights.land(fill.flight, entry)

    def on_end(self, exchange: Exchange) -> None:
        """Whatever became of the exchange, nobody waits for it any longer."""
        fill = exchange.take(self._slot)
        if fill is not None:
            self._land(fill, None)

    # -- set-up -------------------------------------------------------------------------------
    def admin_routes(self) -> list[AdminRoute]:
        """``GET stats`` and ``POST purge``."""
        return [AdminRoute("GET", "stats", self._stats), AdminRoute("POST", "purge", self._purge, PurgeAsked)]

    async def _stats(self, call: AdminCall) -> dict[str, Any]:
        flights, shared = self._flights, self._shared
        told = self._observed.told() | {"flights": len(flights), "followers": flights.followers}
        if shared is not None:
            told |= {"store_errors": shared.errors, "not_stored": shared.dropped}
        return told

    async def _purge(self, call: AdminCall) -> dict[str, Any]:
        """Forgets answers of a tenant, of models like a pattern, or all; those on their way are not kept either."""
        purge = call.body.at(self._clock.now())
        if self._shared is not None:
            try:
                await self._shared.purge(purge)
            except ServiceError:
                raise Refusal(
                    503,
                    "store_unavailable",
                    "The counter store is away: nothing was forgotten.",
                    type="server_error",
                ) from None
        self._purges = kept_after(self._purges, purge, self._longest_s)
        self._flights.forget()
        purged = self._entries.purge(lambda entry: purge.fits(entry.tenant, entry.model))
        self._observed.measure()
        return {"purged": purged if self._shared is None else None}

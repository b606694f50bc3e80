"""What earlier requests say of this one: who probes the threshold, who repeats, and what others have sent as well.

Only a request with a score of its own is looked up and remembered: memory makes what is suspicious more so, and raises
nobody's innocent request. What is written holds no text and no name, only keyed digests and counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from hashlib import blake2b
from secrets import token_bytes
from typing import Any, Final

from lmg import Exchange, Host, Principal, ServiceError, Signal
from lmg.telemetry import Counter

from .config import MemoryConfig
from .fading import FadingSums
from .likeness import MAX_TEXT, names_of
from .scores import Tally

__all__ = ["Memory"]

PEERS: Final = 64
"""Principals are told apart by so many marks under one text: a number that is bounded, and never too high."""
MAX_REMEMBERED: Final = 8
_KEY_TTL_S: Final = 400 * 86_400.0
_REST_S: Final = 1.0
_PROBE: Final = "probe"


class Memory:
    """The memory of one component, in the host's counter store."""

    def __init__(self, host: Host, name: str, config: MemoryConfig, outcomes: Counter) -> None:
        self._host = host
        self._name = name
        self._config = config
        self._outcomes = outcomes
        self._root = f"lmg/risk/{name}/memory"
        self._sums = FadingSums(host, config.half_life_s)
        self._header = config.session_header.lower().encode() if config.session_header else None
        self._key: bytes | None = None
        self._resting_until = 0.0

    @property
    def away(self) -> bool:
        """Whether the store has failed within the last second."""
        return self._host.clock.monotonic() < self._resting_until

    async def recall(
        self, exchange: Exchange, signals: tuple[Signal, ...], tally: Tally, refuses_above: float
    ) -> None:
        """Raises ``tally`` by what is remembered and remembers this request. Where the store is away or slow it does
        nothing, counts that, and leaves the store alone for a second.
        """
        if self.away:
            self._outcomes.inc((self._name, "away"))
            return
        try:
            async with asyncio.timeout(self._config.timeout_ms / 1000):
                found = await self._found(exchange, signals, tally, refuses_above)
        except (ServiceError, TimeoutError):
            self._resting_until = self._host.clock.monotonic() + _REST_S
            self._outcomes.inc((self._name, "away"))
            return
        self._raise(tally, found)

    def _raise(self, tally: Tally, found: dict[str, float]) -> None:
        left = 1.0
        for probability in found.values():
            left *= 1.0 - probability
        increase = 1.0 - left
        self._outcomes.inc((self._name, "raised" if increase > 0 else "nothing"))
        if increase <= 0:
            return
        # Each reason gets its part of what the bound leaves.
        scale = min(1.0, self._config.max_increase / increase)
        budget = min(increase, self._config.max_increase)
        total = sum(found.values())
        for reason, probability in found.items():
            if probability > 0:
                part = probability / total if scale < 1 else None
                # Noisy-or of the parts is again the whole: (1 - b) to the sum of the shares, which is 1, is 1 - b.
                tally.raise_by(probability if part is None else 1.0 - (1.0 - budget) ** part, reason)

    async def _found(
        self, exchange: Exchange, signals: tuple[Signal, ...], tally: Tally, refuses_above: float
    ) -> dict[str, float]:
        who = exchange.principal or Principal("")
        key = self._key or await self._learn_key()
        salt = blake2b(who.tenant.encode("utf-8", "surrogatepass")[:4096], key=key, digest_size=32).digest()
        score = tally.score()
        amounts = {f"f:{family}": 1 for family in tally.families[:MAX_REMEMBERED]}
        if score >= self._config.probe_from * refuses_above:
            amounts[_PROBE] = 1
        person = _digest(salt, f"{who.issuer}\0{who.subject}")
        scopes = [person]
        session = self._session(exchange)
        if session:
            scopes.append(_digest(salt, f"{who.issuer}\0{who.subject}\0{session}"))
        mark = str(int(person[:8], 16) % PEERS)
        texts = names_of(_text(exchange, signals), salt) if self._config.near_duplicate else ()
        told = await self._together(
            [
                *(self._sums.add(f"{self._root}/{scope}", amounts) for scope in scopes),
                *(self._sums.add(f"{self._root}/text/{name}", {mark: 1}) for name in texts),
            ]
        )
        own, copies = told[: len(scopes)], told[len(scopes) :]
        families = [name for name in amounts if name != _PROBE]
        probes = max(sums.get(_PROBE, 0.0) for sums in own)
        repeats = max((sums.get(name, 0.0) for sums in own for name in families), default=0.0)
        # Each other principal counts once at most, however often it has sent the text.
        others = max(
            (sum(min(1.0, n) for peer, n in sums.items() if peer != mark) for sums in copies), default=0.0
        )
        config = self._config
        return {
            "memory.probing": _grown(config.probing, probes),
            "memory.repeated": _grown(config.repeated, repeats),
            "memory.near_duplicate": _grown(config.near_duplicate, others),
        }

    async def _together(self, calls: list[Coroutine[Any, Any, dict[str, float]]]) -> list[dict[str, float]]:
        """At once where each is a round trip to a server; one by one where none waits, which is cheaper."""
        if self._host.counters.shared:
            return await asyncio.gather(*calls)
        try:
            return [await call for call in calls]
        finally:
            for call in calls:
                call.close()

    def _session(self, exchange: Exchange) -> str:
        """What the client calls its session. It may call it anything: the principal's own memory stands beside it."""
        if self._header is not None:
            value = exchange.head.get(self._header)
            return value[:256].decode("latin-1") if value else ""
        body = exchange.request.sent
        for found in (body.get("metadata", "user_id"), body.get("user")):
            if isinstance(found, str) and found:
                return found[:256]
        return ""

    async def _learn_key(self) -> bytes:
        """The key of all digests: random, made by whichever replica comes first, kept in the store."""
        store = self._host.counters
        name = f"{self._root}/key"
        for _ in range(2):
            (found,) = await store.get([name])
            if found is not None:
                self._key = found
                return found
            await store.put(name, token_bytes(32), _KEY_TTL_S, only_new=True)
        self._key = token_bytes(32)  # a store that keeps nothing (that of `lmg explain`)
        return self._key


def _grown(step: float, times: float) -> float:
    return 1.0 - (1.0 - step) ** times if times > 0 else 0.0


def _digest(salt: bytes, what: str) -> str:
    return blake2b(what.encode("utf-8", "surrogatepass"), key=salt, digest_size=12).hexdigest()


def _text(exchange: Exchange, signals: tuple[Signal, ...]) -> str:
    """The texts that the signals name, or the last that a user or a tool has written."""
    named = {signal.where for signal in signals}
    last = ""
    found: list[str] = []
    for segment in exchange.request.segments():
        if segment.id in named:
            found.append(segment.text[:MAX_TEXT])
        elif segment.role in ("user", "tool"):
            last = segment.text
    return " ".join(found[-4:])[-MAX_TEXT:] if found else last[:MAX_TEXT]

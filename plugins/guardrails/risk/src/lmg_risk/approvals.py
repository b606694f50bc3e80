"""Approvals in the counter store: asked for once, decided once, used once, whichever replica is asked.

The store has no transactions and no listing, so an approval is three values that are each written *once*: what was asked,
what was decided, and that it was used. Nothing is ever changed in place, so no two replicas can undo each other's step; the
first to write ``used`` is the one that passes. Which approvals there are is told by sums (``tally``) of a time slice:
adding to them is atomic, and a slice is forgotten as a whole.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict, dataclass
from secrets import token_hex
from typing import Any, Final, Literal

import orjson

from lmg import Exchange, Host, Principal, ServiceError

from .config import ApprovalConfig

__all__ = ["Approval", "Approvals", "Full", "NotDecided", "Request", "Standing"]

ID: Final = re.compile(r"apr_[0-9a-f]{24}")
MAX_SHOWN: Final = 1000
_BATCH: Final = 300

Standing = Literal["pending", "granted", "denied", "used", "expired"]


class Full(Exception):
    """More approvals are asked for than may be."""


class NotDecided(Exception):
    """An approval cannot be decided; ``code`` is stable."""

    def __init__(self, code: Literal["unknown", "own", "decided", "expired"], what: str) -> None:
        super().__init__(what)
        self.code = code


@dataclass(frozen=True, slots=True)
class Request:
    """What an approval is bound to: the caller, and every byte of the body. ``digest`` is SHA-256, in hex."""

    issuer: str
    tenant: str
    subject: str
    model: str
    operation: str
    dialect: str
    digest: str

    @classmethod
    def of(cls, exchange: Exchange) -> Request:
        """The request as the client sent it: what the walk has masked may come out otherwise the next time."""
        who = exchange.principal or Principal("")
        sent = exchange.request.sent
        model = sent.get("model")
        return cls(
            who.issuer, who.tenant, who.subject, model if isinstance(model, str) else "",
            exchange.operation, exchange.dialect.name, hashlib.sha256(sent.raw).hexdigest(),
        )  # fmt: skip

    @property
    def key(self) -> str:
        """One name for all of it, which tells nothing."""
        return hashlib.sha256(orjson.dumps(asdict(self), option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Approval:
    """One approval as it stands. ``at`` and ``expires_at`` are seconds since the epoch."""

    id: str
    request: Request
    at: float
    expires_at: float
    shown: dict[str, Any]
    standing: Standing
    decided_by: str = ""
    decided_at: float | None = None


class Approvals:
    """The approvals of one component. Every method raises ``ServiceError`` where the store is away."""

    def __init__(self, host: Host, name: str, config: ApprovalConfig) -> None:
        self._host = host
        self._root = f"lmg/risk/{name}/approval"
        self._config = config
        # An approval that is over can still be looked at for as long again; what says that it was used outlives it.
        self._kept_s = 2 * config.ttl_s

    async def ask(self, request: Request, shown: dict[str, Any]) -> tuple[Approval, bool]:
        """The approval that ``request`` waits for, and whether it is a new one or that which it has waited for already.

        Raises:
            Full: too many are asked for.
        """
        pointer = f"{self._root}/of/{request.key}"
        for _ in range(3):
            (current,) = await self._store.get([pointer])
            if current is not None:
                there = await self.find(current.decode())
                if there is not None and there.standing in ("pending", "granted", "denied"):
                    return there, False
                await self._store.remove(pointer, current)  # used, or over: it begins anew
            await self._check_room(request)
            made = await self._write(request, shown)
            if await self._store.put(pointer, made.id.encode(), self._config.ttl_s, only_new=True):
                await self._store.tally(self._slice(0), {_field(request, made.id): 1}, 3 * self._config.ttl_s)
                return made, True
            await self._store.remove(f"{self._root}/{made.id}")  # another of the same caller's was faster
        raise ServiceError("an approval could not be written: others were always faster")

    async def use(
        self, id: str, request: Request
    ) -> Literal["used", "unknown", "mismatch", "replayed"] | Standing:
        """``granted`` exactly once, for the very request that it was asked for; otherwise why not."""
        found = await self.find(id) if ID.fullmatch(id) else None
        if found is None:
            return "unknown"
        if found.request != request:
            return "mismatch"
        if found.standing != "granted":
            return "replayed" if found.standing == "used" else found.standing
        first = await self._store.put(f"{self._root}/{id}/used", b"1", self._kept_s, only_new=True)
        return "granted" if first else "replayed"

    async def standing_for(self, id: str, request: Request) -> Standing | None:
        """How the approval ``id`` stands, where it is ``request``'s."""
        found = await self.find(id) if ID.fullmatch(id) else None
        return found.standing if found is not None and found.request == request else None

    async def find(self, id: str) -> Approval | None:
        """The approval, or None."""
        found = await self._read([id])
        return found[0] if found else None

    async def all(self) -> list[Approval]:
        """Those of the last ``ttl_s`` seconds and some before, the newest first; at most 1000."""
        fields = await self._fields()
        found = await self._read([field.rpartition(".")[2] for field in fields])
        return sorted(found, key=lambda one: -one.at)[:MAX_SHOWN]

    async def decide(self, id: str, by: Principal, *, grant: bool) -> Approval:
        """Grants or denies, once and for all.

        Raises:
            NotDecided: it is unknown, the decider's own, over, or decided already.
        """
        found = await self.find(id) if ID.fullmatch(id) else None
        if found is None:
            raise NotDecided("unknown", "there is no such approval")
        request = found.request
        if (request.issuer, request.tenant, request.subject) == (by.issuer, by.tenant, by.subject):
            raise NotDecided("own", "nobody decides about a request of their own")
        if found.standing == "expired":
            raise NotDecided("expired", "its time is over")
        word = {"grant": grant, "by": by.subject, "at": self._host.clock.now()}
        if not await self._store.put(
            f"{self._root}/{id}/decision", orjson.dumps(word), self._kept_s, only_new=True
        ):
            raise NotDecided("decided", "it has been decided already")
        decided = await self.find(id)
        return decided if decided is not None else found

    # -- the store ------------------------------------------------------------------------------
    @property
    def _store(self) -> Any:
        return self._host.counters

    async def _write(self, request: Request, shown: dict[str, Any]) -> Approval:
        now = self._host.clock.now()
        made = Approval(
            f"apr_{token_hex(12)}", request, now, now + self._config.ttl_s, shown, "pending"
        )  # fmt: skip
        record = {"request": asdict(request), "at": made.at, "expires_at": made.expires_at, "shown": shown}
        await self._store.put(f"{self._root}/{made.id}", orjson.dumps(record), self._kept_s)
        return made

    async def _read(self, ids: list[str]) -> list[Approval]:
        found = []
        now = self._host.clock.now()
        for start in range(0, len(ids), _BATCH):
            batch = ids[start : start + _BATCH]
            keys = [f"{self._root}/{one}{part}" for one in batch for part in ("", "/decision", "/used")]
            values = await self._store.get(keys)
            for n, one in enumerate(batch):
                record, decision, used = values[3 * n : 3 * n + 3]
                if record is not None:
                    found.append(_approval(one, record, decision, used, now))
        return found

    async def _check_room(self, request: Request) -> None:
        fields = await self._fields()
        tenant = _tag(request.tenant)
        theirs = sum(1 for field in fields if field.startswith(tenant))
        if len(fields) >= self._config.max_open or theirs >= self._config.max_open_per_tenant:
            raise Full

    async def _fields(self) -> list[str]:
        """What was asked for in this slice of time and in the one before."""
        ttl_s = 3 * self._config.ttl_s
        here = await self._store.tally(self._slice(0), {}, ttl_s)
        before = await self._store.tally(self._slice(-1), {}, ttl_s)
        return [*here, *before]

    def _slice(self, offset: int) -> str:
        return f"{self._root}/slice/{int(self._host.clock.now() // self._config.ttl_s) + offset}"


def _tag(tenant: str) -> str:
    return hashlib.sha256(tenant.encode()).hexdigest()[:16] + "."


def _field(request: Request, id: str) -> str:
    return f"{_tag(request.tenant)}{id}"


def _approval(id: str, record: bytes, decision: bytes | None, used: bytes | None, now: float) -> Approval:
    try:
        value = orjson.loads(record)
        word = orjson.loads(decision) if decision is not None else {}
        request = Request(**value["request"])
        expires_at = float(value["expires_at"])
        standing: Standing = "pending"
        if used is not None:
            standing = "used"
        elif now >= expires_at:
            standing = "expired"
        elif word:
            standing = "granted" if word["grant"] is True else "denied"
        return Approval(
            id, request, float(value["at"]), expires_at, value["shown"], standing,
            str(word.get("by", "")), word.get("at"),
        )  # fmt: skip
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise ServiceError("what the store holds is no approval") from error

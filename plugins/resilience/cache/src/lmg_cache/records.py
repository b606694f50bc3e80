"""What the counter store knows of an idempotency key: that somebody works on it, or what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lmg import ServiceError

from .entries import pack, unpack

__all__ = ["Record", "read"]

State = Literal["held", "done", "not_kept"]


@dataclass(frozen=True, slots=True)
class Record:
    """``held`` while the first exchange runs, ``done`` with its answer, ``not_kept`` where that could not be kept.

    ``fingerprint`` is that of the request, ``exchange`` the id of the exchange whose receipt covers the answer.
    """

    state: State
    fingerprint: str
    exchange: str
    status: int = 200
    content_type: str = ""
    body: bytes = b""

    def value(self) -> bytes:
        """The record as it is stored."""
        head = {
            "state": self.state,
            "fingerprint": self.fingerprint,
            "exchange": self.exchange,
            "status": self.status,
            "type": self.content_type,
        }
        return pack(head, self.body)


def read(value: bytes) -> Record:
    """The record that ``value`` is.

    Raises:
        ServiceError: it is none.
    """
    found = unpack(value)
    if found is None:
        raise ServiceError("a record of an idempotency key cannot be read")
    head, body = found
    return Record(head["state"], head["fingerprint"], head["exchange"], head["status"], head["type"], body)

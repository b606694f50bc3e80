"""Who gets the canary: a place between 0 and 1 that is always the same for the same user, and a share that grows over it."""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from lmg import Exchange

__all__ = ["Places", "threshold_of"]

_WHOLE: Final = 1 << 64
_MAX_TEXT: Final = 4096  # of each text: what opens a conversation differs early or not at all
_MAX_SEGMENTS: Final = 16


def threshold_of(percent: float) -> int:
    """The places below this number get the canary. A larger share's threshold is higher, so that nobody falls out."""
    return round(percent / 100 * _WHOLE)


class Places:
    """The place of an exchange for one experiment.

    The hash is keyed with the experiment's name: who is early in one experiment is not early in all. It does not
    depend on the other settings, so that an experiment that starts anew keeps its users.
    """

    def __init__(self, experiment: str, by: str) -> None:
        # 64 bytes is the longest key that BLAKE2b takes; a name is shorter.
        self._keyed = blake2b(digest_size=8, key=experiment.encode())
        self._by = by
        self._header = by.partition(":")[2].lower().encode() if by.startswith("header:") else None

    def of(self, exchange: Exchange) -> int:
        """A number of 64 bits. Where ``by`` has nothing to go by (no header, nobody authenticated), it is the conversation's."""
        return self.place(self._identity(exchange))

    def place(self, identity: bytes) -> int:
        """The number of whoever is called so."""
        hashed = self._keyed.copy()
        hashed.update(identity)
        return int.from_bytes(hashed.digest(), "big")

    def _identity(self, exchange: Exchange) -> bytes:
        if self._header is not None:
            value = exchange.head.get(self._header)
            if value:
                return b"h" + value
        else:
            principal = exchange.principal
            if principal is not None:
                if self._by == "user":
                    # Subjects are unique within their tenant alone; no name holds a zero byte.
                    return f"u{principal.tenant}\0{principal.subject}".encode()
                if self._by == "tenant":
                    return f"t{principal.tenant}".encode()
        return _conversation(exchange)


def _conversation(exchange: Exchange) -> bytes:
    """A digest of what opens the conversation, up to the user's first words: clients send it again with every turn.

    It is read as the client sent it: a mask's placeholders may differ from turn to turn.
    """
    principal = exchange.principal
    whose = f"{principal.tenant}\0{principal.subject}" if principal is not None else ""
    hashed = blake2b(b"c" + whose.encode(), digest_size=16)
    sent = exchange.request.sent.value
    for number, segment in enumerate(exchange.dialect.request_segments(sent)):
        hashed.update(b"\0" + segment.text[:_MAX_TEXT].encode("utf-8", "replace"))
        if segment.role == "user" or number >= _MAX_SEGMENTS:
            break
    return hashed.digest()

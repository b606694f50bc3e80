"""Private keys in PEM, OpenSSH, PGP and PuTTY blocks: many lines, held until their end."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, Literal

from lmg.redaction import Found

__all__ = ["PRIVATE_KEYS", "PrivateKeys"]

_HEAD: Final = re.compile(
    r"-----BEGIN (?:[A-Z0-9]{2,10} ){0,2}PRIVATE KEY(?: BLOCK)?-----|PuTTY-User-Key-File-[23]:"
)
_END: Final = re.compile(
    r"-----END (?:[A-Z0-9]{2,10} ){0,2}PRIVATE KEY(?: BLOCK)?-----|Private-MAC: [0-9a-f]{40,64}"
)
# Lines of base64, the header lines of encrypted keys, and line ends as JSON and source code write them.
_INSIDE: Final = r"A-Za-z0-9+/=\s\\:,.()@\"'|>-"
_OUTSIDE: Final = re.compile(f"[^{_INSIDE}]")
_BEGINNINGS: Final = re.compile(
    r"-{1,5}\Z|-----B[A-Z0-9 ]{0,45}-{0,4}\Z|P(?:u(?:T(?:T(?:Y(?:-[A-Za-z-]{0,14}[23]?)?)?)?)?)?\Z"
)
_LONGEST_HEAD: Final = 60
_BASE64: Final = re.compile(r"[A-Za-z0-9+/=]{24,}")
_SOON: Final = 240  # characters behind the first line, within which a line of base64 begins


class PrivateKeys:
    """A block from its first line to its last; one that does not end within ``max_length`` goes with all that may still
    be part of it.
    """

    name = "private_key"
    max_length = 8192

    def last_run(self, text: str) -> int:
        """Where the earliest block begins that has not ended, or what may become the first line of one."""
        if "-" not in text and "P" not in text:
            return len(text)
        at = 0
        while (head := _HEAD.search(text, at)) is not None:
            stop, state = _block(text, head)
            if state in ("open", "unseen"):
                return head.start()
            at = stop
        begins = _BEGINNINGS.search(text, max(0, len(text) - _LONGEST_HEAD))
        return begins.start() if begins is not None else len(text)

    def run_end(self, text: str, start: int) -> int:
        outside = _OUTSIDE.search(text, start)
        return outside.start() if outside is not None else len(text)

    def lives(self, text: str, start: int) -> bool:
        return True

    def find(self, text: str, start: int, end: int) -> Iterator[Found]:
        if text.find("-----BEGIN ", start, end) < 0 and text.find("PuTTY-", start, end) < 0:
            return
        at = start
        while (head := _HEAD.search(text, at)) is not None and head.start() < end:
            # A block within another ends where that ends: it is covered, and need not be looked at.
            at, state = _block(text, head)
            if state in ("ended", "open"):
                too_long = at - head.start() > self.max_length
                yield Found(head.start(), at, self.name, "" if too_long else text[head.start() : at])


def _block(text: str, head: re.Match[str]) -> tuple[int, Literal["ended", "open", "unseen", "none"]]:
    """Where the block ends that begins with ``head``; ``none`` where only the first line is spoken of, and
    ``unseen`` where it may still be only that.
    """
    begin = head.end()
    soon = _OUTSIDE.search(text, begin, begin + _SOON)
    end = _END.search(text, begin, begin + _SOON)
    near = min(begin + _SOON, *(one.start() for one in (soon, end) if one is not None), len(text))
    if _BASE64.search(text, begin, near) is None:
        return begin, "unseen" if near == len(text) else "none"
    outside = _OUTSIDE.search(text, begin)
    stop = outside.start() if outside is not None else len(text)
    end = _END.search(text, begin, min(stop, head.start() + PrivateKeys.max_length))
    if end is not None:
        return end.end(), "ended"
    return stop, "open" if outside is None else "ended"


PRIVATE_KEYS: Final = PrivateKeys()

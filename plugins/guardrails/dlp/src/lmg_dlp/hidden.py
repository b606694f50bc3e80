"""What a reader does not see or cannot read: invisible characters, and long runs of encoded data."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from lmg.redaction import Found, Patterns, Rule

__all__ = ["INVISIBLE", "payloads"]

_TAGS: Final = "\U000e0001-\U000e007f"
_SELECTORS: Final = "\ufe00-\ufe0f\U000e0100-\U000e01ef"
_FLAG: Final = (
    "\U0001f3f4"  # the flags of England, Scotland and Wales are written with tag characters behind it
)


class Invisible(Patterns):
    """Patterns of characters that hardly any text holds: one look tells."""

    def __init__(self, alphabet: str, rules: Sequence[Rule], *, max_length: int) -> None:
        super().__init__(alphabet, rules, max_length=max_length)
        self._any = re.compile(f"[{alphabet}]")

    def last_run(self, text: str) -> int:
        return len(text) if text[-1:].isascii() else super().last_run(text)

    def find(self, text: str, start: int, end: int) -> Iterator[Found]:
        if text.isascii() or self._any.search(text, start, end) is None:
            return iter(())
        return super().find(text, start, end)


INVISIBLE: Final = Invisible(
    f"\u00ad\u180e\u200b-\u200d\u202a-\u202e\u2060-\u2069\ufeff{_TAGS}{_SELECTORS}",
    [
        Rule("hidden_text", f"(?<![{_FLAG}{_TAGS}])[{_TAGS}]+|[{_TAGS}]{{9,}}|[{_SELECTORS}]{{3,}}"),
        # One joiner is part of an emoji or of a Persian word; several in a row are a message in two signs, and one in an
        # ASCII word splits a token that it would be looked for in vain.
        Rule(
            "invisible",
            "[\u180e\u200b\u202d\u202e\u2060-\u2064\u2066-\u2069\ufeff]+|[\u200c\u200d]{2,}|(?<=[A-Za-z0-9_])[\u00ad\u200c\u200d](?=[A-Za-z0-9_])",
        ),
    ],
    max_length=64,
)
"""Characters that carry text past a reader (tag characters, selectors), join or split words, or turn their direction."""


def payloads(shortest: int) -> Patterns:
    """A detector of runs of ``shortest`` and more characters of base64 or hexadecimal, whatever they say."""
    # The facility takes a run that is longer than `max_length` for a value as a whole: that is the rule.
    return Patterns("A-Za-z0-9+/=_-", [Rule("encoded_payload", r"(?!)")], max_length=shortest - 1)

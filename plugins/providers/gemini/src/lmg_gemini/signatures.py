"""Thought signatures on their way through clients that have no place for them.

The API signs what a model thought, and wants each signature back on the part that it came with. A signature of a
text or a thought travels in the form's ``Reasoning``; that of a call, and the call's own id, in the id that the
client is given. Both are marked as this API's: another provider's mean nothing here, and would be refused.

Source: Gemini API, "Thought signatures".
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

__all__ = ["SKIP", "call_id", "marked", "unmarked", "unpacked"]

SKIP: Final = "skip_thought_signature_validator"
"""What the API takes for the signature of a call that another model made."""

_MARK: Final = "gemini:"
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")
_ID: Final = re.compile(r"call_[0-9]+_[0-9a-f]{12}(?:-id-((?:[0-9a-f]{2})+))?(?:-sig-([A-Za-z0-9_-]+))?")
_TO_URL: Final = str.maketrans("+/", "-_")
_FROM_URL: Final = str.maketrans("-_", "+/")


def marked(signature: str) -> str:
    """``signature`` as the form carries it."""
    return _MARK + signature


def unmarked(*carried: str) -> str:
    """The signature in the first of ``carried`` that is this API's, or ``""``."""
    return next((text.removeprefix(_MARK) for text in carried if text.startswith(_MARK)), "")


def call_id(n: int, of: tuple[str, ...], own_id: str, signature: str) -> str:
    """The id of an answer's call number ``n``, the same each time for the same call; ``of`` tells it from all others.

    Holds letters, digits, ``_`` and ``-`` alone, as every dialect allows.
    """
    digest = hashlib.blake2s("\0".join(of).encode(), digest_size=6).hexdigest()
    packed = f"call_{n}_{digest}"
    if own_id:
        packed += f"-id-{own_id.encode().hex()}"
    if signature and _BASE64.fullmatch(signature):
        packed += f"-sig-{signature.rstrip('=').translate(_TO_URL)}"
    return packed


def unpacked(packed: str) -> tuple[str, str]:
    """The API's own id of the call and its signature, each ``""`` where ``packed`` holds none."""
    found = _ID.fullmatch(packed)
    if found is None:
        return "", ""
    own_id = bytes.fromhex(found[1] or "").decode(errors="replace")
    signature = (found[2] or "").translate(_FROM_URL)
    return own_id, signature + "=" * (-len(signature) % 4)

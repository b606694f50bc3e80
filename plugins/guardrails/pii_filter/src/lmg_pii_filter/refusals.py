"""What the filter refuses, and in which words: they name kinds and places, never a value."""

from __future__ import annotations

from lmg import Deny

__all__ = ["blocked", "signed_denial", "too_large", "uninspected"]


def blocked(entity: str, where: str) -> Deny:
    """The refusal of personal data that may not pass; it names the kind, never the value."""
    return Deny(
        403,
        "pii_blocked",
        f"The {where} holds personal data that policy does not let through ({entity}).",
        f"{entity} in the {where}",
    )


def signed_denial(entity: str, where: str) -> Deny:
    """The refusal of signed text that would have had to be changed."""
    return Deny(
        403,
        "pii_in_signed_text",
        f"Signed text of the {where} holds personal data ({entity}) and cannot be changed.",
        f"{entity} in signed text",
    )


def uninspected(where: str) -> Deny:
    """The refusal of what cannot be read."""
    return Deny(
        403,
        "uninspected_content",
        f"The {where} holds content that cannot be inspected.",
        "an opaque segment",
    )


def too_large(most: int) -> Deny:
    """The refusal of more text than is inspected."""
    return Deny(
        413,
        "too_large_to_inspect",
        f"The request holds more than {most} characters of text.",
        "over max_chars",
    )

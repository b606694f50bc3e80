"""The kinds that can be found, and how sure a finding of each is."""

from __future__ import annotations

from typing import Final

from .assignments import ASSIGNMENTS
from .checks import github_checksum
from .links import EXFILTRATION, SUSPICIOUS
from .private_keys import PRIVATE_KEYS
from .shapes import SHAPES, TELEGRAM
from .tokens import TOKEN_RULES, TOKENS

__all__ = ["ASSIGNED", "SECRET_DETECTORS", "SECRET_KINDS", "probability"]

ASSIGNED: Final = frozenset({"password", "assigned_secret", "bearer_token", "basic_auth"})
"""Kinds that are found together with the words that introduce them."""

SECRET_KINDS: Final = frozenset({
    *(rule.kind for rule in TOKEN_RULES), *ASSIGNED, "mailchimp_key", "discord_token", "azure_client_secret", "terraform_token",
    "azure_devops_token", "unknown_token", "telegram_token", "private_key", "database_url", "basic_auth_url", "webhook_url", "signed_url",
})  # fmt: skip

SECRET_DETECTORS: Final = (PRIVATE_KEYS, TOKENS, SHAPES, TELEGRAM, ASSIGNMENTS)

_SURE: Final = {
    "canary": 1.0, "own_canary": 0.9, "unknown_token": 0.7, "assigned_secret": 0.85, "password": 0.8, "twilio_account": 0.5, "jwt": 0.9,
    "signed_url": 0.6, EXFILTRATION: 0.9, SUSPICIOUS: 0.4, "invisible": 0.3, "hidden_text": 0.9, "encoded_payload": 0.5, "uninspected": 0.2,
    "signed": 0.9,
}  # fmt: skip


def probability(kind: str, text: str = "") -> float:
    """How probably what was found as ``kind`` is one; a check sum in ``text`` that is right makes it certain."""
    if kind == "github_token" and text and github_checksum(text):
        return 1.0
    return _SURE.get(kind, 0.95)

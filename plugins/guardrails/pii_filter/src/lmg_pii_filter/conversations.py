"""The values of conversations that the upstream keeps, so that a later turn can restore them: encrypted, for a while.

A client of the Responses API need not send a conversation again: it names the response before. Its masked words are then
at the upstream alone, and what they stand for is here, under the name of that response.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from lmg.services import CounterStore

from .placeholders import Keys

__all__ = ["Conversations"]

MAX_KEPT: Final = 1_000
MAX_BYTES: Final = 256 * 2**10
_NONCE: Final = 12


class Conversations:
    """Kept in the counter store; every entry is bound to its tenant and its name (AES-256-GCM, RFC 5116)."""

    def __init__(self, component: str, keys: Keys, ttl_s: float) -> None:
        self._component, self._keys, self._ttl_s = component, keys, ttl_s

    def _place(self, tenant: str, name: str) -> str:
        return f"pii:{self._component}:{self._keys.of('place', tenant, name).hex()}"

    def _cipher(self, tenant: str) -> AESGCM:
        return AESGCM(self._keys.of("store", tenant))

    async def keep(
        self, store: CounterStore, tenant: str, name: str, seed: str, values: Mapping[str, str]
    ) -> None:
        """Keeps what the placeholders of a conversation stand for; the oldest are left out where there are too many.

        Raises:
            ServiceError: the store is gone.
        """
        kept = dict(list(values.items())[-MAX_KEPT:])
        plain = orjson.dumps({"seed": seed, "values": kept})
        while len(plain) > MAX_BYTES:
            kept = dict(list(kept.items())[len(kept) // 2 + 1 :])
            plain = orjson.dumps({"seed": seed, "values": kept})
        place = self._place(tenant, name)
        nonce = os.urandom(_NONCE)  # random by need: the same key encrypts entries of all workers
        await store.put(
            place, nonce + self._cipher(tenant).encrypt(nonce, plain, place.encode()), self._ttl_s
        )

    async def recall(self, store: CounterStore, tenant: str, name: str) -> tuple[str, dict[str, str]]:
        """The seed and the values of a conversation; empty where nothing is kept, or it is not this tenant's.

        Raises:
            ServiceError: the store is gone.
        """
        place = self._place(tenant, name)
        (sealed,) = await store.get([place])
        if sealed is None:
            return "", {}
        try:
            plain = self._cipher(tenant).decrypt(sealed[:_NONCE], sealed[_NONCE:], place.encode())
        except InvalidTag:  # written with another secret
            return "", {}
        found = orjson.loads(plain)
        return found["seed"], found["values"]

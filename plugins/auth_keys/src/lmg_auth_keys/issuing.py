"""Makes, replaces and ends keys. The text of a key exists here, in its answer, and nowhere else."""

from __future__ import annotations

from random import Random
from typing import Final

from lmg import Refusal
from lmg.host import Clock

from .key_text import mint
from .peppers import Peppers
from .records import Grant, Key
from .store import KeyStore

__all__ = ["Issuing"]

TOO_MANY: Final = "There are as many live keys as max_keys allows."


class Issuing:
    """What the admin API and the command line do. ``by`` names who asked, for the record.

    Each method raises ``Refusal`` where it cannot be done, ``ServiceError`` where the database is away.
    """

    def __init__(
        self, store: KeyStore, peppers: Peppers, clock: Clock, random: Random, *, max_keys: int
    ) -> None:
        self._store = store
        self._peppers = peppers
        self._clock = clock
        self._random = random
        self._max_keys = max_keys

    async def create(self, grant: Grant, by: str, expires_in_s: float | None = None) -> tuple[str, Key]:
        """A new key: its text, and its record."""
        text, key = self._mint(grant, by, expires_in_s)
        if not await self._store.create(key, self._max_keys):
            raise Refusal(409, "too_many_keys", TOO_MANY)
        return text, key

    async def rotate(
        self, key_id: str, by: str, grace_s: float, expires_in_s: float | None = None
    ) -> tuple[str, Key]:
        """Another key with the same grant; the old one is good for ``grace_s`` more seconds, if it is so long.

        The new key ends when the old one would have, unless ``expires_in_s`` is given.
        """
        old = await self.get(key_id)
        text, key = self._mint(old.grant, by, expires_in_s, replaces=old)
        if not await self._store.rotate(key_id, key, key.created_at + grace_s):
            raise Refusal(409, "not_rotatable", "This key has been rotated, has expired, or is revoked.")
        return text, key

    async def revoke(self, key_id: str, by: str) -> Key:
        """Ends a key for good; one that is revoked already stays as it is."""
        await self._store.revoke(key_id, self._clock.now(), by)
        return await self.get(key_id)

    async def get(self, key_id: str) -> Key:
        """The record of a key; ``Refusal`` 404 where there is none."""
        found = await self._store.get(key_id)
        if found is None:
            raise no_such_key()
        return found

    def _mint(
        self, grant: Grant, by: str, expires_in_s: float | None, replaces: Key | None = None
    ) -> tuple[str, Key]:
        now = self._clock.now()
        key_id, text = mint(self._random)
        ends = now + expires_in_s if expires_in_s is not None else (replaces.expires_at if replaces else None)
        pepper = self._peppers.current
        digest = self._peppers.digest(text, pepper)
        return text, Key(
            key_id, digest, pepper, grant, now, by, ends, rotated_from=replaces.id if replaces else None
        )


def no_such_key() -> Refusal:
    """There is none, or none that the caller may know of."""
    return Refusal(404, "no_such_key", "There is no such key.")

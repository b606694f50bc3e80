"""An experiment's states in the counter store, one key a move: each can be written once, so that no move is lost.

Whoever wants to move an experiment on from state ``n`` writes state ``n + 1``; where another has done so first,
nothing is written, and the other's state is read instead. So an operator's abort and a promotion of the same
moment cannot undo each other, with a store that knows no transactions.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Final

import orjson

from lmg import ServiceError
from lmg.services import CounterStore

from .plan import Event, State

__all__ = ["STATE_TTL_S", "StateLog"]

STATE_TTL_S: Final = 90 * 86_400.0
"""How long a state is kept that no running process refreshes."""


class StateLog:
    """The states under ``key``; ``revision`` counts them, ``state`` is the newest that is known."""

    def __init__(self, key: str) -> None:
        self._key = key
        self.revision = 0
        self.state: State | None = None

    def forget(self) -> None:
        """Knows nothing any more, as at first: another store has taken the place of the one that was read."""
        self.revision, self.state = 0, None

    async def follow(self, store: CounterStore) -> bool:
        """Reads on to the newest state; whether there was a newer one.

        Raises:
            ServiceError: the store is gone, or what it holds is no state.
        """
        moved = False
        while True:
            hint, following = await store.get([f"{self._key}:at", f"{self._key}:{self.revision + 1}"])
            if following is not None:
                self.revision, self.state = self.revision + 1, _decoded(following)
                moved = True
            elif hint is not None and (revision := _revision(hint)) > self.revision:
                # What lies between has been forgotten: states are read one by one only by who was there.
                (found,) = await store.get([f"{self._key}:{revision}"])
                if found is None:
                    return moved
                self.revision, self.state = revision, _decoded(found)
                moved = True
            else:
                return moved

    async def append(self, store: CounterStore, state: State) -> bool:
        """Moves on to ``state``; False, and nothing is written, where somebody else has moved first.

        Raises:
            ServiceError: the store is gone; whether it was written is not known.
        """
        revision = self.revision + 1
        if not await store.put(f"{self._key}:{revision}", _encoded(state), STATE_TTL_S, only_new=True):
            return False
        self.revision, self.state = revision, state
        await store.put(f"{self._key}:at", b"%d" % revision, STATE_TTL_S)
        return True

    async def refresh(self, store: CounterStore) -> None:
        """Keeps what is known from being forgotten."""
        if self.state is not None:
            # A written state never changes, so that writing it again cannot undo anybody's move.
            await store.put(f"{self._key}:{self.revision}", _encoded(self.state), STATE_TTL_S)
            await store.put(f"{self._key}:at", b"%d" % self.revision, STATE_TTL_S)


def _encoded(state: State) -> bytes:
    return orjson.dumps(asdict(state))


def _decoded(raw: bytes) -> State:
    try:
        value = orjson.loads(raw)
        history = tuple(Event(**event) for event in value.pop("history"))
        return State(**value, history=history)
    except (orjson.JSONDecodeError, TypeError, KeyError, AttributeError) as error:
        raise ServiceError("what the store holds is no state of an experiment") from error


def _revision(raw: bytes) -> int:
    return int(raw) if raw.isdigit() else 0

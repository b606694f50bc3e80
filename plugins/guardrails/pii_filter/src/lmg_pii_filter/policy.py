"""What becomes of each entity in one exchange: the configuration, tightened by what policy has obliged it to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from lmg.records import fits

from .config import PiiFilterConfig
from .entities import ENTITIES, GROUPS, Action
from .numbers import Numbers
from .scanner import Scanner

__all__ = ["OBLIGATIONS", "RANKS", "Policies", "Policy"]

RANKS: Final[Mapping[str, int]] = {"tag": 1, "mask": 2, "hash": 3, "redact": 4, "block": 5}
"""Of two values that overlap, the action with the higher rank is taken."""
OBLIGATIONS: Final = frozenset(f"redact:{name}" for name in (*ENTITIES, *GROUPS))
MAX_POLICIES: Final = 64


class Policy:
    """The actions of one exchange, with the scanner for its requests made ready."""

    def __init__(
        self, incoming: Mapping[str, Action], outgoing: Mapping[str, Action], regions: tuple[str, ...]
    ) -> None:
        self.incoming, self.outgoing = incoming, outgoing
        self.in_ranks = {entity: RANKS[action] for entity, action in incoming.items()}
        self.out_ranks = {entity: RANKS[action] for entity, action in outgoing.items()}
        self.in_numbers = Numbers(frozenset(incoming), regions)
        self.out_numbers = Numbers(frozenset(outgoing), regions)
        self.scanner = Scanner(self.in_ranks, self.in_numbers)

    def stronger_than_tag(self, entity: str, *, answer: bool) -> bool:
        """Whether the entity does not simply pass."""
        return (self.outgoing if answer else self.incoming).get(entity, "off") not in ("off", "tag")


class Policies:
    """One policy for each set of obligations; and what the operator lets be."""

    def __init__(self, config: PiiFilterConfig) -> None:
        self._incoming, self._outgoing = config.actions()
        self._regions = tuple(config.phone_regions)
        self._obliged: Action = config.action if config.action in ("mask", "hash") else "redact"
        self._allow = tuple(pattern.lower() for pattern in config.allow)
        self._made: dict[frozenset[str], Policy] = {}
        self.of(frozenset())

    def of(self, redact: frozenset[str]) -> Policy:
        """The policy where policy above has bound the exchange to ``redact`` these (``bounds.redact``)."""
        made = self._made.get(redact)
        if made is None:
            entities = {
                entity for name in redact for entity in GROUPS.get(name, (name,)) if entity in ENTITIES
            }
            made = Policy(
                self._tightened(self._incoming, entities),
                self._tightened(self._outgoing, entities),
                self._regions,
            )
            if len(self._made) < MAX_POLICIES:
                self._made[redact] = made
        return made

    def _tightened(self, actions: Mapping[str, Action], entities: set[str]) -> dict[str, Action]:
        out = dict(actions)
        for entity in entities:
            if out.get(entity, "off") in ("off", "tag"):
                out[entity] = self._obliged
        return out

    def allows(self, value: str) -> bool:
        """Whether the operator has listed ``value`` among those that are let be."""
        if not self._allow:
            return False
        lowered = value.lower()
        return any(fits(pattern, lowered) for pattern in self._allow)

"""Which requests may be answered from the cache."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import translate
from typing import Final

from lmg.jsontext import Json

from .config import CacheRoute

__all__ = ["Routes", "depends_on_more", "temperature_fits"]

MAX_KNOWN: Final = 1024
"""Names of models whose route is remembered; clients choose them."""
_STATE: Final = ("previous_response_id", "conversation", "prompt", "background", "audio")
"""Members of a request that point at what a provider keeps, or ask for what expires there (sound)."""


class Routes:
    """The routes of a configuration, asked once a request."""

    def __init__(self, routes: Sequence[CacheRoute]) -> None:
        self._routes = [(re.compile(translate(one.model)), frozenset(one.operation), one) for one in routes]
        self._known: dict[tuple[str, str], CacheRoute | None] = {}

    def find(self, model: str, operation: str) -> CacheRoute | None:
        """The first route that matches, or None."""
        asked = (model, operation)
        try:
            return self._known[asked]
        except KeyError:
            pass
        found = next(
            (one for pattern, names, one in self._routes if operation in names and pattern.match(model)), None
        )
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known[asked] = found
        return found


def temperature_fits(route: CacheRoute, operation: str, value: dict[str, Json]) -> bool:
    """Whether the request is as certain of its answer as the route wants it."""
    if route.when_temperature == "any" or operation != "chat":
        return True
    stated = value.get("temperature")
    return type(stated) in (int, float) and stated == 0


def depends_on_more(value: dict[str, Json]) -> bool:
    """Whether the answer depends on more than the request says: a conversation that a provider keeps, say."""
    return any(value.get(name) for name in _STATE)

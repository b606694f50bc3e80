"""Where a component that keeps answers stands in the list: below the guards, or hits pass those by."""

from __future__ import annotations

import logging
import weakref
from typing import Any

__all__ = ["Place"]

log = logging.getLogger("lmg")


class Place:
    """Looks at each pipeline once; a component at the wrong place is said aloud in the log.

    A guard that stands below sees neither the requests that are answered here nor those answers, and what is kept is
    what it has unmasked already.
    """

    def __init__(self, component: object, name: str, beside: tuple[type[Any], ...] = ()) -> None:
        self._component, self._name, self._beside = component, name, beside
        self._seen: Any = lambda: None

    def check(self, pipeline: Any) -> None:
        """Warns of components below that see requests or answers, but for those ``beside`` this one."""
        if self._seen() is pipeline:
            return
        self._seen = weakref.ref(pipeline)
        listed = [(one.name, component) for one, component in pipeline.listed]
        here = next(
            (n for n, (_, component) in enumerate(listed) if component is self._component), len(listed)
        )
        below = [
            name
            for name, component in listed[here + 1 :]
            if not isinstance(component, self._beside)
            and any(hasattr(component, hook) for hook in ("on_request", "on_stream", "on_response"))
        ]
        if below:
            log.warning("answers_kept_above_guards component=%s below=%s", self._name, ",".join(below))

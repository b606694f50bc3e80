"""What an operator wants forgotten: marks that outlive what they are about, so that nothing late slips past them."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final

from lmg import Refusal

__all__ = ["MAX_PURGES", "Purge", "kept_after", "purge_of"]

MAX_PURGES: Final = 64
"""Marks that are kept; beyond it they become one that forgets everything."""


@dataclass(frozen=True, slots=True)
class Purge:
    """Forgets what was made before ``at`` (seconds since the epoch) for ``tenant`` and models like ``model``."""

    at: float
    tenant: str | None = None
    model: str | None = None

    def fits(self, tenant: str, model: str) -> bool:
        """Whether answers for this tenant and model are meant."""
        return (self.tenant is None or self.tenant == tenant) and (
            self.model is None or fnmatchcase(model, self.model)
        )


def purge_of(body: Any, at: float) -> Purge:
    """The purge that an operator's request describes: ``tenant``, ``model`` (a pattern), both, or all there is.

    Raises:
        Refusal: 400.
    """
    stated = {} if body is None else body
    if type(stated) is not dict or not stated.keys() <= {"tenant", "model"}:
        raise Refusal(400, "invalid_request", "The body may have the members 'tenant' and 'model'.")
    for name, value in stated.items():
        if type(value) is not str or not 0 < len(value) <= 256:
            raise Refusal(
                400, "invalid_request", f"'{name}' must be a string of 1 to 256 characters.", param=name
            )
    return Purge(at, stated.get("tenant"), stated.get("model"))


def kept_after(purges: list[Purge], new: Purge, longest_s: float) -> list[Purge]:
    """The marks that still matter, with ``new``: those that are older than any answer can be are left out."""
    kept = [one for one in purges if one.at > new.at - longest_s]
    return [*kept, new] if len(kept) < MAX_PURGES else [Purge(new.at)]

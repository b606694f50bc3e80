"""What an operator wants forgotten: marks that outlive what they are about, so that nothing late slips past them."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["MAX_PURGES", "Purge", "PurgeAsked", "kept_after"]

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


class PurgeAsked(BaseModel):
    """The purge that an operator asks for: of ``tenant``, of ``model`` (a pattern), of both, or of all there is."""

    model_config = ConfigDict(extra="forbid", strict=True)

    tenant: str | None = Field(None, min_length=1, max_length=256)
    model: str | None = Field(None, min_length=1, max_length=256)

    @model_validator(mode="after")
    def _no_null(self) -> PurgeAsked:
        if any(getattr(self, name) is None for name in self.model_fields_set):
            raise ValueError("what is absent means all of them; a null does not")
        return self

    def at(self, now: float) -> Purge:
        """It, of what was made before ``now`` (seconds since the epoch)."""
        return Purge(now, self.tenant, self.model)


def kept_after(purges: list[Purge], new: Purge, longest_s: float) -> list[Purge]:
    """The marks that still matter, with ``new``: those that are older than any answer can be are left out."""
    kept = [one for one in purges if one.at > new.at - longest_s]
    return [*kept, new] if len(kept) < MAX_PURGES else [Purge(new.at)]

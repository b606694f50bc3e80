"""The tables as they are read: prices and capabilities of a day, and families of models whose weights are open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import orjson

from lmg import Capabilities, Prices

from .money import nano
from .names import MAX_NAME, matches, spellings, with_dashed_date

__all__ = ["BUNDLED", "NOTHING", "Known", "PriceTable", "Priced", "Tables", "TablesError", "parse_prices"]

BUNDLED: Final = Path(__file__).parent / "data"
FORMAT: Final = 1


class TablesError(Exception):
    """A table cannot be read; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Known:
    """What a table knows of a model. ``embeddings``: it makes them and nothing else, or none at all."""

    capabilities: Capabilities
    embeddings: bool | None = None


NOTHING: Final = Known(Capabilities())


@dataclass(frozen=True, slots=True)
class Priced:
    """A model in the table of prices: its prices by the day from which each holds, the first from ever."""

    context_tokens: int | None
    timeline: tuple[tuple[date | None, Prices | None], ...]

    def on(self, day: date) -> Prices | None:
        """The prices of ``day``; None where they are unknown."""
        held = [price for start, price in self.timeline if start is None or start <= day]
        return held[-1] if held else None


class PriceTable:
    """Prices by vendor."""

    def __init__(self, table: Mapping[str, Any]) -> None:
        self.date = date.fromisoformat(table["date"])
        self.source = str(table["source"])
        self._vendors: Mapping[str, Mapping[str, Any]] = table["vendors"]

    @property
    def vendors(self) -> frozenset[str]:
        """The vendors that it knows."""
        return frozenset(self._vendors)

    def vendor_of(self, name: str) -> str | None:
        """The vendor whose models are called like ``name``."""
        name = name.lower()[:MAX_NAME]
        return next(
            (
                vendor
                for vendor, entry in self._vendors.items()
                if entry["serves"] is not None and matches(entry["serves"], name)
            ),
            None,
        )

    def find(self, vendor: str, name: str) -> Priced | None:
        """The model that ``vendor`` calls ``name``: of its own list, then of the vendors whose models it also serves."""
        if len(name) > MAX_NAME or vendor not in self._vendors:
            return None
        for spelling in dict.fromkeys((name.lower(), with_dashed_date(name.lower()))):
            for lister in (vendor, *self._vendors[vendor]["also"]):
                for model in self._vendors.get(lister, {"models": ()})["models"]:
                    if matches(model["match"], spelling):
                        return Priced(model["context"], _timeline(model["prices"]))
        return None


def _timeline(prices: Sequence[Sequence[Any]]) -> tuple[tuple[date | None, Prices | None], ...]:
    return tuple(
        (start and date.fromisoformat(start), price and parse_prices(price)) for start, price in prices
    )


def parse_prices(stated: Mapping[str, Any]) -> Prices:
    """``{"input": "2.5", …}``, in US dollars per million tokens, exactly."""
    above = tuple((int(start), parse_prices(tier)) for start, tier in stated.get("tiers", ()))
    read, write = (
        nano(Decimal(stated[kind])) if kind in stated else None for kind in ("cache_read", "cache_write")
    )
    return Prices(nano(Decimal(stated["input"])), nano(Decimal(stated["output"])), read, write, above)


class Tables:
    """All that is known, read from a folder; parsing a file is all that it costs."""

    # Makers of models, asked in this order for a model of which only the name is known.
    makers: Final = (
        "openai", "anthropic", "google", "mistral", "deepseek", "x-ai", "moonshotai", "zai", "minimax", "cohere", "dashscope",
    )  # fmt: skip
    # Vendors that serve models of makers under the makers' names (or names that hold them).
    resellers: Final = frozenset({"azure", "aws", "openrouter"})

    def __init__(self, folder: Path | None = None) -> None:
        """Reads ``folder``, or the bundled tables; what a folder does not hold is taken from the bundled ones."""
        self.prices = PriceTable(_read(folder, "prices.json"))
        capabilities = _read(folder, "capabilities.json")
        self._columns: list[str] = capabilities["columns"]
        self._rows: Mapping[str, Mapping[str, Any]] = capabilities["vendors"]
        self.date = min(self.prices.date, date.fromisoformat(capabilities["date"]))

    def capabilities(self, vendor: str | None, name: str) -> Known:
        """What is known of the model that ``vendor`` (None: nobody in particular) calls ``name``."""
        if len(name) > MAX_NAME:
            return NOTHING
        vendors: tuple[str, ...] = (vendor,) if vendor is not None else self.makers
        if vendor in self.resellers:
            vendors = (vendor, *self.makers)
        for spelling in spellings(name):
            for one in vendors:
                row = self._spelled.get(one, {}).get(_loose(spelling))
                if row is not None:
                    return self._known(row)
        return NOTHING

    def family(self, name: str) -> Known:
        """What holds for the model wherever it runs, by the family that its name belongs to."""
        if len(name) > MAX_NAME:
            return NOTHING
        for spelling in spellings(name):
            for family in self._families:
                if any(fnmatchcase(spelling, pattern) for pattern in family["match"]):
                    facts = {
                        key: value for key, value in family.items() if key not in ("match", "embeddings")
                    }
                    return Known(Capabilities(**facts), family.get("embeddings"))
        return NOTHING

    @cached_property
    def _spelled(self) -> Mapping[str, Mapping[str, Sequence[Any]]]:
        return {
            vendor: {_loose(name): row for name, row in entry["models"].items()}
            for vendor, entry in self._rows.items()
        }

    @cached_property
    def _families(self) -> Sequence[Mapping[str, Any]]:
        families: Sequence[Mapping[str, Any]] = _read(None, "families.json")["families"]
        return families

    def _known(self, row: Sequence[Any]) -> Known:
        named = dict(zip(self._columns, row, strict=True))
        operation = named.pop("operation")
        return Known(Capabilities(**named), operation == "embeddings")


def _loose(name: str) -> str:
    """One spelling for ``claude-sonnet-4.5`` and ``claude-sonnet-4-5``."""
    return name.replace(".", "-")


def _read(folder: Path | None, name: str) -> Mapping[str, Any]:
    path = BUNDLED / name
    if folder is not None and (folder.is_dir() is False or (folder / name).exists()):
        path = folder / name
    try:
        table: Mapping[str, Any] = orjson.loads(path.read_bytes())
    except OSError as error:
        raise TablesError(f"{path} cannot be read: {error.strerror}") from None
    except orjson.JSONDecodeError as error:
        raise TablesError(f"{path} is not JSON: {error}") from None
    if not isinstance(table, dict) or table.get("format") != FORMAT:
        raise TablesError(f"{path} is no table of format {FORMAT}: make it anew with this version")
    return table

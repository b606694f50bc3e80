"""`catalogue`: what each target can do and what it costs, asked once at start."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from difflib import get_close_matches
from functools import lru_cache
from typing import Final

from lmg import Capabilities, ConfigError, Host, Prices, Service, Target

from .config import CatalogueConfig
from .overrides import facts_of, merged_capabilities, merged_prices, single, states_prices
from .tables import NOTHING, Known, Tables, TablesError

__all__ = ["ModelCatalogue"]

log = logging.getLogger("lmg.catalogue")

OLD: Final = timedelta(days=365)
MAX_REMEMBERED: Final = 1024
FREE: Final = Prices(0, 0)
# Which vendor's models and prices a provider of this type has. A type that is no vendor's name and not listed here
# says nothing: its models are looked up by their names alone.
VENDORS: Final = {
    "anthropic": "anthropic", "azure": "azure", "bedrock": "aws", "deepseek": "deepseek", "gemini": "google", "groq": "groq",
    "mistral": "mistral", "openai": "openai", "openrouter": "openrouter", "together": "together", "vertex": "google", "xai": "x-ai",
}  # fmt: skip


class ModelCatalogue(Service):
    """Capabilities and prices from dated tables, under the operator's own entries."""

    Config = CatalogueConfig
    summary = "what models can do and cost: dated tables, and your own entries above them"
    stability = "beta"
    protocol = "catalogue"
    config: CatalogueConfig

    def __init__(self, config: CatalogueConfig, host: Host, name: str) -> None:
        super().__init__(config, host, name)
        self._tables: Tables
        # A provider that serves whatever it is asked has targets at run time too: the names are the clients'.
        self._remembered = lru_cache(maxsize=MAX_REMEMBERED)(self._enriched)

    async def start(self) -> None:
        """Reads the tables; warns once where they are older than a year.

        Raises:
            ConfigError: a table cannot be read, or ``vendors`` names one that the tables do not know.
        """
        here = f"services.{self.name}"
        try:
            self._tables = Tables(self.config.data_dir)
        except (TablesError, KeyError, TypeError, ValueError) as error:
            what = str(error) if isinstance(error, TablesError) else f"a table is damaged: {error!r}"
            raise ConfigError(what, path=f"{here}.data_dir") from error
        known = self._tables.prices.vendors
        for provider, vendor in self.config.vendors.items():
            if vendor not in known:
                near = get_close_matches(vendor, known, 1)
                raise ConfigError(
                    f"'{vendor}' is no vendor in the table of prices",
                    path=f"{here}.vendors.{provider}",
                    hint=f"did you mean '{near[0]}'?" if near else f"vendors: {', '.join(sorted(known))}",
                )
        if self._today() - self._tables.date > OLD:
            log.warning(
                "catalogue_old component=%s date=%s hint=%s",
                self.name,
                self._tables.date,
                "update lmg-catalogue, or make tables with python -m lmg_catalogue.refresh",
            )

    def enrich(self, target: Target) -> Target:
        """``target`` with what is known of it; operations are only ever taken away, never added."""
        return self._remembered(target, self._today())

    def _today(self) -> date:
        return datetime.fromtimestamp(self.host.clock.now(), UTC).date()

    def _enriched(self, target: Target, today: date) -> Target:
        entries = facts_of(target, self.config.models)
        name = str(single(entries, "same_as") or target.upstream_model)
        vendor = self._vendor_of(target)
        table, family = self._known(target, vendor, name)
        context, prices = self._priced(target, vendor, name, today)
        windows = Capabilities(context_tokens=context)
        capabilities = merged_capabilities(
            target.capabilities, table.capabilities, family.capabilities, windows, entries=entries
        )
        whole = merged_prices(target.prices if target.prices is not None else prices, entries)
        if whole is None and states_prices(entries):
            log.warning("catalogue_price_incomplete target=%s hint=%s", target.name, "state input and output")
        embeds = single(entries, "embeddings")
        if embeds is None:
            embeds = table.embeddings if table.embeddings is not None else family.embeddings
        operations = _serving(target.operations, embeds)
        return replace(target, prices=whole, capabilities=capabilities, operations=operations)

    def _vendor_of(self, target: Target) -> str | None:
        kind = target.provider.partition("/")[0]
        said = (
            self.config.vendors.get(target.provider)
            or self.config.vendors.get(kind)
            or VENDORS.get(kind, kind)
        )
        return said if said in self._tables.prices.vendors else None

    def _known(self, target: Target, vendor: str | None, name: str) -> tuple[Known, Known]:
        """Of the vendor's own list, and of the model's family. What vendors say does not hold for weights on-prem."""
        table = NOTHING if target.on_prem else self._tables.capabilities(vendor, name)
        return table, self._tables.family(name)

    def _priced(
        self, target: Target, vendor: str | None, name: str, today: date
    ) -> tuple[int | None, Prices | None]:
        if target.on_prem:
            return None, FREE if self.config.on_prem_is_free else None
        vendor = vendor or self._tables.prices.vendor_of(name)
        priced = self._tables.prices.find(vendor, name) if vendor is not None else None
        return (priced.context_tokens, priced.on(today)) if priced is not None else (None, None)


def _serving(operations: frozenset[str], embeds: object) -> frozenset[str]:
    """The operations that are left once it is known whether a model makes embeddings."""
    if embeds is None:
        return operations
    left = operations & {"embeddings"} if embeds else operations - {"embeddings"}
    return left or operations

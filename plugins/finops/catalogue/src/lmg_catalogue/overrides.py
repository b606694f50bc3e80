"""The operator's entries: which of them speak of a target, and what they say together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from lmg import Capabilities, Prices, Target

from .config import ModelFacts, PriceFacts, Tier
from .money import nano

__all__ = ["facts_of", "merged_capabilities", "merged_prices", "single", "states_prices"]

_FLAGS = ("context_tokens", "max_output_tokens", "tools", "vision", "json_schema", "reasoning")
_KINDS = ("input", "output", "cache_read", "cache_write")


def facts_of(target: Target, models: Mapping[str, ModelFacts]) -> list[ModelFacts]:
    """The entries whose key is, or matches, a name of ``target``, in the order of the configuration."""
    names = (target.model, target.upstream_model)
    providers = (target.provider, target.provider.partition("/")[0])
    called = {*names, *(f"{provider}:{name}" for provider in providers for name in names)}
    return [
        facts
        for key, facts in models.items()
        if key in called or any(fnmatchcase(name, key) for name in called)
    ]


def single(entries: Iterable[ModelFacts], name: str) -> object:
    """What the last entry that states ``name`` says; None where none does."""
    said: object = None
    for entry in entries:
        said = value if (value := getattr(entry, name)) is not None else said
    return said


def merged_capabilities(*sources: Capabilities, entries: Sequence[ModelFacts] = ()) -> Capabilities:
    """Field by field: the last entry that states it, else the first source that does."""
    merged: dict[str, Any] = {}
    for name in _FLAGS:
        said = single(entries, name)
        known = (value for source in sources if (value := getattr(source, name)) is not None)
        merged[name] = said if said is not None else next(known, None)
    return Capabilities(**merged)


def merged_prices(known: Prices | None, entries: Sequence[ModelFacts]) -> Prices | None:
    """``known`` with what the entries state in its place; None while input or output is unknown.

    A price that is stated holds for requests of every size, unless ``tiers`` are stated too.
    """
    said: dict[str, Any] = {}
    tiers: Sequence[Tier] | None = None
    for facts in (entry.prices for entry in entries):
        said |= _stated(facts)
        tiers = facts.tiers if facts.tiers is not None else tiers
    base = _with(known, said)
    if base is None:
        return None
    if tiers is None:
        return replace(base, above=tuple((start, replace(prices, **said)) for start, prices in base.above))
    ordered = sorted(tiers, key=lambda tier: tier.above_input_tokens)
    flat = replace(base, above=())
    return replace(base, above=tuple((t.above_input_tokens, replace(flat, **_stated(t))) for t in ordered))


def states_prices(entries: Iterable[ModelFacts]) -> bool:
    """Whether any entry states a price."""
    return any(_stated(entry.prices) for entry in entries)


def _with(known: Prices | None, said: Mapping[str, Any]) -> Prices | None:
    if known is not None:
        return replace(known, **said)
    return Prices(**said) if "input" in said and "output" in said else None


def _stated(facts: PriceFacts | Tier) -> dict[str, Any]:
    given = {kind: getattr(facts, kind) for kind in _KINDS}
    return {kind: nano(usd) for kind, usd in given.items() if usd is not None}

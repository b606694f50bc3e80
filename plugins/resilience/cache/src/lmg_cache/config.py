"""The configuration of `cache` and of `idempotency`: nothing is kept unless a route, or a key, asks for it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from lmg import ComponentConfig

__all__ = ["CacheConfig", "CacheRoute", "IdempotencyConfig"]

Kept = Literal["chat", "embeddings", "rerank", "count_tokens"]
MAX_TTL_S = 30 * 86_400
MIB = 2**20


class CacheRoute(ComponentConfig):
    """What may be answered from the cache: the first route that matches a request decides."""

    model: str = Field(
        ...,
        min_length=1,
        max_length=256,
        description="Models, as clients ask for them; `*` matches any run of characters.",
    )
    operation: list[Kept] = Field(
        ["chat", "embeddings", "rerank"], min_length=1, description="Operations; each also has its dialects."
    )
    ttl_s: float = Field(
        3600, gt=0, le=MAX_TTL_S, description="How long an answer is given again, in seconds."
    )
    when_temperature: Literal["any", "zero"] = Field(
        "any", description="`zero`: of chat, only requests that state the temperature 0."
    )
    tool_calls: bool = Field(
        False, description="Keep answers that call tools, the provider's own ones included."
    )
    truncated: bool = Field(False, description="Keep answers that ended at their limit of tokens.")


class CacheConfig(ComponentConfig):
    """Gives answers again to requests that are the same."""

    routes: list[CacheRoute] = Field(
        default_factory=list, max_length=256, description="What is kept; without a route, nothing is."
    )
    scope: Literal["tenant", "principal"] = Field(
        "tenant", description="Who shares answers: the callers of a tenant, or each caller with itself alone."
    )
    max_entries: int = Field(
        10_000, gt=0, le=10_000_000, description="Answers in memory; beyond it the least recently used leave."
    )
    max_bytes: int = Field(
        64 * MIB,
        ge=MIB,
        description="What they may take together, with what streams hold until they are complete. With `shared`, what is written there within the longest `ttl_s`.",
    )
    max_entry_bytes: int = Field(
        MIB, ge=1024, description="A larger answer is not kept; of a stream, the bytes of its events count."
    )
    max_wait_ms: int = Field(
        60_000,
        ge=0,
        le=600_000,
        description="The longest that a request waits for the answer to one like it; 0: none waits.",
    )
    max_followers: int = Field(
        128, gt=0, le=100_000, description="Requests that wait for one answer; further ones go on themselves."
    )
    shared: bool = Field(
        False, description="Keep answers in the counter store instead, for all workers and replicas."
    )

    @model_validator(mode="after")
    def _bounds_fit(self) -> CacheConfig:
        # The store is charged by halves, see `shared.SharedEntries`.
        room = self.max_bytes // 2 if self.shared else self.max_bytes
        if self.max_entry_bytes > room:
            raise ValueError(
                f"max_entry_bytes must be at most {'half of ' if self.shared else ''}max_bytes: no answer of that size would fit"
            )
        return self

    @model_validator(mode="after")
    def _each_route_is_reached(self) -> CacheConfig:
        taken: set[tuple[str, str]] = set()
        for n, route in enumerate(self.routes):
            left = [
                one for one in route.operation if (route.model, one) not in taken and ("*", one) not in taken
            ]
            if not left:
                raise ValueError(f"routes[{n}] is never reached: a route above it matches all that it does")
            taken |= {(route.model, one) for one in route.operation}
        return self


class IdempotencyConfig(ComponentConfig):
    """Makes requests with the same `Idempotency-Key` one call."""

    scope: Literal["tenant", "principal"] = Field(
        "tenant", description="Whose keys are one: those of a tenant, or of each caller."
    )
    ttl_s: float = Field(
        86_400, ge=60, le=MAX_TTL_S, description="How long a key stands for its first answer, in seconds."
    )
    lease_s: float = Field(
        30,
        ge=3,
        le=3600,
        description="How long a key stays taken when the process that works on it has died, in seconds.",
    )
    max_wait_ms: int = Field(
        30_000,
        ge=0,
        le=600_000,
        description="The longest that a repeat waits for the first; then it gets a 409.",
    )
    max_waiting: int = Field(
        16,
        ge=0,
        le=10_000,
        description="Repeats of one key that wait at a time; further ones get a 409 at once.",
    )
    max_entry_bytes: int = Field(
        MIB,
        ge=1024,
        description="A larger answer is not kept: a repeat is told so. Of a stream, the bytes of its events count.",
    )
    max_bytes: int = Field(
        64 * MIB,
        ge=MIB,
        description="What the answers may take in the store, of all that were kept within `ttl_s`.",
    )
    on_store_loss: Literal["deny", "local"] = Field(
        "deny",
        description="While the counter store is away: refuse requests with a key, or know the keys of this process alone.",
    )

    @model_validator(mode="after")
    def _bounds_fit(self) -> IdempotencyConfig:
        if self.max_entry_bytes > self.max_bytes // 2:
            raise ValueError(
                "max_entry_bytes must be at most half of max_bytes: no answer of that size would fit"
            )
        return self

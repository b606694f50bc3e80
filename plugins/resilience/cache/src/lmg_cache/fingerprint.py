"""What makes two requests the same: a keyed hash of everything that an answer may depend on.

Each tenant has a hash key of its own, so no body that anybody can write has the fingerprint of another tenant's.
"""

from __future__ import annotations

import weakref
from hashlib import blake2b
from typing import Any, Final, Literal

import orjson

from lmg import Exchange, Principal
from lmg.exchange import Bounds
from lmg.jsontext import Json, JsonText
from lmg.records import UNBOUNDED

__all__ = ["Policy", "canonical", "owner_of"]

VERSION: Final = b"lmg-cache/1"
"""Changes with what is hashed, or how answers are kept, so that shared entries of older versions are not found."""
MAX_PRIMED: Final = 4096

_STREAMED: Final = frozenset({"stream", "stream_options"})
# Who asks, and what the provider may note about it: no answer depends on them.
_ACCOUNTING: Final = frozenset(
    {"user", "safety_identifier", "metadata", "prompt_cache_key", "prompt_cache_retention"}
)
_WITHOUT: Final = {
    "openai.chat": _STREAMED | _ACCOUNTING,
    "anthropic.messages": _STREAMED | _ACCOUNTING,
    "openai.embeddings": _STREAMED | _ACCOUNTING,
    # A response repeats its metadata and user: to somebody else, it would tell the first caller's.
    "openai.responses": _STREAMED,
}
_VERSIONS: Final = frozenset({b"anthropic-version", b"anthropic-beta"})
"""Headers of Anthropic's dialects that travel on and change what the upstream does."""

# Digits and points as one sign, and whatever else could make a number as others.
_SHAPE: Final = bytes(
    ord("0") if chr(n) in "0123456789." else ord("e") if chr(n) in "eE" else ord("-") if chr(n) == "-" else 32
    for n in range(256)
)
_MANY_DIGITS: Final = b"0" * 16
_FAR_BELOW_ONE: Final = b"0e-000"


class Policy:
    """What all requests through one pipeline have in common; made once for each pipeline.

    Its hash key covers providers, services and the whole list: whatever a reload changes may change an answer, or
    who may have it.
    """

    def __init__(self, pipeline: Any, scope: Literal["tenant", "principal"], component: object) -> None:
        config = pipeline.config
        # It holds the providers' secrets as well, so the key cannot be guessed by who can read the store.
        written = repr((config.providers, config.services, config.pipeline))
        self._key = blake2b(VERSION + written.encode("utf-8", "surrogatepass"), digest_size=32).digest()
        self._of = weakref.ref(pipeline)
        self._scope = scope
        self._primed: dict[tuple[object, ...], Any] = {}
        travelling = frozenset().union(
            *(getattr(one, "forwarded", ()) for one in pipeline.providers.values())
        )
        self._headers = travelling, travelling | _VERSIONS
        modes = [listed.envelope.mode for listed, one in pipeline.listed if one is component]
        self.shadow = "shadow" in modes

    def holds_for(self, pipeline: object) -> bool:
        """Whether it was made for ``pipeline``."""
        return self._of() is pipeline

    def fingerprint(self, exchange: Exchange, principal: Principal) -> bytes:
        """The fingerprint of the request as the walk has left it: 32 bytes."""
        dialect = exchange.dialect
        names = self._headers[dialect.name.startswith("anthropic.")]
        asker = (
            principal.tenant,
            owner_of(principal) if self._scope == "principal" else None,
            principal.roles,
            principal.groups,
            None if exchange.bounds is UNBOUNDED else exchange.bounds,
            exchange.operation,
            dialect.name,
            tuple([pair for pair in exchange.head.headers if pair[0] in names]) if names else None,
        )
        primed = self._primed.get(asker)
        if primed is None:
            primed = self._prime(asker)
        digest = primed.copy()
        for name in dialect.own_fields:
            hint = exchange.fact(name)
            if hint is not None:
                digest.update(name.encode() + orjson.dumps(hint, option=orjson.OPT_SORT_KEYS) + b"\n")
        digest.update(canonical(exchange.request.body, _WITHOUT.get(dialect.name, _STREAMED)))
        return digest.digest()  # type: ignore[no-any-return]

    def _prime(self, asker: tuple[object, ...]) -> Any:
        tenant, owner, roles, groups, bounds, *rest = asker
        mine = blake2b(str(tenant).encode("utf-8", "surrogatepass"), digest_size=32, key=self._key).digest()
        digest = blake2b(digest_size=32, key=mine)
        # repr keeps the members apart (RFC 8259 texts begin after the line); sets are sorted, so all processes agree.
        said = (owner, _sorted(roles), _sorted(groups), _in_order(bounds), rest)
        digest.update(repr(said).encode("utf-8", "surrogatepass") + b"\n")
        if len(self._primed) >= MAX_PRIMED:
            self._primed.clear()
        self._primed[asker] = digest
        return digest


def _sorted(names: object) -> list[str]:
    return sorted(names) if isinstance(names, frozenset) else []


def _in_order(bounds: object) -> object:
    if not isinstance(bounds, Bounds):
        return None
    return (
        _sorted(bounds.providers) if bounds.providers is not None else None,
        _sorted(bounds.regions) if bounds.regions is not None else None,
        bounds.on_prem,
        bounds.max_output_tokens,
        _sorted(bounds.redact),
    )


def owner_of(principal: Principal) -> tuple[str, str]:
    """Who one caller is among all of its tenant."""
    return principal.issuer, principal.subject


def canonical(body: JsonText, without: frozenset[str]) -> bytes:
    """The request's bytes for comparison, without some of its members: in the order of their names, where no number
    in it has more digits than the parsed value tells apart; else as it is written.
    """
    value: Json = body.value
    assert type(value) is dict
    if value.get("logprobs"):
        # They do not survive the way from a stream to a whole answer or back: each keeps to its own kind.
        without = without - _STREAMED
    shape = body.raw.translate(_SHAPE)
    if _MANY_DIGITS not in shape and _FAR_BELOW_ONE not in shape:
        kept = {name: item for name, item in value.items() if name not in without}
        try:
            return orjson.dumps(kept, option=orjson.OPT_SORT_KEYS)
        except TypeError:  # an integer beyond 64 bits that a component wrote
            pass
    for name in without & value.keys():
        body = body.remove((name,))
    return b"=" + body.render()

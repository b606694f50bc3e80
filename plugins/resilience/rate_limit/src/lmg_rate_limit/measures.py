"""What a limit on tokens counts: how much a request reserves, how much it has used, and what that leaves for the answer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Protocol

from lmg import Usage

from .config import Kind, WeightedTokens

__all__ = ["INPUT", "OUTPUT", "TOTAL", "Measure", "Weighted", "measure_of"]

_EXACT: Final = 1e-6
"""Weights leave fractions; less than a millionth of a token is none."""


class Measure(Protocol):
    """One way to count tokens."""

    def reserve(self, input: int, output: int) -> int:
        """What at most ``input`` and ``output`` tokens count."""

    def used(self, usage: Usage) -> int:
        """What the tokens of ``usage`` count."""

    def room(self, capacity: int, input: int) -> float:
        """How many output tokens still fit into ``capacity`` beside ``input`` ones; negative where not even these do."""


class _Total:
    def reserve(self, input: int, output: int) -> int:
        return input + output

    def used(self, usage: Usage) -> int:
        return usage.input_tokens + usage.output_tokens

    def room(self, capacity: int, input: int) -> float:
        return capacity - input


class _Input:
    def reserve(self, input: int, output: int) -> int:
        return input

    def used(self, usage: Usage) -> int:
        return usage.input_tokens

    def room(self, capacity: int, input: int) -> float:
        return math.inf if input <= capacity else -1


class _Output:
    def reserve(self, input: int, output: int) -> int:
        return output

    def used(self, usage: Usage) -> int:
        return usage.output_tokens

    def room(self, capacity: int, input: int) -> float:
        return capacity


@dataclass(frozen=True, slots=True)
class Weighted:
    """Tokens by weight. ``usage.input_tokens`` includes the cached ones; no input is reserved as cached."""

    input: float
    cached: float
    output: float

    def reserve(self, input: int, output: int) -> int:
        return math.ceil(input * self.input + output * self.output - _EXACT)

    def used(self, usage: Usage) -> int:
        cached = min(usage.cached_tokens, usage.input_tokens)
        fresh = usage.input_tokens - cached
        weight = fresh * self.input + cached * self.cached + usage.output_tokens * self.output
        return math.ceil(weight - _EXACT)

    def room(self, capacity: int, input: int) -> float:
        left = capacity - math.ceil(input * self.input - _EXACT)
        return left / self.output if self.output and left >= 0 else (math.inf if left >= 0 else -1)


TOTAL: Final[Measure] = _Total()
INPUT: Final[Measure] = _Input()
OUTPUT: Final[Measure] = _Output()


def measure_of(kind: Kind, weights: WeightedTokens | None) -> Measure | None:
    """How ``kind`` is counted; None where it counts no tokens."""
    if kind == "weighted_tokens":
        assert weights is not None
        cached = weights.input if weights.cached is None else weights.cached
        return Weighted(weights.input, cached, weights.output)
    return {"tokens": TOTAL, "input_tokens": INPUT, "output_tokens": OUTPUT}.get(kind)

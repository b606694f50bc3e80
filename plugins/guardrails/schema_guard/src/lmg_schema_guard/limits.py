"""How much a request may hold."""

from __future__ import annotations

from typing import Any

from lmg import Exchange

from .config import LimitsConfig
from .faults import Fault
from .tools import PLACES

__all__ = ["Limits"]


class Limits:
    """Asks of a request only what is limited, and takes nothing for granted: no schema has been asked yet."""

    def __init__(self, config: LimitsConfig) -> None:
        self._config = config
        self._counts = any(
            limit is not None
            for limit in (config.messages, config.tools, config.choices, config.stop_sequences)
        )

    def fault(self, exchange: Exchange, value: dict[str, Any]) -> Fault | None:
        """The first limit that the request is over; None where it keeps to all."""
        config = self._config
        if self._counts:
            places = PLACES.get(exchange.dialect.name)
            history = places.history if places is not None else "messages"
            fault = (
                _over(history, _length(value.get(history)), config.messages, "items")
                or _over("tools", _length(value.get("tools")), config.tools, "items")
                or _over("functions", _length(value.get("functions")), config.tools, "items")
                or _over("n", _number(value.get("n")), config.choices, "")
                or _over("stop", _length(value.get("stop")), config.stop_sequences, "items")
                or _over(
                    "stop_sequences", _length(value.get("stop_sequences")), config.stop_sequences, "items"
                )
            )
            if fault is not None:
                return fault
        if config.text_chars is not None:
            left = config.text_chars
            for segment in exchange.request.segments():
                left -= len(segment.text)
                if left < 0:
                    return Fault(
                        None,
                        f"The request's texts have more than {config.text_chars} characters.",
                        "text_chars",
                    )
        return None


def _length(value: Any) -> int:
    return len(value) if type(value) is list else int(value is not None)


def _number(value: Any) -> int:
    if type(value) is str:  # of a form
        return int(value) if len(value) < 10 and value.isdecimal() else 0
    return int(value) if type(value) in (int, float) else 0


def _over(field: str, count: int, limit: int | None, unit: str) -> Fault | None:
    if limit is None or count <= limit:
        return None
    said = f"must have at most {limit} {unit}" if unit else f"must be at most {limit}"
    return Fault(field, f"'{field}' {said}.", "limit")

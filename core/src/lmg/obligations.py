"""What a policy binds an exchange to, and whether anybody further down the list can carry that out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .compiler import applies
from .errors import OrderError, Refusal

if TYPE_CHECKING:
    from .compiler import Plan
    from .component import Component, Mode
    from .exchange import Exchange
    from .pipeline import Pipeline

__all__ = ["check_carried", "plan_with"]

_STRICTNESS: Final = {"off": 0, "shadow": 1, "enforce": 2}
_FLOOR: Final = {"no": 2, "shadow": 1, "off": 0}


def check_carried(exchange: Exchange, by: Component, name: str) -> None:
    """Refuses an obligation that no enforcing component below ``by`` carries out on this exchange.

    Raises:
        Refusal: 403.
    """
    pipeline: Pipeline = exchange.pipeline
    place = pipeline.place_of(by)
    for index in pipeline.carriers.get(name, ()):
        when = pipeline.listed[index][0].envelope.when
        if index > place and index in exchange.plan.enforcing and applies(when, index, exchange):
            return
    raise _unmet(f"nothing below carries out '{name}'")


def plan_with(exchange: Exchange, by: Component, component: str, mode: Mode) -> Plan:
    """The exchange's plan with ``component`` in ``mode``.

    Raises:
        Refusal: 403, it stands above, is not there, or may not be loosened that far.
    """
    pipeline: Pipeline = exchange.pipeline
    place = next((n for n, (item, _) in enumerate(pipeline.listed) if item.name == component), None)
    if place is None or place <= pipeline.place_of(by):
        raise _unmet(f"'{component}' does not stand below")
    listed, instance = pipeline.listed[place]
    envelope = listed.envelope
    if _STRICTNESS[mode] < min(_STRICTNESS[envelope.mode], _FLOOR[envelope.may_loosen]):
        raise _unmet(f"'{component}' may not be loosened to {mode}")
    if mode not in instance.modes:
        raise _unmet(f"'{component}' does not support mode {mode}")
    modes = {**exchange.plan.modes, place: mode}
    try:
        return pipeline.plan_for(modes)
    except OrderError as error:
        raise _unmet(f"without '{component}' the list breaks a rule: {error}") from None


def _unmet(reason: str) -> Refusal:
    return Refusal(403, "obligation_unmet", "Policy does not allow this request here.", reason=reason)

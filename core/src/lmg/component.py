"""What a plugin offers: components, of three kinds, each one configurable thing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from .host import Host

__all__ = ["Component", "ComponentConfig", "Facts", "Health", "Mode", "Service", "Stability"]

Mode = Literal["enforce", "shadow", "off"]
Stability = Literal["alpha", "beta", "stable"]
Facts = Mapping[str, tuple[str, ...]]
"""Facts by hook, as in ``{"on_request": ("principal",)}``."""


class ComponentConfig(BaseModel):
    """The base of every component's configuration: unknown keys are errors, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


@dataclass(frozen=True, slots=True)
class Health:
    """What ``/readyz`` shows of a component that is not well."""

    state: Literal["degraded", "failed"]
    detail: str


class _Configured:
    """What all three kinds share: a constructor without side effects, then ``start``, at last ``stop``."""

    Config: ClassVar[type[ComponentConfig]] = ComponentConfig
    stability: ClassVar[Stability] = "alpha"
    summary: ClassVar[str] = ""
    requires_kernel: ClassVar[str] = ">=0.1,<0.2"
    """The kernel versions that this component is made for (PEP 440)."""

    def __init__(self, config: Any, host: Host, name: str) -> None:
        self.config = config
        self.host = host
        self.name = name

    async def start(self) -> None:
        """Takes up what the component needs; a failure stops the start (or the reload)."""

    async def stop(self) -> None:
        """Gives it back; called once, also after a failed start."""


class Component(_Configured):
    """A listed component: it stands in the pipeline and implements hooks (see ``lmg.hookspecs``).

    ``provides``, ``requires`` and ``uses`` declare facts by hook; order is checked from them at start.
    """

    provides: ClassVar[Facts] = {}
    requires: ClassVar[Facts] = {}
    uses: ClassVar[Facts] = {}
    modes: ClassVar[frozenset[str]] = frozenset({"enforce", "shadow", "off"})
    on_error: ClassVar[Literal["deny", "allow"]] = "deny"
    carries: ClassVar[frozenset[str]] = frozenset()
    """Obligations that it carries out (see ``Exchange.oblige``), as in ``{"redact:email", "budget_class"}``."""
    needs_timeline: ClassVar[bool] = False
    exports_metrics: ClassVar[bool] = False
    max_wait_s: float = 0.0
    """How long its hooks may wait in a queue of their own, beside the ``timeout_ms`` of their own time."""
    needs_written: bool = False
    """Whether ``exchange.written`` is kept: the text of a streamed answer as the upstream sent it (up to 1 MiB;
    None where it cannot be continued). It costs a parse a chunk."""

    @classmethod
    def required(cls, config: Any) -> Facts:
        """What it requires with this (checked) configuration: ``requires``, where that says it all."""
        return cls.requires

    @classmethod
    def used(cls, config: Any) -> Facts:
        """What it uses with this (checked) configuration: ``uses``, where that says it all."""
        return cls.uses

    @classmethod
    def carried(cls, config: Any) -> frozenset[str]:
        """The obligations that it carries out with this (checked) configuration: ``carries``, where that says it all."""
        return cls.carries


class Service(_Configured):
    """Implements one protocol of the host (``CounterStore``, ``Ledger``, ``Catalogue``, ``Tokenizer``, ``Secrets``)."""

    protocol: ClassVar[Literal["counters", "ledger", "catalogue", "tokenizer", "secrets"]]

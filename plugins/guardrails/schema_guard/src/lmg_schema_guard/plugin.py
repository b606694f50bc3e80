"""`schema_guard`: what is no request of its dialect goes no further."""

from __future__ import annotations

from typing import Any, ClassVar

from lmg import Component, Deny, Exchange, Host
from lmg.component import Facts
from lmg.records import fits

from .compiled import Compiled, compile_schema
from .config import OwnSchema, SchemaGuardConfig
from .faults import Fault
from .limits import Limits
from .schemas import SHAPES, schema_of
from .stated_schemas import StatedSchemas
from .tools import PLACES, mismatch

__all__ = ["SchemaGuard"]


class SchemaGuard(Component):
    """Refuses malformed requests with a 400 that says where the fault is and what is expected there."""

    Config = SchemaGuardConfig
    summary = "malformed requests are refused at the gate, with the path of the fault"
    stability = "beta"
    requires: ClassVar[Facts] = {"on_request": ("body",)}

    def __init__(self, config: SchemaGuardConfig, host: Host, name: str) -> None:
        super().__init__(config, host, name)
        strict = config.mode_of_unknown_fields == "strict"
        self._schemas = {
            dialect: compile_schema(schema_of(shape, strict=strict)) for dialect, shape in SHAPES.items()
        }
        self._own = tuple(_Own(own) for own in config.schemas)
        self._limits = Limits(config.limits)
        self._stated = StatedSchemas(
            max_depth=config.limits.schema_depth, max_nodes=config.limits.schema_nodes
        )
        self._refusals = host.metrics.counter(
            "lmg_schema_guard_refusals_total",
            "Requests that were refused as malformed, by the rule that they broke.",
            ("component", "dialect", "rule"),
        )

    def on_request(self, exchange: Exchange) -> Deny | None:
        """Denies (400) with the first fault; the message holds nothing that the caller wrote."""
        value = exchange.request.body.value
        assert isinstance(value, dict)
        fault = self._fault(exchange, value)
        if fault is None:
            return None
        self._refusals.inc((self.name, exchange.dialect.name, fault.rule))
        return Deny(400, "invalid_request", fault.message, f"schema: {fault.rule}", param=fault.param)

    def _fault(self, exchange: Exchange, value: dict[str, Any]) -> Fault | None:
        dialect = exchange.dialect.name
        # The bounds come before anything that walks what they bound.
        fault = self._limits.fault(exchange, value)
        if fault is not None:
            return fault
        schema = self._schemas.get(dialect)
        if schema is not None:
            fault = schema.fault(value)
            if fault is not None:
                return fault
            if self.config.check_references:
                fault = mismatch(dialect, value)
                if fault is not None:
                    return fault
        if self.config.check_stated_schemas and schema is not None and (places := PLACES.get(dialect)):
            for path, stated in places.schemas(value):
                fault = self._stated.fault(path, stated) if stated is not None else None
                if fault is not None:
                    return fault
        for own in self._own:
            fault = own.fault(dialect, exchange.request.model, value)
            if fault is not None:
                return fault
        return None


class _Own:
    """A schema of the operator's, and what it is for."""

    __slots__ = ("_compiled", "_dialects", "_models")

    def __init__(self, own: OwnSchema) -> None:
        self._dialects, self._models = frozenset(own.dialects), tuple(own.models)
        self._compiled: Compiled = compile_schema(own.json_schema)

    def fault(self, dialect: str, model: str, value: dict[str, Any]) -> Fault | None:
        if self._dialects and dialect not in self._dialects:
            return None
        if self._models and not any(fits(pattern, model) for pattern in self._models):
            return None
        return self._compiled.fault(value)

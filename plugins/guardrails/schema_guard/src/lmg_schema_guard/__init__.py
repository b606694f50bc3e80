"""Malformed requests are refused at the gate, with the path of the fault."""

from .plugin import SchemaGuard

__all__ = ["SchemaGuard"]

"""Policies in Rego: in process, or on an OPA server."""

from .config import OpaConfig
from .plugin import Opa

__all__ = ["Opa", "OpaConfig"]

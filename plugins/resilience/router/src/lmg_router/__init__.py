"""Which model serves a request: by capability, residency, cost, latency, weight, and by what the caller prefers."""

from .config import RouterConfig
from .plugin import Router

__all__ = ["Router", "RouterConfig"]

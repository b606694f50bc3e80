"""LLM Mesh Gateway's kernel: HTTP, the lifecycle of an exchange, and a registry of plugins.

A request walks down a list of plugins to a model, and the answer walks back up.
"""

from __future__ import annotations

from .admin import AdminCall, AdminRoute, AuditEvent
from .component import Component, ComponentConfig, Health, Service
from .dialects import Delta, StreamEvent
from .errors import ConfigError, MeshError, QueueFull, Refusal, ServiceError, UpstreamError
from .exchange import (
    Attempt,
    Bounds,
    Capabilities,
    Exchange,
    Failure,
    Head,
    Outcome,
    Prices,
    Principal,
    Receipt,
    Request,
    Response,
    Slot,
    Target,
    Usage,
)
from .host import Host
from .provider import HttpProvider, HttpProviderConfig, Provider, ProviderConfig, Reply
from .segments import Segment
from .streams import StreamFilter
from .verdicts import Answer, Deny, Finding, Later, Next, Resume, Retry, Signal, Skip, Stop

__version__ = "0.1.0"

__all__ = [
    "AdminCall",
    "AdminRoute",
    "Answer",
    "Attempt",
    "AuditEvent",
    "Bounds",
    "Capabilities",
    "Component",
    "ComponentConfig",
    "ConfigError",
    "Delta",
    "Deny",
    "Exchange",
    "Failure",
    "Finding",
    "Head",
    "Health",
    "Host",
    "HttpProvider",
    "HttpProviderConfig",
    "Later",
    "MeshError",
    "Next",
    "Outcome",
    "Prices",
    "Principal",
    "Provider",
    "ProviderConfig",
    "QueueFull",
    "Receipt",
    "Refusal",
    "Reply",
    "Request",
    "Response",
    "Resume",
    "Retry",
    "Segment",
    "Service",
    "ServiceError",
    "Signal",
    "Skip",
    "Slot",
    "Stop",
    "StreamEvent",
    "StreamFilter",
    "Target",
    "UpstreamError",
    "Usage",
    "__version__",
]

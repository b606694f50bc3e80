"""Run the gateway."""

from __future__ import annotations

import asyncio
import logging
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from ..pipeline import Blueprint, authenticates
from .source import add_config_argument, find_config, read_blueprint

__all__ = ["HELP", "arguments", "run"]

HELP = "run the gateway"


def arguments(parser: ArgumentParser) -> None:
    """`lmg serve`'s options; each of them overrides its setting in `server:`."""
    add_config_argument(parser)
    parser.add_argument("--host", help="the address to listen on")
    parser.add_argument("--port", type=int, help="the port; 0 lets the system choose")
    parser.add_argument("--workers", type=int, help="processes that share the port")
    parser.add_argument(
        "--log-level",
        default="warning",
        choices=["debug", "info", "warning", "error"],
        help="default: warning",
    )


def run(options: Namespace) -> int:
    """Serves until SIGTERM or SIGINT; 0 after an orderly end."""
    from ..server.process import Process, listen, new_loop

    logging.basicConfig(
        level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    overrides = {
        name: getattr(options, name)
        for name in ("host", "port", "workers")
        if getattr(options, name) is not None
    }
    path = find_config(options.config)

    def read() -> tuple[Blueprint, tuple[Path, ...]]:
        return read_blueprint(path, overrides)

    process = Process(read)
    config = process.config
    _warn(process.blueprint)
    sockets = listen(config.server.host, config.server.port)
    if config.admin is not None and config.admin.port is not None:
        process.use_admin_sockets(listen(config.admin.host, config.admin.port))
    port = sockets[0].getsockname()[1]
    workers = config.server.workers
    with tempfile.TemporaryDirectory(prefix="lmg-") as folder:
        if workers > 1 and config.server.state_dir is None:
            # Embedded services of several workers share one folder; it goes with the gateway.
            process.use_state_dir(Path(folder))

        def ready() -> None:
            _announce(process.blueprint, path, port)

        if workers > 1:
            from ..server.workers import serve_workers

            return serve_workers(process, sockets, workers, ready)
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(process.run(sockets, ready))
    return 0


def _warn(blueprint: Blueprint) -> None:
    if blueprint.config.insecure_no_auth:
        sys.stderr.write(
            "WARNING: insecure_no_auth is set: whoever reaches this gateway may use every model at your cost.\n"
        )
    elif not any(authenticates(part) for part in blueprint.listed):
        sys.stderr.write("note: no authenticator is listed; the gateway listens on loopback only.\n")


def _announce(blueprint: Blueprint, path: Path | None, port: int) -> None:
    server = blueprint.config.server
    scheme = "https" if server.tls is not None else "http"
    host = f"[{server.host}]" if ":" in server.host else server.host
    base = f"{scheme}://{host}:{port}"
    write = sys.stdout.write
    write(f"LLM Mesh Gateway on {base}  ({path or 'embedded default'})\n")
    for part in blueprint.providers:
        write(f"  provider {part.name}\n")
    for part in blueprint.listed:
        write(f"  {part.name} ({part.envelope.mode})\n")
    write(f"\nTry it:\n\n{example(blueprint, base)}\n\n")
    sys.stdout.flush()


def example(blueprint: Blueprint, base: str) -> str:
    """A `curl` that works as pasted."""
    model = _first_model(blueprint)
    auth = (
        " -H 'Authorization: Bearer YOUR_KEY'"
        if any(authenticates(part) for part in blueprint.listed)
        else ""
    )
    body = f'{{"model": "{model}", "messages": [{{"role": "user", "content": "What is the capital of France?"}}]}}'
    return f"curl {base}/v1/chat/completions{auth} -H 'Content-Type: application/json' -d '{body}'"


def _first_model(blueprint: Blueprint) -> str:
    def named(part: Any) -> str:
        models: list[str] = part.settings.models or getattr(part.component, "default_models", list)()
        return models[0] if models else ""

    ranked = sorted(
        blueprint.providers,
        key=lambda part: (
            part.name.startswith("echo"),
            not getattr(part.settings, "embedded", False),
            part.settings.priority,
        ),
    )
    return next((named(part) for part in ranked if named(part)), "echo")

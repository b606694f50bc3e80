"""Show what the pipeline would do with a request, step by step; calls no model, reserves nothing, records nothing."""

from __future__ import annotations

import asyncio
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from ..dialects import Dialect
from ..dialects.registry import DIALECTS
from ..dryrun import DryRun
from ..errors import ConfigError
from ..exchange import Head, Request
from ..hookspecs import REVERSED
from .output import console, print_json, table
from .source import add_config_argument, find_config, read_blueprint

__all__ = ["HELP", "arguments", "run"]

HELP = "show what the pipeline would do with a request"

_LATER: Final = ("on_attempt", "on_failure", "on_stream", "on_response", "on_settle", "on_end")


def arguments(parser: ArgumentParser) -> None:
    """`lmg explain`'s options."""
    add_config_argument(parser)
    parser.add_argument(
        "request",
        nargs="?",
        metavar="REQUEST.json",
        help="the request's body; - is stdin (default: a greeting to the first model)",
    )
    parser.add_argument(
        "--header",
        "-H",
        action="append",
        default=[],
        metavar="'NAME: VALUE'",
        help="a header of the request; may be repeated",
    )
    parser.add_argument(
        "--key-env", metavar="NAME", help="take the caller's key from this environment variable"
    )
    parser.add_argument(
        "--path", default="/v1/chat/completions", help="the request's path (default: /v1/chat/completions)"
    )
    parser.add_argument(
        "--connect",
        action="store_true",
        help="let components ask their own servers (identity, policy, counters); never a model",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: Namespace) -> int:
    """0 when the request was explained, whatever becomes of it."""
    path = find_config(options.config)
    blueprint, _ = read_blueprint(path)
    dialect = DIALECTS.get(options.path.encode())
    if dialect is None:
        known = ", ".join(sorted(path.decode() for path in DIALECTS))
        raise ConfigError(f"{options.path} is no path of a model", hint=f"paths: {known}")
    headers = _headers(options.header, options.key_env, os.environ)
    body = _read(options.request)

    async def explain() -> dict[str, Any]:
        async with DryRun(blueprint, connect=options.connect) as dry:
            given = body if body is not None else _greeting(dry, dialect)
            await dry.walk(dialect, Head("POST", options.path, headers, "127.0.0.1"), given)
            return report(dry)

    found = asyncio.run(explain())
    if options.json:
        print_json(found)
    else:
        _show(found)
    return 0


def _headers(
    given: Sequence[str], key_env: str | None, environ: Mapping[str, str]
) -> list[tuple[bytes, bytes]]:
    headers = [(b"content-type", b"application/json")]
    for line in given:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            # Not quoted: it may be a key without its header's name.
            raise ConfigError("a --header has no name", hint="write it as 'name: value'")
        headers.append((name.strip().lower().encode(), value.strip().encode()))
    if key_env is not None:
        if not environ.get(key_env):
            raise ConfigError(f"the environment has no {key_env}", path="--key-env")
        headers.append((b"authorization", b"Bearer " + environ[key_env].strip().encode()))
    return headers


def _read(request: str | None) -> bytes | None:
    if request is None:
        return None
    if request == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(request).read_bytes()
    except OSError as error:
        raise ConfigError(f"{request} cannot be read: {error.strerror}") from None


def _greeting(dry: DryRun, dialect: Dialect) -> bytes:
    models = [
        target.model for target in dry.pipeline.catalogue.models() if dialect.operation in target.operations
    ]
    body: dict[str, Any] = {"model": models[0] if models else "echo"}
    if dialect.operation == "chat":
        body["messages"] = [{"role": "user", "content": "hello"}]
    else:
        body["input"] = "hello"
    return orjson.dumps(body)


def report(dry: DryRun) -> dict[str, Any]:
    """All that was observed, as plain values; of the request, only what it asks for."""
    exchange = dry.exchange
    assert exchange is not None
    request: Request | None = exchange.request
    bounds = exchange.bounds
    outcome: dict[str, Any]
    refusal = dry.refusal
    if refusal is not None:
        outcome = {
            "is": "refused", "status": refusal.status, "code": refusal.code, "message": refusal.message, "reason": refusal.reason,
        }  # fmt: skip
    elif dry.answer is not None:
        outcome = {"is": "answered", "status": dry.answer.status}
    else:
        outcome = {"is": "forwarded"}
    return {
        "request": {
            "path": exchange.head.path,
            "dialect": exchange.dialect.name,
            "operation": exchange.operation,
            "model": request.model if request is not None else None,
            "stream": request.stream if request is not None else None,
        },
        "steps": [
            {
                "step": n, "component": row.component, "hook": row.hook, "mode": "shadow" if row.shadow else "enforce",
                "verdict": row.verdict, "facts": row.facts, "changes": row.changes, "detail": row.detail,
            }
            for n, row in enumerate(dry.steps, 1)
        ],
        "outcome": outcome,
        "targets": [
            {
                "name": target.name, "upstream_model": target.upstream_model, "priority": target.priority,
                "region": target.region, "on_prem": target.on_prem,
            }
            for target in dry.targets
        ],
        "dropped": [
            {"target": drop.target, "component": drop.component, "reason": drop.reason, "status": drop.status, "shadow": drop.shadow}
            for drop in dry.dropped
        ],
        "bounds": {
            "providers": sorted(bounds.providers) if bounds.providers is not None else None,
            "regions": sorted(bounds.regions) if bounds.regions is not None else None,
            "on_prem": bounds.on_prem,
            "max_output_tokens": bounds.max_output_tokens,
            "redact": sorted(bounds.redact),
        },
        "afterwards": {hook: [step.name for step in dry.pipeline.plan.hooks[hook]] for hook in _LATER},
        "notes": dry.notes,
    }  # fmt: skip


def _show(found: dict[str, Any]) -> None:
    out = console()
    request = found["request"]
    asked = request["model"] or "its body was not read"
    out.print(
        f"{request['path']} ({request['dialect']}): {asked}{', streamed' if request['stream'] else ''}\n",
        style="bold",
    )
    steps = table("Down the list", "step", "component", "hook", "verdict", "facts", "what else")
    for row in found["steps"]:
        shadow = row["mode"] == "shadow"
        ran = row["verdict"] not in ("not reached", "when does not match")
        steps.add_row(
            str(row["step"]),
            f"{row['component']}{' (shadow)' if shadow else ''}",
            row["hook"],
            f"would have: {row['verdict']}" if shadow and ran else row["verdict"],
            ", ".join(row["facts"]),
            "; ".join(
                [
                    *(f"changes {change}" for change in row["changes"]),
                    *([row["detail"]] if row["detail"] else []),
                ]
            ),
            style="" if ran else "dim",
        )
    if steps.row_count:
        out.print(steps)
    targets = table("Targets, in order", "", "target", "upstream model", "priority", "region")
    for n, target in enumerate(found["targets"], 1):
        region = " ".join(part for part in (target["region"], "on-prem" if target["on_prem"] else "") if part)
        targets.add_row(str(n), target["name"], target["upstream_model"], str(target["priority"]), region)
    for drop in found["dropped"]:
        by = f"{drop['component']}{' (shadow)' if drop['shadow'] else ''}"
        targets.add_row(
            "~" if drop["shadow"] else "✗", drop["target"], f"{by}: {drop['reason']}", "", "", style="dim"
        )
    if targets.row_count:
        out.print(targets)
    _show_outcome(out, found)


def _show_outcome(out: Any, found: dict[str, Any]) -> None:
    outcome, bounds = found["outcome"], found["bounds"]
    narrowed = [
        f"{name}: {value if not isinstance(value, list) else ', '.join(value)}"
        for name, value in bounds.items()
        if value
    ]
    out.print(f"bounds: {'; '.join(narrowed) or 'none'}")
    for hook, names in found["afterwards"].items():
        if names and outcome["is"] == "forwarded":
            out.print(f"{hook} {'▲' if hook in REVERSED else '▼'} {', '.join(names)}", style="dim")
    for note in found["notes"]:
        out.print(f"note: {note}", style="yellow")
    if outcome["is"] == "refused":
        out.print(f"refused: {outcome['status']} {outcome['code']}: {outcome['message']}", style="red")
        if outcome["reason"] != outcome["message"]:
            out.print(f"  for the operator: {outcome['reason']}")
    elif outcome["is"] == "answered":
        out.print(f"answered by a component: {outcome['status']}", style="green")
    else:
        out.print(f"forwarded to {found['targets'][0]['name']}", style="green")

"""Check a configuration without starting anything, and show the pipeline that it compiles to."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import Any

from ..compiler import Step
from ..errors import ConfigError, MeshError
from ..hookspecs import LIFE_HOOKS, REVERSED
from ..host import Host
from ..pipeline import Blueprint, Part, Pipeline, authenticates
from .output import console, print_json, table
from .source import add_config_argument, find_config, read_blueprint

__all__ = ["HELP", "arguments", "models_of", "run"]

HELP = "check a configuration and show its pipeline"


def arguments(parser: ArgumentParser) -> None:
    """`lmg check`'s options."""
    add_config_argument(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: Namespace) -> int:
    """0 where the configuration can be served; a fault is a ConfigError, with its place and a hint."""
    path = find_config(options.config)
    blueprint, _ = read_blueprint(path)
    found = report(blueprint, _built(blueprint))
    found = {"config": str(path) if path is not None else None, **found}
    if options.json:
        print_json(found)
    else:
        _show(found)
    return 0


def _built(blueprint: Blueprint) -> Pipeline:
    """The pipeline, built and compiled, not started: constructors have no side effects."""
    try:
        return blueprint.build(Host())
    except MeshError:
        raise
    except Exception as error:
        raise ConfigError(f"a component cannot be built: {type(error).__name__}: {error}") from error


def report(blueprint: Blueprint, pipeline: Pipeline) -> dict[str, Any]:
    """All that `lmg check` knows, as plain values."""
    return {
        "hooks": {
            hook: {
                "walk": "up" if hook in REVERSED else "down",
                "steps": [_step(step) for step in pipeline.plan.hooks[hook]],
            }
            for hook in LIFE_HOOKS
        },
        "off": [part.name for part in blueprint.listed if part.envelope.mode == "off"],
        "providers": [
            {
                "name": part.name,
                "models": models_of(part),
                "operations": sorted(part.component.operations),
                "priority": part.settings.priority,
                "fallback": part.settings.fallback,
                "on_prem": part.settings.on_prem,
                "region": part.settings.region,
            }
            for part in blueprint.providers
        ],
        "services": [{"name": part.name, "protocol": part.component.protocol} for part in blueprint.services],
        "warnings": list(_warnings(blueprint)),
    }


def _step(step: Step) -> dict[str, Any]:
    return {
        "component": step.name,
        "mode": "shadow" if step.shadow else "enforce",
        "on_error": "allow" if step.allow else "deny",
        "when": step.when is not None,
        "provides": list(step.provides),
        "requires": list(dict.fromkeys([*step.needs, *(["body"] if step.needs_body else [])])),
        "uses": sorted(step.uses - {*step.needs, "head", "body"}),
    }


def models_of(part: Part) -> list[str]:
    """The models of a provider by its configuration, or those that its component serves by default."""
    default = getattr(part.component, "default_models", None)
    return list(part.settings.models) or list(default() if default is not None else ())


def _warnings(blueprint: Blueprint) -> Iterator[str]:
    config = blueprint.config
    if config.insecure_no_auth:
        yield "insecure_no_auth is set: whoever reaches this gateway may use every model at your cost"
    elif not any(
        authenticates(p) and p.envelope.mode == "enforce" and p.envelope.when is None
        for p in blueprint.listed
    ):
        yield "no authenticator always enforces: the gateway serves callers on this machine only"
    for part in blueprint.listed:
        if part.envelope.mode == "shadow":
            yield f"{part.name} runs in shadow: what it finds is recorded and has no effect"
        elif part.envelope.mode == "off":
            yield f"{part.name} is off"
        if part.envelope.on_error == "allow" and part.component.on_error == "deny":
            yield f"{part.name} has on_error: allow: where it fails, requests pass without it"
    if not blueprint.providers:
        yield "there is no provider: every request will be refused"
    for part in blueprint.providers:
        if not models_of(part):
            yield f"{part.name} names no models"


def _show(found: dict[str, Any]) -> None:
    out = console()
    steps = table("Pipeline", "hook", "walk", "component", "provides", "requires")
    for hook, walk in found["hooks"].items():
        for n, step in enumerate(walk["steps"]):
            steps.add_row(
                "" if n else hook,
                "" if n else ("▼ down" if walk["walk"] == "down" else "▲ up"),
                _marked(step),
                ", ".join(step["provides"]),
                ", ".join([*step["requires"], *(f"{fact}?" for fact in step["uses"])]),
            )
        if walk["steps"]:
            steps.add_section()
    if steps.row_count:
        out.print(steps)
    else:
        out.print("The pipeline is empty: a request goes straight to its provider.\n")
    providers = table("Providers", "provider", "priority", "operations", "models")
    for provider in found["providers"]:
        providers.add_row(
            provider["name"],
            str(provider["priority"]),
            ", ".join(provider["operations"]),
            ", ".join(provider["models"]),
        )
    if providers.row_count:
        out.print(providers)
    for service in found["services"]:
        out.print(f"service {service['protocol']}: {service['name']}")
    for warning in found["warnings"]:
        out.print(f"warning: {warning}", style="yellow")
    out.print(f"ok: {found['config'] or 'the embedded default'}", style="green")


def _marked(step: dict[str, Any]) -> str:
    marks = [mark for mark, there in (("shadow", step["mode"] == "shadow"), ("when", step["when"])) if there]
    return f"{step['component']} ({', '.join([*marks, 'on_error: ' + step['on_error']])})"

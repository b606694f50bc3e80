"""The only reader of entry points: what is installed, loaded only when it is configured."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final, Literal

from .component import Service, _Configured
from .errors import DiscoveryError

if TYPE_CHECKING:
    from importlib_metadata import EntryPoint

__all__ = ["COMMANDS", "GROUP", "KNOWN", "Installed", "commands", "discover", "kind_of", "load_component"]

GROUP: Final = "lmg.plugins"
COMMANDS: Final = "lmg.commands"
"""Extra commands of `lmg`: each entry point is a module like those of ``lmg.cli`` (HELP, arguments, run)."""

KNOWN: Final = {
    "anthropic": "lmg-anthropic", "auth_jwt": "lmg-auth-jwt", "auth_keys": "lmg-auth-keys", "auth_mtls": "lmg-auth-mtls",
    "auth_static": "lmg-auth-keys", "azure": "lmg-openai", "bedrock": "lmg-bedrock", "breaker": "lmg-breaker",
    "cache": "lmg-cache", "canary": "lmg-canary", "catalogue": "lmg-catalogue", "deepseek": "lmg-local", "dlp": "lmg-dlp",
    "echo": "lmg-echo", "fallback": "lmg-fallback", "gemini": "lmg-gemini", "groq": "lmg-local", "idempotency": "lmg-cache",
    "llamacpp": "lmg-local", "lmstudio": "lmg-local", "load_shedding": "lmg-load-shedding", "local": "lmg-local",
    "mistral": "lmg-local", "ollama": "lmg-local", "opa": "lmg-opa", "openai": "lmg-openai", "openrouter": "lmg-local",
    "pii_filter": "lmg-pii-filter", "rate_limit": "lmg-rate-limit", "redis": "lmg-redis", "retry": "lmg-retry",
    "risk": "lmg-risk", "router": "lmg-router", "schema_guard": "lmg-schema-guard", "stream_rescue": "lmg-stream-rescue",
    "together": "lmg-local", "vllm": "lmg-local", "xai": "lmg-local",
}  # fmt: skip
"""Components of this project and the distributions that offer them: for the pip line of an error."""


@dataclass(frozen=True, slots=True)
class Installed:
    """A component that is installed; ``entry_point`` imports it on ``load``."""

    name: str
    distribution: str
    version: str
    entry_point: EntryPoint


def discover() -> dict[str, Installed]:
    """Every installed component by name; imports none of them.

    Raises:
        DiscoveryError: two distributions offer the same name.
    """
    # The back-port is a little faster at scanning, and the same on every Python.
    from importlib_metadata import entry_points

    found: dict[str, Installed] = {}
    for entry_point in entry_points(group=GROUP):
        dist = entry_point.dist
        distribution, version = (dist.name, dist.version) if dist is not None else ("?", "?")
        there = found.get(entry_point.name)
        if there is not None and there.distribution != distribution:
            raise DiscoveryError(
                f"'{entry_point.name}' is offered by both {there.distribution} and {distribution}",
                hint=f"pip uninstall {there.distribution} or {distribution}",
            )
        found[entry_point.name] = Installed(entry_point.name, distribution, version, entry_point)
    return found


def commands() -> dict[str, EntryPoint]:
    """The commands that plugins add, by name; imports none of them."""
    from importlib_metadata import entry_points

    return {entry_point.name: entry_point for entry_point in entry_points(group=COMMANDS)}


def kind_of(component: type[Any]) -> Literal["listed", "provider", "service"]:
    """Which of the three kinds a component class is."""
    from .provider import Provider

    if issubclass(component, Provider):
        return "provider"
    return "service" if issubclass(component, Service) else "listed"


def load_component(
    type: str,
    installed: dict[str, Installed],
    *,
    where: str = "",
    path: str = "",
    kind: Sequence[str] = ("listed",),
) -> type[Any]:
    """The class behind ``type``; this is where a plugin is imported.

    Raises:
        DiscoveryError: not installed (with the nearest name and the pip line), made for another kernel,
            broken, or of another kind than its place in mesh.yaml asks for.
    """
    entry = installed.get(type)
    if entry is None:
        known = {**KNOWN, **{name: item.distribution for name, item in installed.items()}}
        near = type if type in KNOWN else next(iter(get_close_matches(type, known, 1)), None)
        if near == type:
            hint = f"pip install {KNOWN[type]}"
        elif near is not None and near in installed:
            hint = f"did you mean '{near}'?"
        elif near is not None:
            hint = f"did you mean '{near}'? (pip install {known[near]})"
        else:
            hint = f"installed: {', '.join(sorted(installed)) or 'nothing'}"
        raise DiscoveryError(f"'{type}' is not installed", where=where, path=path, hint=hint)
    try:
        component = entry.entry_point.load()
    except Exception as error:
        raise DiscoveryError(
            f"'{type}' cannot be imported from {entry.distribution} {entry.version}: {error.__class__.__name__}: {error}",
            where=where,
            path=path,
        ) from error
    if not (inspect.isclass(component) and issubclass(component, _Configured)):
        raise DiscoveryError(
            f"'{type}' of {entry.distribution} is no component class", where=where, path=path
        )
    _check_kernel(component, entry, where, path)
    if kind_of(component) not in kind:
        section = {"listed": "pipeline:", "provider": "providers:", "service": "services:"}[
            kind_of(component)
        ]
        raise DiscoveryError(
            f"'{type}' is a {kind_of(component)} component",
            where=where,
            path=path,
            hint=f"it belongs under {section}",
        )
    return component


def _check_kernel(component: type[_Configured], entry: Installed, where: str, path: str) -> None:
    from . import __version__

    for clause in component.requires_kernel.split(","):
        clause = clause.strip()
        operator = clause.rstrip("0123456789.")
        wanted, here = _release(clause[len(operator) :]), _release(__version__)
        fits = {
            ">=": here >= wanted,
            "<": here < wanted,
            "==": here[: len(wanted)] == wanted,
            ">": here > wanted,
            "<=": here <= wanted,
        }
        if not fits.get(operator.strip(), False):
            raise DiscoveryError(
                f"'{entry.name}' of {entry.distribution} {entry.version} is made for kernels {component.requires_kernel}, this is {__version__}",
                where=where, path=path, hint=f"pip install --upgrade {entry.distribution} lmg-core",
            )  # fmt: skip


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())

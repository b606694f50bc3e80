"""The whole translation: a LiteLLM proxy's configuration in, mesh.yaml and notes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ...errors import ConfigError
from ...yamltext import Document
from ..notes import Migration, Notes, Path
from .deployments import Deployment, read_deployments
from .providers import Served, gather
from .sections import note_sections
from .values import Values

__all__ = ["translate"]

PORT: Final = 4000
DEADLINE_S: Final = 600
MIN_KEY: Final = 16
_SECTIONS: Final = (
    "model_list",
    "router_settings",
    "litellm_settings",
    "general_settings",
    "credential_list",
)


def translate(config: Mapping[str, Any], document: Document | None = None) -> Migration:
    """``config`` as a mesh.yaml, with notes of what was changed, what waits and what was lost.

    No secret that stands in ``config`` is part of what comes out. ``document`` gives faults their place.

    Raises:
        ConfigError: this is no configuration of a LiteLLM proxy, or an entry has not the shape that it asks for.
    """
    _check(config, document)
    notes = Notes()
    values = Values(config, notes)
    deployments = read_deployments(config, document, values, notes)
    _set_timeouts(config, deployments, values, notes)
    providers = gather(deployments, notes)
    aliases = _aliases(config, deployments, notes)
    mesh: dict[str, Any] = {"server": _server(providers)}
    keys = _keys(config, values, notes)
    if keys:
        mesh["server"] = {"host": "0.0.0.0", **mesh["server"]}
    served = sorted(providers, key=lambda one: one.name)
    mesh["providers"] = {one.name: one.as_mesh(aliases) for one in served}
    # By the upstream's name, which an alias shares.
    facts = {f"{one.name}:{d.upstream}": d.facts for one in served for d in one.deployments if d.facts}
    if facts:
        mesh["services"] = {"catalogue": {"models": facts}}
    if keys:
        mesh["pipeline"] = [{"auth_static": {"keys": keys}}]
    note_sections(config, notes)
    return Migration(mesh, notes.sorted(document.places if document is not None else ()))


def _check(config: Mapping[str, Any], document: Document | None) -> None:
    if not any(section in config for section in _SECTIONS):
        raise ConfigError(
            "this is no configuration of a LiteLLM proxy: it has no model_list and no settings",
            where=(document.where(()) or str(document.files[0])) if document is not None else "",
            hint="name the proxy's config.yaml",
        )
    for section in ("router_settings", "litellm_settings", "general_settings"):
        if not isinstance(config.get(section) or {}, dict):
            where = document.where((section,)) if document is not None else ""
            raise ConfigError("this must be a mapping of settings", where=where, path=section)


def _setting(config: Mapping[str, Any], section: str, name: str) -> object:
    return (config.get(section) or {}).get(name)


def _set_timeouts(
    config: Mapping[str, Any], deployments: Sequence[Deployment], values: Values, notes: Notes
) -> None:
    """The proxy's own time-outs, for deployments without one."""
    places: dict[str, list[Path]] = {
        "timeout_ms": [("router_settings", "timeout"), ("litellm_settings", "request_timeout")],
        "first_token_timeout_ms": [("router_settings", "stream_timeout")],
    }
    for setting, candidates in places.items():
        said = [path for path in candidates if _setting(config, *map(str, path)) is not None]
        if not said:
            continue
        milliseconds = values.milliseconds(_setting(config, *map(str, said[0])), said[0])
        for path in said[1:]:
            notes.changed(path, "router_settings.timeout is the one that counts")
        if milliseconds is not None:
            for deployment in deployments:
                deployment.settings.setdefault(setting, milliseconds)


def _server(providers: Sequence[Served]) -> dict[str, Any]:
    """LiteLLM's port; an exchange may take as long as its slowest provider."""
    server: dict[str, Any] = {"port": PORT}
    longest = max((one.settings.get("timeout_ms", 0) for one in providers), default=0)
    if longest > DEADLINE_S * 1000:
        server["deadline_s"] = -(-longest // 1000)
    return server


def _aliases(config: Mapping[str, Any], deployments: Sequence[Deployment], notes: Notes) -> dict[str, str]:
    """``model_group_alias``: further names of models."""
    said = _setting(config, "router_settings", "model_group_alias")
    models = {deployment.model for deployment in deployments}
    found = {}
    for alias, group in said.items() if isinstance(said, dict) else ():
        path: Path = ("router_settings", "model_group_alias", str(alias))
        model = group.get("model") if isinstance(group, dict) else group
        if model not in models:
            notes.lost(path, "no provider serves the model that it stands for")
            continue
        if alias in models:
            notes.lost(path, "a model of this name is served already")
            continue
        found[str(alias)] = str(model)
        if isinstance(group, dict) and group.get("hidden"):
            notes.changed(path, "/v1/models lists it, hidden or not", "list the models that a key may see")
    return found


def _keys(config: Mapping[str, Any], values: Values, notes: Notes) -> list[dict[str, Any]]:
    """The master key, as the key of an operator."""
    path: Path = ("general_settings", "master_key")
    given = _setting(config, *map(str, path))
    key = values.secret(given, path, "LITELLM_MASTER_KEY")
    if key is None:
        notes.changed(
            ("general_settings",),
            "there is no master key, so nobody authenticates: the gateway listens on this machine only",
            "list the callers under auth_static, then set server.host",
        )
        return []
    if isinstance(given, str) and not given.startswith("os.environ/") and len(given) < MIN_KEY:
        notes.changed(
            path, f"keys need at least {MIN_KEY} characters", "make a new one: openssl rand -hex 24"
        )
    return [{"key": key, "subject": "master", "scopes": ["admin"]}]

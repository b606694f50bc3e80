"""The entries of `model_list`: what each serves, where, and what it says about its model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ...errors import ConfigError
from ...yamltext import Document
from ..notes import Notes, Path, dotted
from .facts import facts_of
from .params import note_params
from .values import Values, amount, is_reference
from .vendors import NOT_CARRIED, VENDORS, Vendor, bare_model, is_private, preset_of, vendor_of_bare_name

__all__ = ["Deployment", "read_deployments"]

# A deployment with an order goes before those without one, whose provider has the default priority, 100.
LAST_ORDER: Final = 99
# What people write where a server asks for no key.
_NO_KEY: Final = frozenset(
    {"none", "empty", "dummy", "na", "n/a", "no-key", "not-needed", "fake", "fake-key", "anything", "null"}
)


@dataclass(slots=True)
class Deployment:
    """One upstream of a model. ``settings`` are those of the provider that will serve it."""

    path: Path
    model: str
    component: str
    upstream: str
    settings: dict[str, Any]
    facts: dict[str, Any] = field(default_factory=dict)


def read_deployments(
    config: Mapping[str, Any], document: Document | None, values: Values, notes: Notes
) -> list[Deployment]:
    """Every deployment that a component can serve.

    Raises:
        ConfigError: an entry has not the shape that LiteLLM asks for.
    """
    credentials = _credentials(config)
    shaped = []
    for n, entry in enumerate(_list(config.get("model_list"), ("model_list",), document)):
        model, params = _shape(entry, ("model_list", n), document)
        params = {**credentials.get(str(params.get("litellm_credential_name")), {}), **params}
        shaped.append((n, entry, model, params))
        if params.get("api_key") is None:
            values.reserve(VENDORS.get(_split(params)[0], VENDORS["openai_like"]).key)
    found = []
    for n, entry, model, params in shaped:
        path: Path = ("model_list", n)
        deployment = _deployment(model, params, (*path, "litellm_params"), values, notes)
        if deployment is None:
            continue
        info = entry.get("model_info") or {}
        deployment.facts = facts_of(params, info if isinstance(info, dict) else {}, path, notes)
        note_params(params, info, path, deployment.component, notes)
        found.append(deployment)
    return found


def _shape(entry: object, path: Path, document: Document | None) -> tuple[str, dict[str, Any]]:
    fault = ""
    at = path
    params: object = None
    if not isinstance(entry, dict):
        fault = "an entry of model_list is a mapping with model_name and litellm_params"
    elif not isinstance(entry.get("model_name"), str) or not entry["model_name"]:
        fault = "model_name is missing, or is no text"
    else:
        params = entry.get("litellm_params")
        at = (*path, "litellm_params")
        if not isinstance(params, dict):
            fault = "litellm_params is missing, or is no mapping"
        elif not isinstance(params.get("model"), str) or not params["model"]:
            at = (*at, "model")
            fault = "model is missing, or is no text"
    if fault:
        raise _fault(fault, at, document)
    assert isinstance(entry, dict)
    assert isinstance(params, dict)
    return entry["model_name"], params


def _deployment(
    model: str, params: dict[str, Any], path: Path, values: Values, notes: Notes
) -> Deployment | None:
    prefix, upstream = _split(params)
    at = (*path, "model")
    if is_reference(params["model"]):
        notes.lost(
            at,
            "the model itself comes from the environment, so its provider is not known here",
            "write it in mesh.yaml",
        )
        return None
    endpoint = values.url(
        params.get("api_base") or params.get("base_url"), (*path, "api_base"), "LLM_ENDPOINT"
    )
    if prefix not in VENDORS and not (endpoint and prefix not in NOT_CARRIED):
        why = NOT_CARRIED.get(prefix, f"no component serves LiteLLM's provider '{prefix or params['model']}'")
        notes.lost(at, why, "where it speaks the OpenAI API, add a `local` provider with its endpoint")
        return None
    vendor = VENDORS.get(prefix, VENDORS["openai_like"])
    if "*" in model or "*" in upstream:
        if model != "*" or upstream != "*":
            notes.lost(
                at,
                'a wildcard serves only `model_name: "*"`, and passes names on as they are',
                "list the models by name",
            )
            return None
        notes.changed(
            at, "the provider serves every model that no other one lists", "list the models by name"
        )
    settings: dict[str, Any] = {}
    component = _place(vendor, prefix, endpoint, settings, path, notes)
    if component == "local" and prefix != "litellm_proxy":
        vendor = VENDORS["openai_like"]  # OpenAI's own key is not for other people's servers
    _connection(vendor, component, params, settings, path, values, notes)
    return Deployment(path[:-1], model, component, bare_model(prefix, upstream), settings)


def _split(params: Mapping[str, Any]) -> tuple[str, str]:
    """LiteLLM's prefix and the rest: ``custom_llm_provider`` says it, or the model's first part, or its name."""
    model = params["model"]
    first, slash, rest = model.partition("/")
    said = params.get("custom_llm_provider")
    if isinstance(said, str) and said:
        return said, rest if slash and first == said else model
    if first == "*":
        return "openai", "*"
    if slash and (first in VENDORS or first in NOT_CARRIED):
        return first, rest
    if not slash:
        return vendor_of_bare_name(model), model
    return first, model if params.get("api_base") or params.get("base_url") else rest


def _place(
    vendor: Vendor, prefix: str, endpoint: str | None, settings: dict[str, Any], path: Path, notes: Notes
) -> str:
    """The component, by the endpoint where a general prefix has one of its own."""
    if endpoint is None or vendor.component not in ("openai", "local"):
        if endpoint is not None:
            settings["endpoint"] = endpoint
        return vendor.component
    preset = preset_of(endpoint)
    if preset is not None:
        return preset
    settings["endpoint"] = endpoint
    if not endpoint.startswith("${") and is_private(endpoint):
        return "local"
    settings["on_prem"] = False
    notes.changed(
        (*path, "api_base"),
        "an OpenAI-compatible server that seems to be somebody else's: `local` with on_prem: false",
        "remove on_prem: false where it runs on your premises",
    )
    return "local"


def _connection(
    vendor: Vendor,
    component: str,
    params: Mapping[str, Any],
    settings: dict[str, Any],
    path: Path,
    values: Values,
    notes: Notes,
) -> None:
    key = params.get("api_key")
    if isinstance(key, str) and key.lower() in _NO_KEY:
        notes.changed((*path, "api_key"), "a key that only fills the place was left out")
        key = None
    elif key is None and vendor.key:
        key = f"os.environ/{vendor.key}"
    own = vendor.key or f"{component.upper()}_API_KEY"
    if component == "bedrock":
        # Bedrock's key is a bearer token; everything else comes from the environment that AWS defines.
        own = "AWS_BEARER_TOKEN_BEDROCK"
    secret = values.secret(key, (*path, "api_key"), own)
    if secret is not None:
        settings["api_key"] = secret
    if "endpoint" not in settings:
        runtime = values.url(
            params.get("aws_bedrock_runtime_endpoint"),
            (*path, "aws_bedrock_runtime_endpoint"),
            "BEDROCK_ENDPOINT",
        )
        endpoint = runtime or (f"${{{vendor.endpoint}}}" if vendor.endpoint else vendor.default_endpoint)
        if endpoint:
            settings["endpoint"] = endpoint
    region = values.text(
        params.get("aws_region_name") or params.get("region_name"), (*path, "aws_region_name")
    )
    if region is not None:
        settings["region"] = region
    organization = values.text(params.get("organization"), (*path, "organization"))
    if organization is not None and component == "openai":
        settings["organization"] = organization
    headers = params.get("extra_headers")
    if isinstance(headers, dict) and headers:
        settings["headers"] = {
            str(name): values.secret(value, (*path, "extra_headers", str(name)), _variable_of(str(name)))
            for name, value in headers.items()
            if value not in (None, "")
        }
    for source, setting in (("timeout", "timeout_ms"), ("stream_timeout", "first_token_timeout_ms")):
        milliseconds = values.milliseconds(params.get(source), (*path, source))
        if milliseconds is not None:
            settings[setting] = milliseconds
    order = amount(params.get("order"))
    if order is not None and order >= 0:
        settings["priority"] = min(int(order), LAST_ORDER)


def _variable_of(header: str) -> str:
    return "HEADER_" + "".join(char if char.isalnum() and char.isascii() else "_" for char in header.upper())


def _credentials(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """``credential_list``: parameters that deployments name instead of repeating them."""
    found: dict[str, dict[str, Any]] = {}
    entries = config.get("credential_list")
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and isinstance(entry.get("credential_values"), dict):
            found[str(entry.get("credential_name"))] = entry["credential_values"]
    return found


def _list(value: object, path: Path, document: Document | None) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise _fault("this must be a list of deployments", path, document)
    return value


def _fault(what: str, path: Path, document: Document | None) -> ConfigError:
    return ConfigError(
        what, where=document.where(path) if document is not None else "", path=dotted(path),
        hint="as in 'model_list: [{model_name: gpt-4o, litellm_params: {model: openai/gpt-4o}}]'",
    )  # fmt: skip

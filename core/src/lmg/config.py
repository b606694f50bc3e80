"""The model of mesh.yaml: the kernel's own settings, and the envelope around every component's."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from .addresses import is_loopback
from .errors import ConfigError
from .yamltext import Document, load

__all__ = [
    "AdminConfig",
    "Entry",
    "Envelope",
    "Limits",
    "MeshConfig",
    "ServerConfig",
    "TlsConfig",
    "When",
    "read_config",
    "validate",
]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class TlsConfig(_Strict):
    """TLS at the gateway's own port."""

    cert_file: Path = Field(..., description="The server's certificate chain, PEM.")
    key_file: Path = Field(..., description="Its private key, PEM.")
    client_ca_file: Path | None = Field(
        None, description="Require and verify client certificates against these authorities (mutual TLS)."
    )
    min_version: Literal["1.2", "1.3"] = Field("1.3", description="The lowest TLS version that is accepted.")


class CorsConfig(_Strict):
    """Cross-origin requests from browsers; off unless origins are listed."""

    allow_origins: list[str] = Field(
        default_factory=list, description="Exact origins, as in `https://app.example.com`."
    )
    max_age_s: int = Field(600, ge=0, description="How long a browser may keep the answer to a preflight.")


class Limits(_Strict):
    """The bounds of the front door."""

    max_body_bytes: int = Field(
        32 * 2**20, gt=0, description="Larger bodies are refused with 413 before they are read."
    )
    max_json_depth: int = Field(128, gt=0, le=500, description="Deeper JSON is a 400.")
    max_headers: int = Field(100, gt=0, description="More header lines are a 431.")
    max_header_bytes: int = Field(64 * 2**10, gt=0, description="A larger head is a 431.")
    head_timeout_s: float = Field(
        10.0, gt=0, description="A head must be complete within this time of its first byte."
    )
    body_timeout_s: float = Field(300.0, gt=0, description="A body must be complete within this time.")
    min_body_rate: int = Field(
        1024, ge=0, description="Bytes per second that a body must reach after the first five seconds."
    )
    idle_timeout_s: float = Field(75.0, gt=0, description="An idle connection is closed after this time.")
    write_timeout_s: float = Field(
        60.0, gt=0, description="A client that takes no byte for this time is dropped."
    )
    max_connections: int = Field(10_000, gt=0, description="Connections per worker; further ones get 503.")


class ServerConfig(_Strict):
    """Where and how the gateway listens."""

    host: str = Field("127.0.0.1", description="The address to listen on.")
    port: int = Field(8080, ge=0, le=65535, description="The port; 0 lets the system choose.")
    workers: int = Field(1, ge=1, le=256, description="Processes that share the port.")
    tls: TlsConfig | None = None
    cors: CorsConfig = CorsConfig()
    limits: Limits = Limits()
    drain_s: float = Field(30.0, ge=0, description="How long streams in flight may go on after SIGTERM.")
    deadline_s: float = Field(600.0, gt=0, description="The longest that one exchange may take.")
    settle_s: float = Field(5.0, gt=0, description="The deadline of all on_settle hooks together.")
    max_attempts: int = Field(6, ge=1, le=32, description="The ceiling of attempts of one exchange.")
    max_held_bytes: int = Field(
        8 * 2**20,
        gt=0,
        description="The most of a stream that is held for review; beyond it the answer is refused.",
    )
    max_forks: int = Field(64, ge=1, description="Forks that run or wait at a time.")
    state_dir: Path | None = Field(
        None, description="Where embedded services keep their files; a private temporary folder by default."
    )
    secrets_dir: Path | None = Field(None, description="A folder of secret files, for the `Secrets` service.")
    watch: bool = Field(True, description="Reload when a configuration file changes (SIGHUP always does).")
    allowed_hosts: list[str] = Field(
        default_factory=list, description="Host names that requests may carry; empty allows any valid one."
    )


class When(_Strict):
    """Where a component applies; every list that is given must match. `*` matches any run of characters."""

    tenant: list[str] = Field(default_factory=list, description="Tenants (needs an authenticator above).")
    model: list[str] = Field(default_factory=list, description="Models, as the client asked for them.")
    operation: list[str] = Field(default_factory=list, description="Operations: chat, embeddings, …")
    dialect: list[str] = Field(default_factory=list, description="Dialects, as in `openai.chat`.")


class Envelope(_Strict):
    """What every listed component inherits from the kernel, beside its own settings."""

    mode: Literal["enforce", "shadow", "off"] = Field(
        "enforce", description="`shadow` runs it without effect, `off` not at all."
    )
    on_error: Literal["deny", "allow"] | None = Field(
        None, description="What its failure means; each component has its own default."
    )
    timeout_ms: int = Field(5_000, gt=0, description="The longest that one of its hooks may take.")
    when: When | None = None
    join: Literal["upstream", "answer"] = Field(
        "upstream", description="When checks that it left running must be done."
    )
    may_loosen: Literal["no", "shadow", "off"] = Field(
        "no",
        description="How far a policy above may loosen it for one exchange; tightening needs no permission.",
    )

    @field_validator("mode", mode="before")
    @classmethod
    def _off_is_a_word(cls, value: object) -> object:
        return "off" if value is False else value  # YAML 1.1 reads a bare `off` as false


@dataclass(frozen=True, slots=True)
class Entry:
    """One configured component: ``type`` is its entry-point name, ``name`` the instance (``opa/access``)."""

    type: str
    name: str
    settings: Mapping[str, Any]
    envelope: Envelope
    path: tuple[str | int, ...]


Items = list[str | dict[str, dict[str, Any] | None]]


class AdminConfig(_Strict):
    """The admin API, `/admin/v1/…`. Without this table there is none."""

    host: str = Field("127.0.0.1", description="The address of its own port.")
    port: int | None = Field(
        None, ge=0, le=65535, description="A port of its own; absent: the gateway's own port."
    )
    tls: TlsConfig | None = Field(None, description="TLS at its own port.")
    pipeline: Items = Field(
        default_factory=list,
        repr=False,
        description="Its own authenticators, and policies below them; absent: the authenticators of the pipeline.",
    )
    approval_ttl_s: float = Field(
        3600.0, gt=0, description="How long a second person may approve a change, and how long that holds."
    )

    @model_validator(mode="after")
    def _fits(self) -> AdminConfig:
        if self.port is None and self.tls is not None:
            raise ValueError("tls is for a port of its own: set port, or use server.tls")
        _one_key_each(self.pipeline, "admin.pipeline")
        return self


class MeshConfig(_Strict):
    """mesh.yaml."""

    server: ServerConfig = ServerConfig()
    insecure_no_auth: bool = Field(
        False, description="Serve beyond loopback without an authenticator. Said aloud at every start."
    )
    providers: dict[str, dict[str, Any] | None] = Field(
        default_factory=dict, repr=False, description="Upstreams, by `type` or `type/name`."
    )
    services: dict[str, dict[str, Any] | None] = Field(
        default_factory=dict, repr=False, description="Services that replace the embedded ones."
    )
    admin: AdminConfig | None = None
    pipeline: Items = Field(
        default_factory=list,
        repr=False,
        description="The listed components, in the order in which a request walks down them.",
    )

    @model_validator(mode="after")
    def _fits(self) -> MeshConfig:
        _one_key_each(self.pipeline, "pipeline")
        return self

    def entries(self, document: Document | None = None) -> list[Entry]:
        """The pipeline's entries with their envelopes taken off."""
        return _entries(self.pipeline, ("pipeline",), document)

    def admin_entries(self, document: Document | None = None) -> list[Entry]:
        """Those of the admin API's own pipeline."""
        return (
            _entries(self.admin.pipeline, ("admin", "pipeline"), document) if self.admin is not None else []
        )

    def serves_beyond_loopback(self) -> bool:
        """Whether the listening address can be reached from other machines."""
        return not is_loopback(self.server.host)


def _one_key_each(items: Items, where: str) -> None:
    for n, item in enumerate(items):
        if isinstance(item, dict) and len(item) != 1:
            raise ValueError(f"{where}[{n}]: an entry has one name, as in '- prompt_guard: {{mode: shadow}}'")


def _entries(items: Items, at: tuple[str, ...], document: Document | None) -> list[Entry]:
    out: list[Entry] = []
    for n, item in enumerate(items):
        name, settings = (item, {}) if isinstance(item, str) else next(iter(item.items()))
        settings = dict(settings or {})
        own = {key: settings.pop(key) for key in list(settings) if key in Envelope.model_fields}
        path: tuple[str | int, ...] = (*at, n) if isinstance(item, str) else (*at, n, name)
        envelope = validate(Envelope, own, path, document)
        if any(entry.name == name for entry in out):
            raise ConfigError(
                f"'{name}' is listed twice", where=document.where(path) if document else "", path=f"{'.'.join(at)}[{n}]",
                hint=f"name the second one '{name}/something'",
            )  # fmt: skip
        out.append(Entry(name.partition("/")[0], name, settings, envelope, path))
    return out


def read_config(path: Path, environ: Mapping[str, str] = os.environ) -> tuple[MeshConfig, Document]:
    """Reads and validates ``path``; see ``yamltext.load`` for what it may hold."""
    document = load(path, environ)
    return validate(MeshConfig, document.value, (), document), document


def validate(
    model: type[Any], value: Mapping[str, Any], path: tuple[str | int, ...], document: Document | None
) -> Any:
    """``value`` as ``model``; the first fault as a ``ConfigError`` with its place and a hint."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        at = (*path, *fault["loc"])
        hint = ""
        if fault["type"] == "extra_forbidden":
            known = _fields_at(model, fault["loc"][:-1])
            hint = _did_you_mean(str(fault["loc"][-1]), known) or f"known keys: {', '.join(known)}"
            what = f"'{fault['loc'][-1]}' is not a setting"
        elif fault["type"] == "missing":
            what = "this setting is required"
        else:
            what = fault["msg"].removeprefix("Value error, ")
            what = what[0].lower() + what[1:]
        dotted = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in at).lstrip(".")
        raise ConfigError(
            what, where=document.where(at) if document else "", path=dotted, hint=hint
        ) from None


def _fields_at(model: type[Any], loc: tuple[Any, ...]) -> list[str]:
    for key in loc:
        field = getattr(model, "model_fields", {}).get(key)
        inner = (
            [
                t
                for t in (field.annotation, *getattr(field.annotation, "__args__", ()))
                if hasattr(t, "model_fields")
            ]
            if field
            else []
        )
        if not inner:
            return []
        model = inner[0]
    return sorted(model.model_fields)


def _did_you_mean(name: str, known: list[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, known, 1)
    return f"did you mean '{near[0]}'?" if near else ""

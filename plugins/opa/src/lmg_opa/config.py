"""The configuration of `opa`: where the policy is, what it is shown, and what is kept of its decisions."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

import jwt
from pydantic import Field, SecretStr, StringConstraints, field_validator, model_validator

from lmg import ComponentConfig
from lmg.addresses import WITH_USER, is_loopback, url_fault

__all__ = [
    "BundleKeyConfig", "BundleUrlConfig", "CacheConfig", "DecisionLogConfig", "InputConfig", "OpaConfig", "ServerConfig",
]  # fmt: skip

HeaderName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9!#$%&'*+.^_`|~-]{1,64}$")]
Pointer = Annotated[str, StringConstraints(pattern=r"^/(input|result)(/[^/\s]{1,128}){0,16}$")]
CREDENTIALS: Final = frozenset({"authorization", "proxy-authorization", "cookie", "x-api-key"})
MIN_SECRET_BYTES: Final = {"HS256": 32, "HS384": 48, "HS512": 64}
"""What RFC 7518, section 3.2 asks for."""
_SOURCES: Final = ("bundle", "bundle_url", "server")


def _checked_url(url: str, what: str) -> str:
    fault = url_fault(url)
    if fault is not None:
        raise ValueError(f"{what}: {fault}{'; use `token`' if fault is WITH_USER else ''}")
    parts = urlsplit(url)
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise ValueError(f"{what}: beyond this machine only https, or whoever is between decides")
    return url


class BundleKeyConfig(ComponentConfig):
    """A key that bundles are signed with. The algorithm belongs to the key, never to what the bundle says."""

    algorithm: Literal[
        "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "HS256", "HS384", "HS512"
    ] = Field("RS256", description="The one algorithm that it is used with.")  # fmt: skip
    key: SecretStr = Field(
        ...,
        description="The public key in PEM (`${file:/run/keys/bundles.pem}`), or a shared secret for `HS256` and its like.",
    )
    scope: str = Field("", max_length=256, description="What the signature's `scope` must be.")

    @model_validator(mode="after")
    def _is_strong(self) -> BundleKeyConfig:
        value = self.key.get_secret_value()
        if self.algorithm.startswith("HS"):
            if "-----BEGIN" in value:
                raise ValueError(f"{self.algorithm} takes a secret, and never a public key")
            least = MIN_SECRET_BYTES[self.algorithm]
            if len(value.encode()) < least:
                raise ValueError(f"a secret for {self.algorithm} has at least {least} bytes")
        else:
            try:
                public = jwt.get_algorithm_by_name(self.algorithm).prepare_key(value)
            except (jwt.PyJWTError, ValueError, TypeError):
                raise ValueError(f"{self.algorithm} takes a public key in PEM, and this is none") from None
            if hasattr(public, "private_numbers"):
                raise ValueError("this is a private key: whoever verifies needs the public one")
        return self


class BundleUrlConfig(ComponentConfig):
    """A bundle that is downloaded (`.tar.gz`) and looked for again, by its ETag, every `poll_s`."""

    url: str = Field(..., max_length=2048, description="Where it is; https beyond this machine.")
    token: SecretStr | None = Field(None, description="A bearer token, as a reference (`${BUNDLE_TOKEN}`).")
    poll_s: float = Field(
        30.0, ge=1, le=86_400, description="How often it is looked for; twice as long after each failure, up to ten times."
    )  # fmt: skip
    timeout_s: float = Field(10.0, gt=0, le=300, description="The longest that one download takes.")
    keys: dict[str, BundleKeyConfig] = Field(
        default_factory=dict, max_length=32, description="The keys that sign it, by id (`kid`)."
    )
    unsigned: bool = Field(
        False, description="Take it without a signature: whoever writes to the server then decides."
    )

    @field_validator("url")
    @classmethod
    def _is_a_url(cls, value: str) -> str:
        return _checked_url(value, "bundle_url")

    @model_validator(mode="after")
    def _is_signed(self) -> BundleUrlConfig:
        if bool(self.keys) == self.unsigned:
            raise ValueError(
                "bundle_url: state the `keys` that sign it, or `unsigned: true`"
                if not self.keys
                else "bundle_url: it has keys, so it is not `unsigned`"
            )
        return self


class ServerConfig(ComponentConfig):
    """An OPA server that decides: give `url`, or `socket`."""

    url: str | None = Field(
        None, max_length=2048, description="Its base URL, as in `http://127.0.0.1:8181`; https beyond this machine."
    )  # fmt: skip
    socket: Path | None = Field(None, description="Its unix socket.")
    token: SecretStr | None = Field(None, description="A bearer token, as a reference (`${OPA_TOKEN}`).")

    @model_validator(mode="after")
    def _is_somewhere(self) -> ServerConfig:
        if (self.url is None) == (self.socket is None):
            raise ValueError("server: give exactly one of url and socket")
        if self.url is not None:
            _checked_url(self.url, "server")
        return self


class InputConfig(ComponentConfig):
    """What the policy is shown beside what it always is."""

    body: bool = Field(
        True,
        description="Show the request's body. Without it the component may stand where the body has not been read yet.",
    )
    text: bool = Field(
        False,
        description="Show the texts of the request, too. They then leave the process where an OPA server decides, and stand in the decision log unless masked there.",
    )
    headers: list[HeaderName] = Field(
        default_factory=list, max_length=32, description="Headers of the request to show, in lower case; no credentials."
    )  # fmt: skip
    max_bytes: int = Field(
        256 << 10, ge=1024, le=256 << 10, description="The largest input; a request that makes a larger one is refused (413)."
    )  # fmt: skip

    @field_validator("headers")
    @classmethod
    def _are_no_credentials(cls, value: list[str]) -> list[str]:
        for name in value:
            if name in CREDENTIALS:
                raise ValueError(f"input: the header '{name}' is a credential and is not shown")
        return value


class CacheConfig(ComponentConfig):
    """Decisions that are kept: by the version of the policy and all that it reads."""

    size: int = Field(10_000, ge=0, le=1_000_000, description="Decisions; 0 keeps none.")
    ttl_s: float = Field(60.0, gt=0, le=86_400, description="The longest that one is kept.")


class DecisionLogConfig(ComponentConfig):
    """Every decision in OPA's decision-log format: JSON lines in a file, gzip batches to a URL, or both."""

    file: Path | None = Field(None, description="Appended to; may be moved away at any time.")
    url: str | None = Field(
        None, max_length=2048, description="Where batches are posted, as in `https://logs.example/logs`."
    )
    token: SecretStr | None = Field(None, description="A bearer token for `url`.")
    mask: list[Pointer] = Field(
        default_factory=list,
        max_length=64,
        description="What is erased, as JSON pointers: `/input/principal/subject`, `/input/request/segments`.",
    )
    labels: dict[str, str] = Field(
        default_factory=dict, max_length=32, description="Labels of this gateway, as in `{region: eu}`."
    )
    size: int = Field(
        10_000, ge=1, le=1_000_000, description="Decisions that wait to be written; further ones are counted, not kept."
    )  # fmt: skip

    @model_validator(mode="after")
    def _goes_somewhere(self) -> DecisionLogConfig:
        if self.file is None and self.url is None:
            raise ValueError("decision_log: give file, url, or both")
        if self.url is not None:
            _checked_url(self.url, "decision_log")
        return self


class OpaConfig(ComponentConfig):
    """A policy in Rego. Give exactly one of `bundle`, `bundle_url` and `server`."""

    bundle: Path | None = Field(
        None,
        description="A directory of `.rego`, `.json` and `.yaml` files, one such file, or a `.tar.gz` bundle; read again when it changes.",
    )
    bundle_url: BundleUrlConfig | None = Field(None, description="A bundle to download.")
    server: ServerConfig | None = Field(None, description="An OPA server that decides.")
    engine: Literal["regorus", "regorus_vm", "wasm"] = Field(
        "regorus",
        description="What runs a bundle: `regorus` reads Rego; `regorus_vm` compiles it, three times faster and for fewer policies; `wasm` runs what `opa build -t wasm` made of it.",
    )
    package: str = Field(
        "lmg.authz",
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$",
        max_length=256,
        description="The package with the rules `allow`, `reasons` and `obligations`.",
    )
    deadline_ms: int = Field(
        100, ge=1, le=60_000, description="The longest that a decision takes; without one by then the request is refused."
    )  # fmt: skip
    watch_s: float = Field(1.0, gt=0, le=3600, description="How often `bundle` is looked at for changes.")
    input: InputConfig = Field(InputConfig(), description="What the policy is shown.")
    facts: list[Literal["risk", "signals"]] = Field(
        default_factory=list,
        max_length=2,
        description="What the policy is shown of the guards: it then stands below those that provide it.",
    )
    show_reasons: bool = Field(False, description="Tell the caller the codes of a refusal's reasons.")
    cache: CacheConfig = Field(CacheConfig(), description="Decisions that are kept.")
    decision_log: DecisionLogConfig | None = Field(
        None, description="Where decisions are logged; nowhere by default."
    )

    @model_validator(mode="after")
    def _has_one_source(self) -> OpaConfig:
        given = [name for name in _SOURCES if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"give exactly one of {', '.join(_SOURCES)}"
                + (f", not {' and '.join(given)}" if given else "")
            )
        if self.server is not None and "engine" in self.model_fields_set:
            raise ValueError("engine: a server brings its own")
        if len(set(self.facts)) < len(self.facts):
            raise ValueError("facts: list each once")
        return self

    @property
    def path(self) -> str:
        """The package as OPA's API writes it: ``lmg/authz``."""
        return re.sub(r"\.", "/", self.package)

"""The configuration of `auth_static`: keys become digests as soon as they are read."""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Any

from pydantic import ConfigDict, Field, SecretStr, WithJsonSchema, model_validator

from lmg import ComponentConfig

__all__ = ["AuthStaticConfig", "StaticKey", "digest"]

_DIGEST = re.compile(r"[0-9a-f]{64}")
# What a caller can send: a header's value loses spaces at its ends, and credentials are ASCII (RFC 6750 §2.1).
_SENDABLE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
MIN_LENGTH = 16


def digest(key: str) -> str:
    """The SHA-256 of a key, in hex: what is kept of it."""
    return hashlib.sha256(key.encode()).hexdigest()


def _either(schema: dict[str, Any]) -> None:
    """What the validator asks for, where editors look: exactly one of the two, and no empty one to begin with."""
    for name in ("key", "sha256"):
        schema["properties"][name].pop("default")
    schema["oneOf"] = [{"required": ["key"]}, {"required": ["sha256"]}]


class StaticKey(ComponentConfig):
    """One caller. Give `key` (from a secret reference) or `sha256`; only the digest is kept."""

    model_config = ConfigDict(json_schema_extra=_either)

    # A setting to write, not to read: its value never gets as far as this field.
    key: Annotated[
        SecretStr | None,
        WithJsonSchema(
            {
                "type": "string",
                "format": "password",
                "writeOnly": True,
                "minLength": MIN_LENGTH,
                "pattern": f"^{_SENDABLE.pattern}$",
            }
        ),
    ] = Field(
        None,
        exclude=True,
        repr=False,
        description="The key, as a reference: `${SOME_SECRET}`. It is digested when it is read.",
    )
    sha256: Annotated[str, WithJsonSchema({"type": "string", "pattern": f"^{_DIGEST.pattern}$"})] = Field(
        "", description="In the place of `key`: its SHA-256, 64 lower-case hex digits."
    )
    subject: str = Field(..., min_length=1, max_length=256, description="Who calls with this key.")
    tenant: str = Field(
        "default", min_length=1, max_length=256, description="The tenant that the caller belongs to."
    )
    roles: list[str] = Field(default_factory=list, description="Roles, for policies.")
    scopes: list[str] = Field(default_factory=list, description="`admin` opens the admin API.")
    models: list[str] | None = Field(None, description="Models that this key may use; absent means all.")

    @model_validator(mode="before")
    @classmethod
    def _digest_the_key(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        value = dict(value)
        if "key" in value:
            key = value.pop("key")
            if "sha256" in value:
                raise ValueError("give key or sha256, not both")
            if not isinstance(key, str) or len(key) < MIN_LENGTH:
                raise ValueError(f"a key needs at least {MIN_LENGTH} characters")
            if not _SENDABLE.fullmatch(key):
                raise ValueError(
                    "the key holds characters that no header can carry (a line break at its end?)"
                )
            value["sha256"] = digest(key)
        elif "sha256" not in value:
            raise ValueError("give key (as a reference, like ${TEAM_KEY}) or sha256")
        elif not _DIGEST.fullmatch(str(value["sha256"])):
            raise ValueError("sha256 must be 64 lower-case hex digits")
        return value


class AuthStaticConfig(ComponentConfig):
    """Keys from the configuration, for small installations and for machines."""

    keys: list[StaticKey] = Field(
        ..., min_length=1, max_length=10_000, description="The callers and their keys."
    )

    @model_validator(mode="after")
    def _no_key_twice(self) -> AuthStaticConfig:
        seen: dict[str, str] = {}
        for key in self.keys:
            if key.sha256 in seen:
                raise ValueError(f"'{seen[key.sha256]}' and '{key.subject}' have the same key")
            seen[key.sha256] = key.subject
        return self

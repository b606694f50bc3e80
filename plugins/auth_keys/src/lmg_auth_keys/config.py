"""The configuration of `auth_keys`."""

from __future__ import annotations

import re

from pydantic import Field, SecretStr, field_validator, model_validator

from lmg import ComponentConfig

from .peppers import Peppers

__all__ = ["AuthKeysConfig"]

MIN_PEPPER = 32
_PEPPER_ID = re.compile(r"[A-Za-z0-9._-]{1,32}")
SCHEMES = ("sqlite:///", "postgresql://", "postgres://")


class AuthKeysConfig(ComponentConfig):
    """Keys that the gateway issues and keeps in a database."""

    pepper: SecretStr = Field(
        ...,
        min_length=MIN_PEPPER,
        description="The secret that keys are hashed with, at least 32 characters, the same on all replicas: "
        "`${LMG_AUTH_KEYS_PEPPER}`. Without it the database is of no use to anybody.",
    )
    pepper_id: str = Field("1", description="The name of `pepper`; another secret needs another name.")
    old_peppers: dict[str, SecretStr] = Field(
        default_factory=dict,
        description="Earlier peppers by their names: they still verify, and hash nothing new.",
    )
    database: SecretStr | None = Field(
        None,
        description="`sqlite:////var/lib/lmg/keys.sqlite` or `postgresql://user:password@host/name` "
        "(`?ssl=verify-full`); by default `auth_keys.sqlite` in `server.state_dir`.",
    )
    poll_s: float = Field(
        1.0,
        ge=0.01,
        le=4,
        description="How often the database is asked for changes: revocation takes this long.",
    )
    timeout_s: float = Field(
        2.0, gt=0, le=30, description="The longest that one call of the database may take."
    )
    max_stale_s: float = Field(
        3600.0,
        gt=0,
        description="How long known keys are still good while the database is away; then 503 `auth_unavailable`.",
    )
    max_keys: int = Field(
        1_000_000,
        ge=1,
        le=10_000_000,
        description="Live keys at a time; one more is not issued. About 0.6 KB of memory each.",
    )
    grace_s: float = Field(
        86_400.0,
        ge=0,
        description="How long a key still works that was rotated, where the request does not say.",
    )

    @field_validator("database")
    @classmethod
    def _a_database_we_speak_to(cls, value: SecretStr | None) -> SecretStr | None:
        url = "" if value is None else value.get_secret_value()
        if value is not None and not url.startswith(SCHEMES):
            raise ValueError(f"a database starts with {', '.join(SCHEMES)}")
        if url.partition("?")[0] in ("sqlite:///", "sqlite:///:memory:"):
            raise ValueError("keys that only live in memory would be gone after a restart: name a file")
        return value

    @model_validator(mode="after")
    def _peppers_that_differ(self) -> AuthKeysConfig:
        if not all(_PEPPER_ID.fullmatch(name) for name in (self.pepper_id, *self.old_peppers)):
            raise ValueError("a pepper_id has 1 to 32 letters, digits, dots and dashes")
        if self.pepper_id in self.old_peppers:
            raise ValueError(
                f"'{self.pepper_id}' is both pepper_id and one of old_peppers: name the new one anew"
            )
        if any(len(old.get_secret_value()) < MIN_PEPPER for old in self.old_peppers.values()):
            raise ValueError(f"a pepper needs at least {MIN_PEPPER} characters")
        if self.poll_s + self.timeout_s >= self.max_stale_s:
            raise ValueError("max_stale_s must be longer than poll_s and timeout_s together")
        return self

    @property
    def peppers(self) -> Peppers:
        """All of them, ready to hash."""
        secrets = {name: old.get_secret_value() for name, old in self.old_peppers.items()}
        return Peppers(self.pepper_id, {**secrets, self.pepper_id: self.pepper.get_secret_value()})

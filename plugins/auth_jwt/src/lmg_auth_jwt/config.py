"""The configuration of `auth_jwt`: issuers with their keys, what claims mean, and what roles may do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import Field, SecretStr, model_validator

from lmg import ComponentConfig

from .fetching import url_fault
from .keys import ASYMMETRIC, MAC_BYTES, KeyFault, VerificationKey, key_of_jwk, key_of_pem, key_of_secret

__all__ = [
    "AuthJwtConfig",
    "ClaimsConfig",
    "DeniedConfig",
    "IntrospectionConfig",
    "IssuerConfig",
    "RoleConfig",
    "StaticKeyConfig",
]

MAX_TEXT: Final = 256
Operations = Literal["chat", "embeddings", "rerank", "images", "speech", "transcription", "count_tokens"]
ALL_ASYMMETRIC: Final = sorted(ASYMMETRIC)
_TYPE: Final = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,64}")


class _Named(ComponentConfig):
    """Names and paths have at least one character and at most 256, wherever they stand."""

    @model_validator(mode="after")
    def _names_are_names(self) -> Self:
        for field in type(self).model_fields:
            value = getattr(self, field)
            texts: list[Any] = list(value) if isinstance(value, list | dict) else []
            if isinstance(value, dict):
                texts += value.values()
            for text in texts:
                if isinstance(text, str) and not 0 < len(text) <= MAX_TEXT:
                    raise ValueError(f"{field}: a name has 1 to {MAX_TEXT} characters")
        return self


class StaticKeyConfig(ComponentConfig):
    """A key that is known here: give one of `pem`, `jwk` and `secret`."""

    kid: str | None = Field(
        None, max_length=256, description="The `kid` of tokens that it verifies; a JWK brings its own."
    )
    pem: str | None = Field(
        None, description="A public key or certificate in PEM, as in `${file:/run/keys/id.pem}`."
    )
    jwk: dict[str, Any] | None = Field(None, description="A public key as a JSON Web Key.")
    secret: SecretStr | None = Field(
        None, description="A shared secret, as a reference (`${TOKEN_SECRET}`), for `HS256` and its like."
    )
    encoding: Literal["text", "base64url"] = Field("text", description="How `secret` is written.")
    algorithm: Literal[
        "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
        "ES256", "ES384", "ES512", "EdDSA", "Ed25519",
    ] | None = Field(
        None, description="The one algorithm that the key is used with; required for a secret, by default what its kind says (`RS256` for RSA)."
    )  # fmt: skip

    @model_validator(mode="after")
    def _is_a_key(self) -> StaticKeyConfig:
        if sum(value is not None for value in (self.pem, self.jwk, self.secret)) != 1:
            raise ValueError("a key is one of pem, jwk and secret: give exactly one")
        if self.secret is not None and self.algorithm not in MAC_BYTES:
            raise ValueError(f"a secret needs its algorithm: one of {', '.join(MAC_BYTES)}")
        if self.secret is None and self.algorithm in MAC_BYTES:
            raise ValueError(
                f"{self.algorithm} takes a secret, and never a public key (RFC 8725, section 2.1)"
            )
        self.key()
        return self

    def key(self) -> VerificationKey:
        """The key, ready for use; raises ``ValueError`` where it cannot be used safely."""
        try:
            if self.secret is not None:
                return key_of_secret(
                    self.secret.get_secret_value(), self.algorithm or "", self.kid, self.encoding
                )
            if self.pem is not None:
                return key_of_pem(self.pem, self.algorithm, self.kid)
            assert self.jwk is not None
            return key_of_jwk(self.jwk, self.algorithm, kid=self.kid)
        except KeyFault as fault:
            raise ValueError(str(fault)) from None


class ClaimsConfig(_Named):
    """Where a token says what: names of claims, or paths into them, as in `realm_access.roles`."""

    subject: str = Field(
        "sub", min_length=1, max_length=MAX_TEXT, description="Who calls. A token without it is refused."
    )
    tenant: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_TEXT,
        description="The tenant; a token without it is refused. Absent: the issuer's `tenant`.",
    )
    roles: str | None = Field(
        "roles",
        min_length=1,
        max_length=MAX_TEXT,
        description="Roles: a list, or a text with spaces between them.",
    )
    groups: str | None = Field(
        "groups", min_length=1, max_length=MAX_TEXT, description="Groups, in the same form."
    )
    scopes: str | None = Field(
        "scope", min_length=1, max_length=MAX_TEXT, description="Scopes, in the same form."
    )
    models: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_TEXT,
        description="The models that the token allows, in the same form, with `*` for any characters. A token without it then allows none.",
    )
    attributes: dict[str, str] = Field(
        default_factory=dict,
        max_length=32,
        description="Further facts for policies, as in `{department: org.department}`.",
    )


class _Claimed(_Named):
    """What issuers and introspection share."""

    tenant: str = Field(
        "default",
        min_length=1,
        max_length=MAX_TEXT,
        description="The tenant of all callers, where `claims.tenant` names no claim.",
    )
    tenants: list[str] | None = Field(
        None, description="The only tenants that it may speak for; absent means all."
    )
    claims: ClaimsConfig = Field(ClaimsConfig(), description="What its claims are called.")
    admin_scope: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_TEXT,
        description="The scope of a token that opens the admin API. By default none does: a scope that is called `admin` elsewhere is left out.",
    )
    allow_http: bool = Field(
        False, description="Fetch without TLS, also beyond loopback: whoever is between can then make tokens."
    )


class IssuerConfig(_Claimed):
    """An identity provider. Keys come by discovery, from `jwks_url`, or from `keys`."""

    issuer: str = Field(..., min_length=1, max_length=512, description="Its name, exactly as `iss` has it.")
    audience: str | list[str] = Field(..., description="What `aud` must name: one of these.")
    discovery_url: str | None = Field(
        None, description="Where its metadata is, if not at `<issuer>/.well-known/openid-configuration`."
    )
    jwks_url: str | None = Field(None, description="Where its keys are; no discovery then.")
    keys: list[StaticKeyConfig] = Field(
        default_factory=list, max_length=100, description="Its keys, where nothing shall be fetched."
    )
    algorithms: list[
        Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"]
    ] = Field(
        ["RS256", "PS256", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"],
        min_length=1,
        description="The algorithms that fetched keys may have. An RSA key that names none has the first of these that is for RSA.",
    )  # fmt: skip
    types: list[str] = Field(
        ["JWT", "at+jwt"],
        min_length=1,
        description="What `typ` may be. Without `typ` a token counts as `JWT`; `[at+jwt]` takes access tokens of RFC 9068 alone.",
    )
    leeway_s: float = Field(
        30.0, ge=0, le=300, description="How far clocks may be apart, for `exp`, `nbf` and `iat`."
    )
    refresh_s: float = Field(300.0, ge=1, le=86_400, description="How often its keys are fetched.")
    max_stale_s: float = Field(
        86_400.0,
        ge=0,
        le=30 * 86_400,
        description="How long keys serve after the last fetch that succeeded; after that 503.",
    )
    fetch_timeout_s: float = Field(2.0, gt=0, le=30, description="How long one fetch may take, in whole.")
    max_fetch_bytes: int = Field(
        256 * 1024, ge=1024, le=2**22, description="The largest answer that is read."
    )

    @property
    def audiences(self) -> frozenset[str]:
        """What ``aud`` must meet."""
        return frozenset([self.audience] if isinstance(self.audience, str) else self.audience)

    @property
    def metadata_url(self) -> str:
        """Where discovery begins (OpenID Connect Discovery, section 4)."""
        return self.discovery_url or self.issuer.rstrip("/") + "/.well-known/openid-configuration"

    @model_validator(mode="after")
    def _says_where_keys_are(self) -> IssuerConfig:
        if not self.audiences or "" in self.audiences:
            raise ValueError("audience: name at least one; a token for somebody else must not serve here")
        ways = [name for name in ("discovery_url", "jwks_url", "keys") if getattr(self, name)]
        if len(ways) > 1:
            raise ValueError(f"keys come from one place: give {ways[0]} or {ways[1]}")
        if not self.keys:
            where = "issuer" if self.jwks_url is None and self.discovery_url is None else ways[0]
            if (
                fault := url_fault(self.jwks_url or self.metadata_url, allow_http=self.allow_http)
            ) is not None:
                raise ValueError(f"{where}: {fault}")
        for name in self.types:
            if not _TYPE.fullmatch(name):
                raise ValueError("types: a type is written without 'application/', as in at+jwt")
        if self.max_stale_s < self.refresh_s and not self.keys:
            raise ValueError("max_stale_s is less than refresh_s: keys would expire between two fetches")
        return self


class RoleConfig(_Named):
    """What callers with a role may do; with several roles, what any of them may."""

    models: list[str] | None = Field(
        None, description="Models, with `*` for any characters; absent means all."
    )
    operations: list[Operations] | None = Field(None, description="Operations; absent means all.")
    budget_class: str = Field(
        "",
        max_length=256,
        description="The class of budgets; of several roles, the first of the table that has one.",
    )
    scopes: list[str] = Field(
        default_factory=list, description="Scopes that the role adds; `admin` opens the admin API."
    )


class DeniedConfig(_Named):
    """Tokens that are refused before they expire, by `jti`."""

    jti: list[str] = Field(default_factory=list, max_length=10_000, description="Their `jti`.")
    file: Path | None = Field(None, description="A file of them, one a line; read again when it changes.")
    shared: bool = Field(
        False,
        description="Also those that are denied at run time, in the counter store that all replicas share.",
    )
    recheck_s: float = Field(
        5.0,
        ge=0,
        le=300,
        description="How soon a change is seen: of the file, and of the store for tokens in the cache.",
    )
    on_store_loss: Literal["deny", "allow"] = Field(
        "deny", description="While the store is gone: 503, or as if nothing were denied there."
    )

    @model_validator(mode="after")
    def _file_is_readable(self) -> DeniedConfig:
        if self.file is not None and not self.file.is_file():
            raise ValueError("denied: the file is not there")
        return self


class IntrospectionConfig(_Claimed):
    """Asks the authorization server about tokens that are no JWT (RFC 7662)."""

    endpoint: str = Field(..., description="The introspection endpoint.")
    client_id: str = Field(..., min_length=1, max_length=MAX_TEXT, description="Who asks.")
    client_secret: SecretStr = Field(..., description="Its secret, as a reference: `${CLIENT_SECRET}`.")
    auth: Literal["basic", "post"] = Field(
        "basic", description="Whether the client's credentials go into the header or into the form."
    )
    issuer: str = Field(
        "",
        max_length=512,
        description="The issuer of the principals; an answer that names another is refused.",
    )
    audience: str | list[str] | None = Field(
        None, description="What `aud` of the answer must name; absent: whatever the server calls active."
    )
    cache_s: float = Field(
        30.0,
        ge=0,
        le=600,
        description="How long an answer serves: the longest that a revoked token lives on.",
    )
    max_tokens: int = Field(10_000, ge=1, le=1_000_000, description="Answers that are kept.")
    max_flights: int = Field(
        50,
        ge=1,
        le=90,
        description="Questions at a time; further callers get 503. All fetches share 100 connections.",
    )
    timeout_s: float = Field(2.0, gt=0, le=30, description="How long an answer may take.")
    leeway_s: float = Field(30.0, ge=0, le=300, description="How far clocks may be apart.")
    max_fetch_bytes: int = Field(64 * 1024, ge=1024, le=2**22, description="The largest answer that is read.")

    @property
    def audiences(self) -> frozenset[str] | None:
        """What ``aud`` of an answer must meet."""
        if self.audience is None:
            return None
        return frozenset([self.audience] if isinstance(self.audience, str) else self.audience)

    @model_validator(mode="after")
    def _is_safe(self) -> IntrospectionConfig:
        if (fault := url_fault(self.endpoint, allow_http=self.allow_http)) is not None:
            raise ValueError(f"endpoint: {fault}")
        return self


class AuthJwtConfig(_Named):
    """Callers with tokens of identity providers."""

    issuers: list[IssuerConfig] = Field(
        default_factory=list, max_length=100, description="The identity providers whose tokens are taken."
    )
    roles: dict[str, RoleConfig] = Field(
        default_factory=dict,
        max_length=1000,
        description="What roles may do. Where the table has entries, a caller with none of its roles may do nothing.",
    )
    default_role: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_TEXT,
        description="The role of the table for callers that hold none of it.",
    )
    denied: DeniedConfig = Field(DeniedConfig(), description="Tokens that are refused, by `jti`.")
    introspection: IntrospectionConfig | None = Field(
        None,
        description="Ask about credentials that are no JWT; without it they are left to other authenticators.",
    )
    max_token_bytes: int = Field(8192, ge=256, le=16_384, description="The longest token.")
    max_depth: int = Field(8, ge=1, le=32, description="How deep a token's claims may be nested.")
    max_cached: int = Field(
        10_000, ge=0, le=1_000_000, description="Verified tokens that are kept; the oldest go first."
    )

    @model_validator(mode="after")
    def _fits(self) -> AuthJwtConfig:
        if not self.issuers and self.introspection is None:
            raise ValueError("name at least one of `issuers`, or `introspection`")
        names = [issuer.issuer for issuer in self.issuers]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"the issuer '{name}' is listed twice: give it several audiences instead")
        if self.default_role is not None and self.default_role not in self.roles:
            raise ValueError(f"default_role: '{self.default_role}' is not in the table of roles")
        return self

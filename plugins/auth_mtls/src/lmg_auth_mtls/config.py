"""The configuration of `auth_mtls`: which proxies are believed, and who a certificate's names say is calling."""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network
from typing import Literal, get_args

from pydantic import Field, model_validator

from lmg import ComponentConfig
from lmg.exchange import Operation

from .patterns import Pattern, SubjectPattern, kind_of

__all__ = ["AuthMtlsConfig", "Rule"]

_FINGERPRINT = re.compile(r"(?:[0-9A-Fa-f]{2}:?){31}[0-9A-Fa-f]{2}")
MAX_NAME = 256
_OPERATIONS = frozenset(get_args(Operation))


class Rule(ComponentConfig):
    """One kind of caller; every condition that it states must hold.

    `{tenant}` and `{subject}` in a pattern say who it is, any other `{name}` becomes an attribute. `*` and `{name}` stand
    for text within one segment, never over a separator.
    """

    spiffe: str = Field(
        "",
        description="A pattern for the SPIFFE ID, as in `spiffe://acme.example/ns/{tenant}/sa/{subject}`. It fits only a "
        "certificate with exactly one URI.",
    )
    san: str = Field(
        "",
        description="A pattern for a subject alternative name of the given kind: `URI:…`, `DNS:{subject}.acme.example` or "
        "`email:{subject}@acme.example`.",
    )
    subject_name: str = Field(
        "",
        description="A pattern for attributes of the certificate's subject, as in `CN={subject},O=Acme`, in any order.",
    )
    sha256: list[str] = Field(
        default_factory=list,
        description="Fingerprints of the certificates that are meant, in hex.",
    )
    subject: str = Field(
        "",
        max_length=256,
        description="Who it is; without it `{subject}`, or the SPIFFE ID or name that fitted.",
    )
    tenant: str = Field(
        "", max_length=256, description="The caller's tenant; without it `{tenant}`, or `default`."
    )
    roles: list[str] = Field(default_factory=list, description="Roles, for policies.")
    scopes: list[str] = Field(default_factory=list, description="`admin` opens the admin API.")
    models: list[str] | None = Field(
        None, description="Models that it may use, with `*` for any text; absent means all."
    )
    operations: list[Operation] | None = Field(
        None,
        description=f"Operations that it may use, of {', '.join(sorted(_OPERATIONS))}; absent means all.",
    )
    budget_class: str = Field("", max_length=256, description="The class of budgets that it spends from.")
    attributes: dict[str, str] = Field(
        default_factory=dict, description="What else is known of it, for policies: texts by name."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Rule:
        if not (self.spiffe or self.san or self.subject_name or self.sha256):
            raise ValueError(
                "a rule needs 'spiffe', 'san', 'subject_name' or 'sha256': it may not fit everybody"
            )
        for setting, texts in (
            ("roles", self.roles), ("scopes", self.scopes), ("models", self.models or ()),
            ("attributes", [*self.attributes, *self.attributes.values()]),
        ):  # fmt: skip
            if not all(0 < len(text) <= MAX_NAME for text in texts):
                raise ValueError(f"{setting}: a name has 1 to {MAX_NAME} characters")
        for fingerprint in self.sha256:
            if not _FINGERPRINT.fullmatch(fingerprint):
                raise ValueError("a fingerprint is 64 hex digits, with or without colons between the bytes")
        if self.spiffe and not self.spiffe.startswith("spiffe://"):
            raise ValueError("'spiffe' begins with spiffe://")
        named: list[str] = []
        for setting, names in self._placeholders():
            for name in names:
                if name in named:
                    raise ValueError(f"{setting}: '{{{name}}}' stands in two patterns of the rule")
                named.append(name)
        for name, fixed in (("subject", self.subject), ("tenant", self.tenant), *self.attributes.items()):
            if fixed and name in named:
                raise ValueError(
                    f"'{name}' is given, and '{{{name}}}' would say it as well: keep one of them"
                )
        if not (self.subject or "subject" in named or self.spiffe or self.san):
            raise ValueError(
                "a rule without 'spiffe' and 'san' needs a 'subject', or '{subject}' in its pattern"
            )
        return self

    def _placeholders(self) -> list[tuple[str, frozenset[str]]]:
        found: list[tuple[str, frozenset[str]]] = []
        try:
            setting = "spiffe"
            if self.spiffe:
                found.append((setting, Pattern.read(self.spiffe, "URI").names))
            setting = "san"
            if self.san:
                kind, text = kind_of(self.san)
                found.append((setting, Pattern.read(text, kind).names))
            setting = "subject_name"
            if self.subject_name:
                found.append((setting, SubjectPattern.read(self.subject_name).names))
        except ValueError as error:
            raise ValueError(f"{setting}: {error}") from None
        return found


class AuthMtlsConfig(ComponentConfig):
    """Callers with client certificates."""

    rules: list[Rule] = Field(
        ..., min_length=1, max_length=1000, description="Who is who; the first rule that fits decides."
    )
    trusted_proxies: list[IPv4Network | IPv6Network] = Field(
        default_factory=list,
        description="Addresses of the proxies whose `x-forwarded-client-cert` is believed, as in `10.0.0.0/8`: the "
        "connection's own peer. From anybody else the header is ignored.",
    )
    proxy_sans: list[str] = Field(
        default_factory=list,
        description="What a proxy must be besides: one of these patterns, as in "
        "`URI:spiffe://acme.example/ns/edge/sa/envoy`, fits the certificate with which it is connected to the gateway.",
    )
    unmatched: Literal["abstain", "deny"] = Field(
        "abstain",
        description="What becomes of a certificate that no rule fits: `abstain` leaves the caller to the authenticators "
        "below, `deny` is a 401.",
    )
    max_xfcc_bytes: int = Field(
        16_384, ge=256, le=1 << 20, description="A longer `x-forwarded-client-cert` of a proxy is a 401."
    )

    @model_validator(mode="after")
    def _consistent(self) -> AuthMtlsConfig:
        if self.proxy_sans and not self.trusted_proxies:
            raise ValueError("'proxy_sans' says what 'trusted_proxies' must be besides: list their addresses")
        if any(network.prefixlen == 0 for network in self.trusted_proxies) and not self.proxy_sans:
            raise ValueError(
                "'trusted_proxies' that hold every address need 'proxy_sans': anybody could say anything"
            )
        for san in self.proxy_sans:
            try:
                kind, text = kind_of(san)
                Pattern.read(text, kind)
            except ValueError as error:
                raise ValueError(f"proxy_sans: {error}") from None
        return self

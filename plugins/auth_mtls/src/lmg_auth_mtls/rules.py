"""A rule of the configuration, compiled: from a certificate's names to a principal."""

from __future__ import annotations

from lmg import Principal

from .certificate import Certificate
from .config import Rule
from .patterns import Kind, Pattern, SubjectPattern, kind_of

__all__ = ["CompiledRule", "SanPattern"]

_KEY_ID = 16  # hex digits: enough to find a certificate by, too few to be one's fingerprint


class SanPattern:
    """A pattern with its kind in front (``DNS:*.acme.example``), over a certificate's names of that kind."""

    __slots__ = ("_kind", "_pattern")

    def __init__(self, text: str) -> None:
        self._kind: Kind
        self._kind, rest = kind_of(text)
        self._pattern = Pattern.read(rest, self._kind)

    def fits(self, certificate: Certificate) -> tuple[str, dict[str, str]] | None:
        """The name that fits and its captures, or None (see ``Pattern.fits_one``)."""
        names = certificate.uris if self._kind == "URI" else certificate.dns
        return self._pattern.fits_one(certificate.emails if self._kind == "email" else names)


class CompiledRule:
    """One rule: ``principal_of`` gives whom it says a certificate belongs to."""

    def __init__(self, rule: Rule, issuer: str) -> None:
        self._rule, self._issuer = rule, issuer
        self._spiffe = Pattern.read(rule.spiffe, "URI") if rule.spiffe else None
        self._san = SanPattern(rule.san) if rule.san else None
        self._subject = SubjectPattern.read(rule.subject_name) if rule.subject_name else None
        self._sha256 = frozenset(text.replace(":", "").lower() for text in rule.sha256)
        self._roles, self._scopes = frozenset(rule.roles), frozenset(rule.scopes)
        self._models = frozenset(rule.models) if rule.models is not None else None
        self._operations = frozenset[str](rule.operations) if rule.operations is not None else None

    def principal_of(self, certificate: Certificate) -> Principal | None:
        """The caller, or None where one of the rule's conditions does not hold."""
        if self._sha256 and certificate.sha256 not in self._sha256:
            return None
        captures: dict[str, str] = {}
        name = ""
        if self._subject is not None:
            found = self._subject.fits(certificate.subject)
            if found is None:
                return None
            captures |= found
        if self._san is not None:
            fitted = self._san.fits(certificate)
            if fitted is None:
                return None
            name = fitted[0]
            captures |= fitted[1]
        if self._spiffe is not None:
            name = certificate.spiffe_id
            found = self._spiffe.fits(name)
            if found is None:
                return None
            captures |= found
        return self._principal(certificate, captures, name)

    def _principal(self, certificate: Certificate, captures: dict[str, str], name: str) -> Principal:
        rule = self._rule
        subject = rule.subject or captures.pop("subject", "") or name
        tenant = rule.tenant or captures.pop("tenant", "") or "default"
        return Principal(
            subject,
            tenant,
            self._roles,
            scopes=self._scopes,
            models=self._models,
            issuer=self._issuer,
            key_id=(certificate.sha256 or certificate.serial)[:_KEY_ID],
            operations=self._operations,
            budget_class=rule.budget_class,
            attributes={**rule.attributes, **captures},
        )

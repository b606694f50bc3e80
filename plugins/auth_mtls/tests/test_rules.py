"""Rules: which certificates fit, and whom they say is calling."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lmg import Principal
from lmg.exchange import Head, TlsPeer
from lmg_auth_mtls.certificate import Certificate, of_peer
from lmg_auth_mtls.config import AuthMtlsConfig, Rule
from lmg_auth_mtls.patterns import Pattern, is_spiffe_id
from lmg_auth_mtls.proxies import TrustedProxies
from lmg_auth_mtls.rules import CompiledRule

HASH = "ab" * 32
SPIFFE = "spiffe://acme.example/ns/{tenant}/sa/{subject}"


def caller(certificate: Certificate, **rule: Any) -> Principal | None:
    return CompiledRule(Rule(**rule), "auth_mtls").principal_of(certificate)


def named(certificate: Certificate, **rule: Any) -> tuple[str, str] | None:
    principal = caller(certificate, **rule)
    return (principal.tenant, principal.subject) if principal is not None else None


def uri(*uris: str) -> Certificate:
    return Certificate(uris=uris)


FITS: list[tuple[Certificate, dict[str, Any], tuple[str, str] | None]] = [
    (uri("spiffe://acme.example/ns/red/sa/web"), {"spiffe": SPIFFE}, ("red", "web")),
    (uri("spiffe://acme.example/ns/red/sa/web/x"), {"spiffe": SPIFFE}, None),
    (uri("spiffe://acme.example/ns/red/x/sa/web"), {"spiffe": SPIFFE}, None),
    (uri("spiffe://acme.example.evil/ns/red/sa/web"), {"spiffe": SPIFFE}, None),
    (uri("spiffe://acme.example/ns/red/sa/"), {"spiffe": SPIFFE}, None),
    (uri("spiffe://acme.example/ns/../sa/web"), {"spiffe": SPIFFE}, None),
    (uri("spiffe://acme.example/ns/r%65d/sa/web"), {"spiffe": SPIFFE}, None),
    (uri("SPIFFE://acme.example/ns/red/sa/web"), {"spiffe": SPIFFE}, None),
    (uri("spiffe://acme.example/ns/red/sa/web\n"), {"spiffe": SPIFFE}, None),
    # An SVID has exactly one URI.
    (uri("spiffe://acme.example/ns/red/sa/web", "spiffe://acme.example/ns/blue/sa/web"), {"spiffe": SPIFFE}, None),
    (Certificate(dns=("spiffe://acme.example/ns/red/sa/web",)), {"spiffe": SPIFFE}, None),
    (uri("spiffe://acme.example/ns/red/sa/web"), {"spiffe": "spiffe://acme.example/ns/*/sa/web"}, ("default", "spiffe://acme.example/ns/red/sa/web")),
    (uri("spiffe://acme.example/ns/red/sa/web"), {"spiffe": "spiffe://acme.example/ns/*", "subject": "x"}, None),
    (uri("https://a.example/red"), {"san": "URI:https://a.example/{tenant}", "subject": "a"}, ("red", "a")),
    (Certificate(dns=("Agent-7.Acme.Example",)), {"san": "DNS:{subject}.acme.example"}, ("default", "agent-7")),
    (Certificate(dns=("a.b.acme.example",)), {"san": "DNS:{subject}.acme.example"}, None),
    (Certificate(dns=("*.acme.example",)), {"san": "DNS:{subject}.acme.example"}, None),
    (Certificate(dns=("acmexexample",)), {"san": "DNS:acme.example"}, None),
    (Certificate(uris=("agent.acme.example",)), {"san": "DNS:{subject}.acme.example"}, None),
    (Certificate(dns=("x.example", "a.acme.example")), {"san": "dns:{subject}.acme.example"}, ("default", "a")),
    # Two names that say different things say nothing.
    (Certificate(dns=("a.acme.example", "b.acme.example")), {"san": "DNS:{subject}.acme.example"}, None),
    (Certificate(emails=("jane.doe@acme.example",)), {"san": "email:{subject}@acme.example"}, ("default", "jane.doe")),
    (Certificate(emails=("jane@acme.example@evil.example",)), {"san": "email:{subject}@acme.example"}, None),
    (Certificate((("CN", "agent-7"), ("O", "Acme"))), {"subject_name": "O=Acme,CN={subject}"}, ("default", "agent-7")),
    (Certificate((("CN", "a"), ("O", "Acme"), ("O", "Evil"))), {"subject_name": "O=Acme,CN={subject}"}, None),
    (Certificate((("CN", "a"),)), {"subject_name": "O=Acme,CN={subject}"}, None),
    (Certificate((("CN", "a\n"), ("O", "Acme"))), {"subject_name": "O=Acme,CN={subject}"}, None),
    (Certificate((("CN", "a"), ("OU", "team-red"))), {"subject_name": "CN=a,OU=team-{tenant}", "subject": "x"}, ("red", "x")),
    (Certificate(sha256=HASH), {"sha256": [HASH.upper()], "subject": "pinned"}, ("default", "pinned")),
    (Certificate(sha256=HASH), {"sha256": [":".join(["ab"] * 32)], "subject": "pinned"}, ("default", "pinned")),
    (Certificate(sha256="cd" * 32), {"sha256": [HASH], "subject": "pinned"}, None),
    (Certificate(), {"sha256": [HASH], "subject": "pinned"}, None),
    # Every condition of a rule must hold.
    (Certificate(dns=("a.acme.example",), sha256=HASH), {"san": "DNS:{subject}.acme.example", "sha256": [HASH]}, ("default", "a")),
    (Certificate(dns=("a.acme.example",), sha256="cd" * 32), {"san": "DNS:{subject}.acme.example", "sha256": [HASH]}, None),
]  # fmt: skip


@pytest.mark.parametrize(("certificate", "rule", "expected"), FITS)
def test_a_rule_fits_what_it_says_and_nothing_else(
    certificate: Certificate, rule: dict[str, Any], expected: tuple[str, str] | None
) -> None:
    assert named(certificate, **rule) == expected


def test_a_rule_says_all_that_a_principal_can_have() -> None:
    principal = caller(
        Certificate(uris=("spiffe://acme.example/ns/red/sa/web",), sha256=HASH, serial="07"),
        spiffe="spiffe://acme.example/ns/{tenant}/sa/{account}", subject="web", roles=["dev"], scopes=["admin"],
        models=["gpt-*"], operations=["chat"], budget_class="gold", attributes={"zone": "eu"},
    )  # fmt: skip
    assert principal == Principal(
        "web", "red", frozenset({"dev"}), scopes=frozenset({"admin"}), models=frozenset({"gpt-*"}), issuer="auth_mtls",
        key_id=HASH[:16], operations=frozenset({"chat"}), budget_class="gold", attributes={"zone": "eu", "account": "web"},
    )  # fmt: skip


def test_the_gateways_own_tls_names_the_same_as_a_proxy() -> None:
    peer = TlsPeer(
        "commonName=agent-7,organizationName=Acme",
        ("DNS:a.acme.example", "URI:spiffe://acme.example/x", "email:a@acme.example", "IP Address:10.0.0.1"),
        "07",
    )
    assert of_peer(peer) == Certificate(
        (("CN", "agent-7"), ("O", "Acme")),
        ("spiffe://acme.example/x",),
        ("a.acme.example",),
        ("a@acme.example",),
        serial="07",
    )


@given(st.text("ab/.{}*x:", max_size=12), st.text("ab/.x:", max_size=20))
def test_a_capture_never_holds_a_separator(pattern: str, text: str) -> None:
    try:
        compiled = Pattern.read(pattern, "URI")
    except ValueError:
        return
    for value in (compiled.fits(text) or {}).values():
        assert value and "/" not in value


def test_a_long_name_that_nearly_fits_takes_no_time() -> None:
    pattern = Pattern.read("a*b/" * 30 + "c", "URI")
    assert pattern.fits(("a" + "b" * 64 + "/") * 30) is None


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("spiffe://acme.example/a", True), ("spiffe://acme.example", True), ("spiffe://acme.example/", False),
        ("spiffe://acme.example/a//b", False), ("spiffe://acme.example/./a", False), ("spiffe://acme.example/..", False),
        ("spiffe://acme.example/..a", True), ("spiffe://Acme.example/a", False), ("spiffe:///a", False),
        ("spiffe://acme.example:80/a", False), ("spiffe://u@acme.example/a", False), ("spiffe://acme.example/a?b", False),
        ("spiffe://acme.example/" + "a" * 2048, False),
    ],
)  # fmt: skip
def test_a_spiffe_id_is_what_its_specification_says(text: str, valid: bool) -> None:
    assert is_spiffe_id(text) is valid


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rules": [{"subject": "a"}]}, "may not fit everybody"),
        ({"rules": [{"san": "acme.example"}]}, "san: a san begins with its kind"),
        ({"rules": [{"san": "DNS:*"}]}, "something literal"),
        ({"rules": [{"san": "DNS:*.*"}]}, "something literal"),
        ({"rules": [{"spiffe": "https://acme.example"}]}, "begins with spiffe://"),
        ({"rules": [{"spiffe": "spiffe://a/{tenant}{subject}"}]}, "at most one placeholder"),
        ({"rules": [{"spiffe": "spiffe://a/{tenant"}]}, "a placeholder is '{name}'"),
        ({"rules": [{"spiffe": "spiffe://a/{Tenant}"}]}, "a placeholder is '{name}'"),
        ({"rules": [{"spiffe": "spiffe://a/{x}/{x}"}]}, "each placeholder once"),
        ({"rules": [{"spiffe": "spiffe://a/{x}", "san": "DNS:{x}.b"}]}, "two patterns"),
        ({"rules": [{"spiffe": "spiffe://a/{subject}", "subject": "b"}]}, "keep one of them"),
        ({"rules": [{"spiffe": "spiffe://a/{zone}", "attributes": {"zone": "b"}}]}, "keep one of them"),
        ({"rules": [{"subject_name": "agent"}]}, "a distinguished name"),
        ({"rules": [{"subject_name": "CN=a,CN=b"}]}, "each attribute"),
        ({"rules": [{"subject_name": "CN=*"}]}, "something literal"),
        ({"rules": [{"subject_name": "CN=a"}]}, "needs a 'subject'"),
        ({"rules": [{"sha256": [HASH]}]}, "needs a 'subject'"),
        ({"rules": [{"sha256": ["ab"], "subject": "a"}]}, "64 hex digits"),
        ({"rules": []}, "at least 1 item"),
        ({"rules": [{"san": "DNS:a.b", "roles": [""]}]}, "roles: a name has 1 to 256 characters"),
        ({"rules": [{"san": "DNS:a.b", "operations": ["chats"]}]}, "operations"),
        ({"rules": [{"san": "DNS:a.b"}], "proxy_sans": ["DNS:a.b"]}, "list their addresses"),
        ({"rules": [{"san": "DNS:a.b"}], "trusted_proxies": ["0.0.0.0/0"]}, "need 'proxy_sans'"),
        ({"rules": [{"san": "DNS:a.b"}], "trusted_proxies": ["10.0.0.1/8"]}, "not a valid IPv4 network"),
        ({"rules": [{"san": "DNS:a.b"}], "trusted_proxies": ["10.0.0.0/8"], "proxy_sans": ["a.b"]}, "proxy_sans: "),
    ],
)  # fmt: skip
def test_a_configuration_that_says_too_little_or_two_things_does_not_load(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=r"\S") as raised:
        AuthMtlsConfig(**settings)
    assert message in str(raised.value)


# -- proxies --------------------------------------------------------------------------------------

ENVOY = TlsPeer("", ("URI:spiffe://acme.example/ns/edge/sa/envoy",), "01")
OTHER = TlsPeer("", ("URI:spiffe://acme.example/ns/red/sa/web",), "02")


@pytest.mark.parametrize(
    ("client", "tls", "networks", "sans", "included"),
    [
        ("10.1.2.3", None, ["10.0.0.0/8"], [], True),
        ("11.1.2.3", None, ["10.0.0.0/8"], [], False),
        ("::ffff:10.1.2.3", None, ["10.0.0.0/8"], [], True),
        ("fd00::1", None, ["10.0.0.0/8", "fd00::/8"], [], True),
        ("", None, ["10.0.0.0/8"], [], False),
        ("a name", None, ["10.0.0.0/8"], [], False),
        ("10.1.2.3", None, [], [], False),
        ("10.1.2.3", None, ["10.0.0.0/8"], ["URI:spiffe://acme.example/ns/edge/sa/*"], False),
        ("10.1.2.3", OTHER, ["10.0.0.0/8"], ["URI:spiffe://acme.example/ns/edge/sa/*"], False),
        ("10.1.2.3", ENVOY, ["10.0.0.0/8"], ["URI:spiffe://acme.example/ns/edge/sa/*"], True),
        ("11.1.2.3", ENVOY, ["10.0.0.0/8"], ["URI:spiffe://acme.example/ns/edge/sa/*"], False),
    ],
)
def test_a_proxy_is_known_by_its_address_and_by_its_certificate(
    client: str, tls: TlsPeer | None, networks: list[str], sans: list[str], included: bool
) -> None:
    config = AuthMtlsConfig(rules=[{"san": "DNS:a.b"}], trusted_proxies=networks, proxy_sans=sans)  # type: ignore[list-item,arg-type]
    proxies = TrustedProxies(config.trusted_proxies, config.proxy_sans)
    head = Head("POST", "/", [(b"x-forwarded-for", b"10.9.9.9")], client, tls)
    assert [proxies.include(head) for _ in range(2)] == [included, included]

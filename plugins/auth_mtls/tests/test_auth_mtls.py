"""Callers with client certificates, from outside: a real TLS gateway, and everything that tries to be somebody else."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from lmg import Component, ConfigError, Exchange, Principal
from lmg.config import MeshConfig, validate
from lmg.dialects.registry import PLAIN
from lmg.pipeline import draft
from lmg.testing import ChatAnswer, Harness, check_component
from lmg_auth_mtls import AuthMtls
from lmg_auth_mtls.plugin import CACHED

HASH = "468ed33be74eee6556d90c0149c1309e9ba61d6425303443c0748a02dd8de688"
WEB = f"Hash={HASH};URI=spiffe://acme.example/ns/red/sa/web"
RULES: list[dict[str, Any]] = [
    {"spiffe": "spiffe://acme.example/ns/{tenant}/sa/{subject}"},
    {"san": "DNS:{subject}.acme.example", "tenant": "hosts"},
    {"subject_name": "CN={subject},O=Acme", "tenant": "names"},
]
LOOPBACK = ["127.0.0.0/8"]


class Fallback(Component):
    """An authenticator below: whoever sends `x-who` is that."""

    provides = {"on_request": ("principal",)}
    modes = frozenset({"enforce"})

    def on_request(self, exchange: Exchange) -> None:
        who = exchange.head.get(b"x-who")
        if who is not None and exchange.principal is None:
            exchange.set_fact("principal", Principal(who.decode()))


CLASSES = {"auth_mtls": AuthMtls, "fallback": Fallback}


def mesh(*, server: dict[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
    pipeline = [{"auth_mtls": {"rules": RULES, **settings}}, "fallback"]
    return {"pipeline": pipeline, **({"server": server} if server else {})}


def plain(**settings: Any) -> Harness:
    return Harness(mesh(**settings), classes=CLASSES)


def who(gateway: Harness) -> tuple[str, str]:
    principal = gateway.exchanges[-1].principal
    assert principal is not None
    return principal.tenant, principal.subject


def counted(gateway: Harness) -> dict[str, float]:
    [family] = [f for f in gateway.host.metrics.families() if f.name == "lmg_auth_mtls_outcomes_total"]
    return {labels[1]: n for labels, n in family.series.items()}  # type: ignore[attr-defined]


async def ask(gateway: Harness, *lines: str, trailers: str = "") -> ChatAnswer:
    """One request with these header lines as they stand."""
    client = await gateway.connect()
    body = b'{"model":"test-model","messages":[{"role":"user","content":"hello"}]}'
    framing = "transfer-encoding: chunked" if trailers else f"content-length: {len(body)}"
    head = "\r\n".join(["POST /v1/chat/completions HTTP/1.1", "host: mesh", framing, *lines])
    sent = b"%x\r\n%b\r\n0\r\n%b\r\n" % (len(body), body, trailers.encode()) if trailers else body
    await client.send(head.encode("latin-1") + b"\r\n\r\n" + sent)
    try:
        return await client.answer()
    finally:
        await client.close()


# -- a proxy in front -----------------------------------------------------------------------------


async def test_a_trusted_proxy_says_whose_certificate_it_has_verified() -> None:
    async with plain(trusted_proxies=LOOPBACK) as gateway:
        for name in ("x-forwarded-client-cert", "X-Forwarded-Client-Cert", "X-FORWARDED-CLIENT-CERT"):
            assert (await ask(gateway, f"{name}: {WEB}")).status == 200
            await gateway.ended(len(gateway.exchanges))
            assert who(gateway) == ("red", "web")
        assert len(gateway.upstream.received) == 3


async def test_the_last_element_counts_whatever_a_caller_put_in_front() -> None:
    forged = f"Hash={HASH};URI=spiffe://acme.example/ns/admin/sa/root"
    async with plain(trusted_proxies=LOOPBACK) as gateway:
        assert (await ask(gateway, f"x-forwarded-client-cert: {forged},{WEB}")).status == 200
        assert who(gateway) == ("red", "web")
        # And where the last one belongs to nobody, the one in front is not asked instead.
        answer = await ask(gateway, f"x-forwarded-client-cert: {WEB},Hash={HASH};URI=spiffe://evil.example/x")
        assert answer.status == 401
        assert len(gateway.upstream.received) == 1


@pytest.mark.parametrize("settings", [{}, {"trusted_proxies": ["10.0.0.0/8"]}], ids=["none", "others"])
async def test_the_header_of_anybody_else_is_ignored_and_counted(settings: dict[str, Any]) -> None:
    async with plain(**settings) as gateway:
        gateway.host.metrics.enabled = True
        spoofed = f"x-forwarded-client-cert: {WEB}"
        answer = await ask(gateway, spoofed, "x-forwarded-for: 10.0.0.1", "x-real-ip: 10.0.0.1")
        assert answer.status == 401 and answer.error["code"] == "missing_credential"
        assert not gateway.upstream.received
        # Not even garbage in it is looked at: it takes nothing from a caller who has another credential.
        assert (await ask(gateway, "x-forwarded-client-cert: ???", "x-who: bob")).status == 200
        assert who(gateway) == ("default", "bob")
        assert counted(gateway) == {"ignored_header": 2}


@pytest.mark.parametrize(
    "lines",
    [
        [f"x-forwarded-client-cert: {WEB}"] * 2,
        [f"x-forwarded-client-cert: {WEB}", f"X-Forwarded-Client-Cert: {WEB}"],
        ["x-forwarded-client-cert: "],
        ["x-forwarded-client-cert: spiffe://acme.example/ns/red/sa/web"],
        [f"x-forwarded-client-cert: {WEB};Hash={HASH}"],
        [f"x-forwarded-client-cert: {WEB},"],
        [f'x-forwarded-client-cert: {WEB};Subject="CN=a'],
        [f"x-forwarded-client-cert: {WEB};DNS={'a' * 20_000}"],
    ],
    ids=["two-lines", "two-cases", "empty", "no-pair", "two-hashes", "comma", "open-quote", "long"],
)
async def test_a_header_that_no_proxy_writes_is_a_401_that_quotes_nothing(lines: list[str]) -> None:
    async with plain(trusted_proxies=LOOPBACK) as gateway:
        gateway.host.metrics.enabled = True
        answer = await ask(gateway, *lines, "x-who: bob")
        assert answer.status == 401 and answer.error["code"] == "invalid_client_certificate"
        assert b"acme" not in answer.raw and b"spiffe" not in answer.raw
        assert not gateway.upstream.received
        assert counted(gateway) == {"refused_header": 1}


async def test_a_header_in_a_trailer_or_under_a_similar_name_says_nothing() -> None:
    async with plain(trusted_proxies=LOOPBACK) as gateway:
        trailer = f"x-forwarded-client-cert: {WEB}\r\n"
        answer = await ask(gateway, "trailer: x-forwarded-client-cert", trailers=trailer)
        assert answer.status == 401
        assert (await ask(gateway, f"x_forwarded_client_cert: {WEB}")).status == 401
        assert not gateway.upstream.received


async def test_a_certificate_that_no_rule_fits_is_left_to_the_authenticators_below() -> None:
    unknown = f"x-forwarded-client-cert: Hash={HASH};DNS=elsewhere.example"
    async with plain(trusted_proxies=LOOPBACK) as gateway:
        assert (await ask(gateway, unknown)).status == 401
        assert (await ask(gateway, unknown, "x-who: bob")).status == 200
        assert who(gateway) == ("default", "bob")
    async with plain(trusted_proxies=LOOPBACK, unmatched="deny") as gateway:
        answer = await ask(gateway, unknown, "x-who: bob")
        assert answer.status == 401 and answer.error["code"] == "unknown_certificate"
        assert (await ask(gateway, "x-who: bob")).status == 200


async def test_a_pinned_certificate_is_known_by_its_fingerprint() -> None:
    pinned = {"san": "DNS:{subject}.acme.example", "sha256": [HASH]}
    async with plain(rules=[pinned], trusted_proxies=LOOPBACK) as gateway:
        header = "x-forwarded-client-cert: Hash={};DNS=a.acme.example"
        assert (await ask(gateway, header.format(HASH))).status == 200
        assert (await ask(gateway, header.format("0" * 64))).status == 401
        assert (await ask(gateway, "x-forwarded-client-cert: DNS=a.acme.example")).status == 401


async def test_what_a_rule_does_not_allow_is_refused() -> None:
    rule = {"san": "DNS:{subject}.acme.example", "models": ["gpt-*"]}
    async with plain(rules=[rule], trusted_proxies=LOOPBACK) as gateway:
        answer = await ask(gateway, "x-forwarded-client-cert: DNS=a.acme.example")
        assert answer.status in (403, 404) and not gateway.upstream.received


# -- TLS at the gateway itself --------------------------------------------------------------------


class Pki:
    """An authority, the gateway's own certificate, and clients with certificates of theirs."""

    def __init__(self, folder: Path) -> None:
        self.ca = trustme.CA()
        mine = self.ca.issue_cert("127.0.0.1")
        cert, key, ca = folder / "cert.pem", folder / "key.pem", folder / "ca.pem"
        cert.write_bytes(b"".join(blob.bytes() for blob in mine.cert_chain_pems))
        key.write_bytes(mine.private_key_pem.bytes())
        self.ca.cert_pem.write_to_path(str(ca))
        self.server = {"tls": {"cert_file": str(cert), "key_file": str(key), "client_ca_file": str(ca)}}

    def client(self, *names: str, **more: Any) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        self.ca.issue_cert(*names, **more).configure_cert(context)
        return context


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


def secure(pki: Pki, client: ssl.SSLContext, **settings: Any) -> Harness:
    return Harness(mesh(server=pki.server, **settings), classes=CLASSES, tls=client)


@pytest.mark.parametrize(
    ("names", "more", "expected"),
    [
        (["agent-7.acme.example"], {}, ("hosts", "agent-7")),
        (["x@y.example"], {"common_name": "job", "organization_name": "Acme"}, ("names", "job")),
    ],
)
async def test_a_client_is_who_its_own_connection_says(
    pki: Pki, names: list[str], more: dict[str, str], expected: tuple[str, str]
) -> None:
    async with secure(pki, pki.client(*names, **more)) as gateway:
        gateway.host.metrics.enabled = True
        assert (await ask(gateway)).status == 200
        assert who(gateway) == expected
        assert counted(gateway) == {"tls": 1}


async def test_a_common_name_that_looks_like_two_attributes_is_one(pki: Pki) -> None:
    async with secure(pki, pki.client("x@y.example", common_name="job,organizationName=Acme")) as gateway:
        assert (await ask(gateway)).status == 401


async def test_a_certificate_is_pinned_on_the_gateways_own_connection(pki: Pki) -> None:
    leaf = pki.ca.issue_cert("unnamed.example")
    context = ssl.create_default_context()
    pki.ca.configure_trust(context)
    leaf.configure_cert(context)
    encoded = ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode())
    rules = [{"sha256": [hashlib.sha256(encoded).hexdigest()], "subject": "pinned", "tenant": "partner"}]
    async with secure(pki, context, rules=rules) as gateway:
        assert (await ask(gateway)).status == 200
        assert who(gateway) == ("partner", "pinned")


async def test_own_tls_wins_over_a_header_that_no_listed_proxy_sent(pki: Pki) -> None:
    async with secure(pki, pki.client("agent-7.acme.example")) as gateway:
        gateway.host.metrics.enabled = True
        assert (await ask(gateway, f"x-forwarded-client-cert: {WEB}")).status == 200
        assert who(gateway) == ("hosts", "agent-7")
        assert counted(gateway) == {"tls": 1, "ignored_header": 1}


async def test_a_listed_proxy_speaks_for_its_callers_and_never_for_itself(pki: Pki) -> None:
    settings = {"trusted_proxies": LOOPBACK, "proxy_sans": ["DNS:edge.acme.example"]}
    async with secure(pki, pki.client("edge.acme.example"), **settings) as gateway:
        assert (await ask(gateway, f"x-forwarded-client-cert: {WEB}")).status == 200
        assert who(gateway) == ("red", "web")
        # Its own certificate would fit the second rule.
        assert (await ask(gateway)).status == 401
        assert len(gateway.upstream.received) == 1
    # From the same address, without the proxy's certificate: a caller, who says who it is by its own.
    async with secure(pki, pki.client("agent-7.acme.example"), **settings) as gateway:
        assert (await ask(gateway, f"x-forwarded-client-cert: {WEB}")).status == 200
        assert who(gateway) == ("hosts", "agent-7")


async def test_a_certificate_of_another_authority_gets_no_further_than_the_handshake(
    pki: Pki, tmp_path: Path
) -> None:
    client = ssl.create_default_context()
    pki.ca.configure_trust(client)
    trustme.CA().issue_cert("agent-7.acme.example").configure_cert(client)
    async with secure(pki, client) as gateway:
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            await ask(gateway)
        assert not gateway.exchanges and not gateway.upstream.received


# -- the component --------------------------------------------------------------------------------


async def test_it_conforms() -> None:
    # The kit presents a bearer key: whom no certificate names, the one below lets in.
    class Bearer(Fallback):
        def on_request(self, exchange: Exchange) -> None:
            exchange.set_fact("principal", Principal("kit"))

    await check_component(
        lambda: (AuthMtls, {"rules": RULES, "trusted_proxies": LOOPBACK}), above=[("bearer", Bearer)]
    )


async def test_what_is_remembered_of_headers_is_bounded() -> None:
    async with plain(trusted_proxies=LOOPBACK) as gateway:
        pipeline = gateway.process.gateway.pipeline
        [component] = [c for _, c in pipeline.listed if isinstance(c, AuthMtls)]
        for n in range(CACHED + 50):
            headers = [(b"x-forwarded-client-cert", b"DNS=h%d.acme.example" % n)]
            scope = {"method": "POST", "path": "/", "headers": headers, "client": ("127.0.0.1", 1)}
            exchange = gateway.process.gateway.exchange(pipeline, scope, PLAIN)
            component.on_request(exchange)
            assert exchange.principal is not None and exchange.principal.subject == f"h{n}"
        assert len(component._of_header) == CACHED


def test_it_cannot_run_in_shadow() -> None:
    with pytest.raises(ConfigError, match="does not support mode 'shadow'"):
        draft(validate(MeshConfig, mesh(mode="shadow"), (), None), installed={}, classes=CLASSES)

"""Callers whose certificates a real Envoy has verified: what it forwards is what `auth_mtls` reads."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from lmg.testing import Harness
from lmg.testing.servers import EnvoyServer
from lmg_auth_mtls import AuthMtls

ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
MANAGER = (
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
)
DOWNSTREAM_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
UPSTREAM_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"

BODY = {"model": "test-model", "messages": [{"role": "user", "content": "hello"}]}
ADMIN = f"Hash={'ab' * 32};URI=spiffe://acme.example/ns/admin/sa/root"
RULES = [{"san": "DNS:{subject}.acme.example", "tenant": "acme"}, {"spiffe": "spiffe://acme.example/ns/{tenant}/sa/{subject}"}]  # fmt: skip


class Files:
    """An authority, and a certificate for each that needs one."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.ca = folder, trustme.CA()
        self.ca_file = str(folder / "ca.pem")
        self.ca.cert_pem.write_to_path(self.ca_file)

    def issue(self, *names: str) -> tuple[str, str, trustme.LeafCert]:
        leaf = self.ca.issue_cert(*names, common_name=names[0], organization_name='Acme, "Inc"')
        cert, key = (str(self.folder / f"{names[0]}.{kind}.pem") for kind in ("cert", "key"))
        Path(cert).write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        leaf.private_key_pem.write_to_path(key)
        return cert, key, leaf

    def client(self, leaf: trustme.LeafCert | None) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        if leaf is not None:
            leaf.configure_cert(context)
        return context


def common(files: Files, cert: str, key: str) -> dict[str, Any]:
    return {
        "tls_certificates": [{"certificate_chain": {"filename": cert}, "private_key": {"filename": key}}],
        "validation_context": {"trusted_ca": {"filename": files.ca_file}},
        # Towards an upstream Envoy goes no higher than 1.2 unless told; the gateway takes nothing below 1.3.
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
    }


def configuration(files: Files, port: int, gateway: int, details: str) -> dict[str, Any]:
    cert, key, _ = files.issue("127.0.0.1", "edge.acme.example")

    def address(port: int) -> dict[str, Any]:
        return {"socket_address": {"address": "127.0.0.1", "port_value": port}}

    manager = {
        "@type": MANAGER, "stat_prefix": "in", "codec_type": "HTTP1", "forward_client_cert_details": details,
        "set_current_client_cert_details": {"subject": True, "uri": True, "dns": True, "cert": True},
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "mesh"}}]}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": ROUTER}}],
    }  # fmt: skip
    downstream = {"@type": DOWNSTREAM_TLS, "require_client_certificate": False, "common_tls_context": common(files, cert, key)}  # fmt: skip
    upstream = {"@type": UPSTREAM_TLS, "common_tls_context": common(files, cert, key)}
    chain = {
        "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}],
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": downstream},
    }
    cluster = {
        "name": "mesh", "type": "STATIC", "connect_timeout": "5s",
        "load_assignment": {"cluster_name": "mesh", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(gateway)}}]}]},
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": upstream},
    }  # fmt: skip
    listener = {"name": "in", "address": address(port), "filter_chains": [chain]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


@asynccontextmanager
async def envoy(files: Files, gateway: int, details: str) -> AsyncIterator[str]:
    """The URL of an Envoy that terminates mutual TLS and is itself connected to the gateway by mutual TLS."""
    server = EnvoyServer(files.folder, lambda port: configuration(files, port, gateway, details))
    try:
        await asyncio.to_thread(server.start)
        yield f"https://127.0.0.1:{server.port}"
    finally:
        server.kill()


@asynccontextmanager
async def edge(files: Files, details: str, **settings: Any) -> AsyncIterator[tuple[Harness, str]]:
    cert, key, _ = files.issue("127.0.0.1")
    mesh = {
        "server": {"tls": {"cert_file": cert, "key_file": key, "client_ca_file": files.ca_file}},
        "pipeline": [
            {"auth_mtls": {"rules": RULES, "trusted_proxies": ["127.0.0.1/32"], "proxy_sans": ["DNS:edge.acme.example"], **settings}}
        ],
    }  # fmt: skip
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(Harness(mesh, classes={"auth_mtls": AuthMtls}))
        url = await stack.enter_async_context(envoy(files, gateway.process.port, details))
        yield gateway, url


async def ask(
    files: Files, url: str, leaf: trustme.LeafCert | None, *lines: tuple[str, str]
) -> httpx.Response:
    async with httpx.AsyncClient(verify=files.client(leaf), trust_env=False) as client:
        return await client.post(f"{url}/v1/chat/completions", json=BODY, headers=list(lines))


def fingerprint(leaf: trustme.LeafCert) -> str:
    certificate = x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes())
    return certificate.fingerprint(hashes.SHA256()).hex()


@pytest.mark.parametrize("details", ["SANITIZE_SET", "APPEND_FORWARD"])
async def test_a_real_envoy_says_who_calls_and_nobody_can_say_otherwise(tmp_path: Path, details: str) -> None:
    files = Files(tmp_path)
    async with edge(files, details) as (gateway, url):
        _, _, agent = files.issue("agent-7.acme.example")
        _, _, stranger = files.issue("stranger.example")
        spoofed = ("x-forwarded-client-cert", ADMIN)
        for lines in ([], [spoofed], [spoofed, spoofed], [("X-Forwarded-Client-Cert", ADMIN + ',URI="')]):
            answer = await ask(files, url, agent, *lines)
            if answer.status_code == 200:
                principal = gateway.exchanges[-1].principal
                assert principal is not None
                assert (principal.tenant, principal.subject) == ("acme", "agent-7")
                assert principal.key_id == fingerprint(agent)[:16]
            else:
                # What a caller has put in front is garbage, and Envoy has passed it on.
                assert details == "APPEND_FORWARD" and lines[0][1] != ADMIN and answer.status_code == 401
        served = len(gateway.upstream.received)
        assert served == (4 if details == "SANITIZE_SET" else 3)
        # Without a certificate of its own nobody is anybody; neither is Envoy, whose certificate would fit a rule.
        for leaf in (None, stranger):
            for lines in ([], [spoofed]):
                assert (await ask(files, url, leaf, *lines)).status_code == 401
        assert len(gateway.upstream.received) == served


async def test_a_certificate_is_pinned_by_the_fingerprint_that_envoy_tells(tmp_path: Path) -> None:
    files = Files(tmp_path)
    _, _, agent = files.issue("agent-7.acme.example")
    _, _, double = files.issue("agent-7.acme.example")  # the same names, another certificate
    rule = {"subject_name": 'CN={subject},O=Acme\\, \\"Inc\\"', "sha256": [fingerprint(agent)]}
    async with edge(files, "SANITIZE_SET", rules=[rule]) as (gateway, url):
        assert (await ask(files, url, double)).status_code == 401
        assert not gateway.upstream.received
        assert (await ask(files, url, agent)).status_code == 200
        principal = gateway.exchanges[-1].principal
        assert principal is not None and principal.subject == "agent-7.acme.example"

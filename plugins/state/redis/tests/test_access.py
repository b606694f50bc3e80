"""Who we are there: passwords, ACL users, TLS. No secret is shown, whatever fails."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from lmg import ConfigError
from lmg.services import Limit, Settle, Take
from lmg.testing import check_counter_store
from lmg.testing.servers import absent, free_port
from lmg_redis import RedisCounters

from .conftest import Counters, RedisServer, until

PASSWORD = "hunter2:with/@#special"
ENCODED = "hunter2%3Awith%2F%40%23special"
README = Path(__file__).parents[1] / "README.md"
Make = Callable[..., RedisServer]


def url_of(server: RedisServer, userinfo: str) -> str:
    return f"redis://{userinfo}@127.0.0.1:{server.port}/0"


@pytest.mark.parametrize("place", ["url", "setting"])
async def test_a_password_opens_the_server(redis_server: RedisServer, counters: Counters, place: str) -> None:
    redis_server.do("CONFIG", "SET", "requirepass", PASSWORD)
    redis_server.password = PASSWORD
    if place == "url":
        store = await counters(url_of(redis_server, f":{ENCODED}"))
    else:
        store = await counters(redis_server.url, password=PASSWORD)
    assert store.health() is None
    await check_counter_store(store, seed=3)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"password": "not-" + PASSWORD}, "WRONGPASS"),
        ({"username": "nobody", "password": PASSWORD}, "WRONGPASS"),
        ({}, "NOAUTH"),
    ],
)
async def test_a_wrong_password_is_said_without_it(
    redis_server: RedisServer,
    counters: Counters,
    caplog: pytest.LogCaptureFixture,
    settings: dict[str, str],
    says: str,
) -> None:
    redis_server.do("CONFIG", "SET", "requirepass", PASSWORD)
    with caplog.at_level(logging.DEBUG):
        store = await counters(redis_server.url, **settings)
    health = store.health()
    assert health is not None and health.state == "degraded" and says in health.detail
    shown = health.detail + caplog.text + repr(store.config)
    assert says in caplog.text
    assert "hunter2" not in shown
    assert [record.levelname for record in caplog.records if record.name == "lmg.redis"] == ["WARNING"]


async def test_a_password_where_the_server_has_none_is_said(
    redis_server: RedisServer, counters: Counters
) -> None:
    store = await counters(redis_server.url, username="mesh", password=PASSWORD)
    health = store.health()
    assert health is not None and "WRONGPASS" in health.detail


async def test_a_password_that_was_set_meanwhile_is_said_and_heals(
    redis_server: RedisServer, counters: Counters
) -> None:
    store = await counters(redis_server.url, heartbeat_ms=100)
    redis_server.do("CONFIG", "SET", "requirepass", PASSWORD)
    redis_server.password = PASSWORD
    redis_server.do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    await until(lambda: "NOAUTH" in getattr(store.health(), "detail", ""))
    redis_server.do("CONFIG", "SET", "requirepass", "")
    redis_server.password = ""
    await until(lambda: store.health() is None)


def acl() -> list[str]:
    """The rule that the README tells operators to use."""
    (line,) = [line for line in README.read_text().splitlines() if line.startswith("ACL SETUSER ")]
    return line.split()


async def test_the_acl_of_the_readme_is_enough(redis_server: RedisServer, counters: Counters) -> None:
    rule = acl()
    redis_server.do(*[word.replace("<password>", PASSWORD) for word in rule])
    user = rule[2]
    assert not any("script" in word for word in rule)
    store = await counters(url_of(redis_server, f"{user}:{ENCODED}"), heartbeat_ms=50)
    assert store.health() is None
    await check_counter_store(store, seed=5)
    slots = Limit("slots", 3, None)
    await store.take([Take(slots, 1, held=True)])
    store._session._keep_at = 0.0
    before = redis_server.calls("pttl")
    await until(lambda: redis_server.calls("pttl") > before)
    redis_server.do("SCRIPT", "FLUSH")
    store.settle([Settle(slots, 1, 0)])
    assert (await store.levels([slots]))[0].remaining == 3
    before_kill = store._session.holder
    redis_server.do("CLIENT", "KILL", "USER", user)
    await until(lambda: store._session.holder != before_kill)
    await store.take([Take(slots, 1, held=True)])
    await store.stop()
    denied = redis_server.do("ACL", "LOG")
    assert denied == [], denied


@pytest.mark.parametrize("missing", ["-eval", "-zadd", "resetkeys"])
async def test_a_right_that_is_missing_is_said(
    redis_server: RedisServer, counters: Counters, missing: str
) -> None:
    rule = [word.replace("<password>", PASSWORD) for word in acl()]
    redis_server.do(*rule, missing)
    store = await counters(url_of(redis_server, f"{rule[2]}:{ENCODED}"))
    health = store.health()
    assert health is not None and "NOPERM" in health.detail and "README" in health.detail


# -- TLS ------------------------------------------------------------------------------------------


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    for name, identity in (("server", "localhost"), ("client", "gateway")):
        issued = ca.issue_cert(identity)
        issued.cert_chain_pems[0].write_to_path(tmp_path / f"{name}.pem")
        issued.private_key_pem.write_to_path(tmp_path / f"{name}.key")
    return ca


@pytest.fixture
def tls_server(make_server: Make, authority: trustme.CA, tmp_path: Path) -> RedisServer:
    """A server that speaks TLS, to clients with a certificate of the authority."""
    port = free_port()
    try:
        server = make_server(
            "--tls-port", str(port), "--tls-ca-cert-file", str(tmp_path / "ca.pem"),
            "--tls-cert-file", str(tmp_path / "server.pem"), "--tls-key-file", str(tmp_path / "server.key"),
        )  # fmt: skip
    except RuntimeError as error:
        if "tls" in str(error).lower():
            absent("this server was built without TLS")
        raise
    server.tls_port = port
    return server


async def test_it_works_over_tls_with_certificates_on_both_sides(
    tls_server: RedisServer, counters: Counters, tmp_path: Path
) -> None:
    store = await counters(
        f"rediss://localhost:{tls_server.tls_port}",
        ca_file=tmp_path / "ca.pem",
        cert_file=tmp_path / "client.pem",
        key_file=tmp_path / "client.key",
        connect_timeout_ms=5000,
    )
    assert store.health() is None
    await check_counter_store(store, seed=1)


async def test_a_certificate_of_an_unknown_authority_or_another_name_is_refused(
    tls_server: RedisServer, counters: Counters, tmp_path: Path
) -> None:
    port = tls_server.tls_port
    ours = {
        "cert_file": tmp_path / "client.pem",
        "key_file": tmp_path / "client.key",
        "connect_timeout_ms": 5000,
    }
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    for url, ca, says in (
        (f"rediss://localhost:{port}", "other.pem", "certificate is not accepted"),
        (f"rediss://127.0.0.1:{port}", "ca.pem", "certificate is not accepted"),
    ):
        store = await counters(url, ca_file=tmp_path / ca, **ours)
        health = store.health()
        assert health is not None and says in health.detail, health


async def test_tls_files_that_cannot_be_used_stop_the_start(counters: Counters, tmp_path: Path) -> None:
    (tmp_path / "garbage.pem").write_text("not a certificate")
    for settings in ({"ca_file": tmp_path / "none.pem"}, {"ca_file": tmp_path / "garbage.pem"}):
        with pytest.raises(ConfigError, match=r"services\.redis: the TLS files cannot be used"):
            await counters("rediss://localhost:1", **settings)


def test_tls_checks_certificates_and_names() -> None:
    config = RedisCounters.Config.model_validate({"url": "rediss://redis.example:6380/1"})
    context = RedisCounters(config, None, "redis")._tls()  # type: ignore[arg-type]
    assert context is not None
    assert context.verify_mode == ssl.CERT_REQUIRED and context.check_hostname

"""Where a server is, and what is said about a url that does not say it. No secret is shown."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hiredis import ReplyError
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lmg.testing.conformance import check_secrets
from lmg_redis import RedisCounters
from lmg_redis.config import Address, RedisConfig
from lmg_redis.errors import refusal_of
from lmg_redis.link import LONGEST_BACKOFF_S, backoff_s


def read(**settings: Any) -> RedisConfig:
    return RedisConfig.model_validate(settings)


@pytest.mark.parametrize(
    ("url", "address", "shown"),
    [
        ("redis://cache", Address("cache", 6379, "", 0, False), "redis://cache:6379/0"),
        ("redis://cache:7000/2", Address("cache", 7000, "", 2, False), "redis://cache:7000/2"),
        ("rediss://cache/", Address("cache", 6379, "", 0, True), "rediss://cache:6379/0"),
        ("redis://[::1]:6380/1", Address("::1", 6380, "", 1, False), "redis://[::1]:6380/1"),
        (
            "unix:///run/redis.sock",
            Address("", 0, "/run/redis.sock", 0, False),
            "unix:///run/redis.sock?db=0",
        ),
        ("unix:///run/r.sock?db=4", Address("", 0, "/run/r.sock", 4, False), "unix:///run/r.sock?db=4"),
    ],
)
def test_a_url_is_an_address(url: str, address: Address, shown: str) -> None:
    assert read(url=url).address == address
    assert str(address) == shown


@pytest.mark.parametrize(
    ("url", "user", "password"),
    [
        ("redis://:secret-word@cache/1", None, "secret-word"),
        ("redis://mesh:secret-word@cache/1", "mesh", "secret-word"),
        ("redis://mesh:secret%2Fword%40@cache/1", "mesh", "secret/word@"),
        ("redis://mesh:secret@#?word@cache/1", "mesh", "secret@#?word"),
        ("unix://mesh:secret-word@/run/redis.sock", "mesh", "secret-word"),
    ],
)
def test_credentials_are_taken_out_of_the_url(url: str, user: str | None, password: str) -> None:
    config = read(url=url)
    assert config.username == user
    assert config.password is not None and config.password.get_secret_value() == password
    assert "secret" not in repr(config) + config.url + str(config.address) + config.model_dump_json()
    check_secrets(lambda: (RedisCounters, {"url": url}))  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"url": "http://cache"}, "begins with redis://"),
        ({"url": "cache:6379"}, "begins with redis://"),
        ({"url": "redis://"}, "names no host"),
        ({"url": "redis://cache:port/0"}, "cannot be read"),
        ({"url": "redis://cache:99999/0"}, "cannot be read"),
        ({"url": "redis://:sec/ret-word@cache/0"}, "percent-encode"),
        ({"url": "redis://cache/0#secret-word"}, "percent-encode"),
        ({"url": "redis://[cache/0"}, "percent-encode"),
        ({"url": "redis://cache/first"}, "database in url is a number"),
        ({"url": "redis://cache?db=1"}, "means nothing here"),
        ({"url": "unix://run/redis.sock"}, "three slashes"),
        ({"url": "unix:///run/redis.sock?dbs=1"}, "nothing else"),
        ({"url": "redis://:secret-word@cache", "password": "x"}, "give it once"),
        ({"username": "mesh"}, "needs a password"),
        ({"ca_file": "/ca.pem"}, "are for rediss://"),
        ({"url": "rediss://cache", "key_file": "/key.pem"}, "give both"),
        ({"holder_ttl_s": 2, "heartbeat_ms": 1000}, "three heartbeats"),
        ({"prefix": "a{b}"}, "should match pattern"),
    ],
)
def test_what_cannot_be_is_said_without_showing_secrets(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as error:
        read(**settings)
    text = str(error.value) + json.dumps([one["msg"] for one in error.value.errors(include_input=False)])
    assert says in text
    assert "ret-word" not in text and "secret" not in text


@given(st.text(max_size=40))
def test_no_text_in_the_place_of_a_url_breaks_anything_else(text: str) -> None:
    try:
        read(url=text)
        read(url=f"redis://{text}")
    except ValidationError:
        pass


@pytest.mark.parametrize(
    ("reply", "kind", "says"),
    [
        ("WRONGPASS invalid username-password pair", "auth", "wrong (WRONGPASS)"),
        ("NOAUTH Authentication required.", "auth", "asks for a password"),
        ("NOPERM User mesh has no permissions to run the 'eval' command", "auth", "README (NOPERM)"),
        ("ERR AUTH <password> called without any password configured", "auth", "knows no password"),
        ("ERR Client sent AUTH, but no password is set", "auth", "knows no password"),
        ("ERR max number of clients reached", "reply", "too many clients"),
        ("LOADING Redis is loading the dataset in memory", "reply", "loading"),
        ("READONLY You can't write against a read only replica.", "reply", "a replica"),
        (
            "ERR Error running script (call to f_ab): @user_script: 9: -OOM command not",
            "reply",
            "memory (OOM)",
        ),
        (
            "ERR Error running script (call to f_ab): @user_script: 9: WRONGTYPE Op",
            "reply",
            "somebody else's",
        ),
        ("ERR ACL failure in script: User mesh has no permissions to run", "auth", "README (NOPERM)"),
        ("MOVED 3999 10.0.0.1:6381", "reply", "proxy"),
        (
            "ERR unknown command 'x', with args beginning with: 'what a tenant wrote'",
            "reply",
            "a command (ERR)",
        ),
        ("what a tenant wrote", "reply", "a command (ERR)"),
    ],
)
def test_an_error_reply_is_put_in_words_and_never_quoted(reply: str, kind: str, says: str) -> None:
    error = refusal_of(ReplyError(reply))
    assert error.kind == kind and says in error.reason
    assert "tenant" not in str(error) and "10.0.0.1" not in str(error) and "mesh" not in str(error)


def test_attempts_wait_longer_each_time_but_never_long_and_never_all_alike() -> None:
    rng = random.Random(1)
    waits = [backoff_s(failures, rng) for failures in range(1, 2000)]
    assert 0.025 <= waits[0] <= 0.05
    assert all(LONGEST_BACKOFF_S / 2 <= wait <= LONGEST_BACKOFF_S for wait in waits[5:])
    assert len(set(waits)) == len(waits)

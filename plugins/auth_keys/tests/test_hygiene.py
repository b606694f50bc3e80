"""Where a key and the pepper could turn up, and do not."""

from __future__ import annotations

import gc
import logging
from pathlib import Path
from typing import Any

import pytest

from lmg.testing import VirtualClock
from lmg.testing.secrecy import forms_of
from lmg_auth_keys.config import AuthKeysConfig

from .conftest import PEPPER, Gateway, bearer, sqlite


def assert_hidden(shown: str, *secrets: str) -> None:
    for secret in secrets:
        for form in forms_of(secret):
            assert form not in shown


async def test_no_key_and_no_pepper_is_kept_shown_or_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    state = tmp_path / "state"
    state.mkdir()
    async with Gateway(sqlite(tmp_path / "keys.sqlite"), state_dir=state, clock=VirtualClock()) as gateway:
        made = await gateway.issue("alice", scopes=["admin"])
        key, secret = made["key"], made["key"][17:60]
        new = (await gateway.admin("POST", f"keys/{made['id']}/rotate", {})).json["key"]
        secrets = [key, secret, new, new[17:60], PEPPER]
        assert await gateway.status(key) == 200
        assert (await gateway.chat(headers={"x-api-key": key}, stream=True)).status == 200
        assert (await gateway.chat(headers={**bearer(key), "x-api-key": new})).status == 401
        assert await gateway.status(key[:-1] + "!") == 401
        shown = await gateway.request(b"", path="/admin/v1/pipeline", method="GET", headers=bearer(key))
        assert shown.status == 200
        await gateway.running.tending.sweep()
        assert_hidden(shown.raw.decode(), *secrets)
        pipeline = gateway.process.gateway.pipeline
        assert_hidden(repr(pipeline.describe()) + repr(gateway.component.config), *secrets)
        assert_hidden(gateway.component.config.model_dump_json(), *secrets)
        await gateway.ended(4)
        for exchange in gateway.exchanges:
            assert_hidden(repr(exchange.principal) + repr(exchange.receipt), *secrets)
        assert_hidden(repr(gateway.upstream.received) + repr(gateway.audited), *secrets)
        assert_hidden(repr(gateway.component._directory.all()) + repr(gateway.running), *secrets)
    assert caplog.records
    assert_hidden(caplog.text + "\n".join(repr(vars(record)) for record in caplog.records), *secrets)
    for file in (tmp_path / "keys.sqlite", *state.iterdir()):
        assert_hidden(file.read_bytes().decode("latin-1"), *secrets)


async def test_no_object_of_the_component_holds_the_text_of_a_key(database: str) -> None:
    async with Gateway(database, clock=VirtualClock()) as gateway:
        made = await gateway.issue()
        await gateway.status(made["key"])
        secret = made["key"][17:60]
        seen: set[int] = set()
        todo: list[Any] = [gateway.component._directory, gateway.component._verifier, gateway.running.usage]
        while todo:
            value = todo.pop()
            if id(value) in seen or isinstance(value, type) or callable(value):
                continue
            seen.add(id(value))
            assert not (isinstance(value, str | bytes) and secret in repr(value))
            todo += gc.get_referents(value)[:100_000] if len(seen) < 200_000 else []


async def test_a_database_that_is_away_is_logged_without_its_password(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pytest.importorskip("asyncpg")
    caplog.set_level(logging.DEBUG)
    url = "postgresql://lmg:a-password-0123456789@127.0.0.1:1/keys"
    with pytest.raises(Exception, match="cannot be asked") as caught:
        await Gateway(url).__aenter__()
    assert_hidden(str(caught.value) + repr(caught.value), "a-password-0123456789")
    assert_hidden(caplog.text + repr([vars(record) for record in caplog.records]), "a-password-0123456789")


def test_the_configuration_hides_its_secrets() -> None:
    config = AuthKeysConfig.model_validate(
        {
            "pepper": PEPPER,
            "pepper_id": "2",
            "old_peppers": {"1": "old-" + PEPPER},
            "database": "postgresql://lmg:a-password@db/keys",
        }
    )
    assert_hidden(repr(config) + config.model_dump_json() + repr(config.peppers), PEPPER, "a-password")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "pepper"),
        ({"pepper": "too-short-a-pepper"}, "pepper"),
        ({"pepper": PEPPER, "old_peppers": {"0": "too-short-a-pepper"}}, "at least 32"),
        (
            {"pepper": PEPPER, "old_peppers": {"1": "other-" + PEPPER}},
            "both pepper_id and one of old_peppers",
        ),
        ({"pepper": PEPPER, "pepper_id": "a b"}, "pepper_id"),
        ({"pepper": PEPPER, "database": "mysql://u:a-password@h/d"}, "a database starts with"),
        ({"pepper": PEPPER, "database": "sqlite:///:memory:"}, "name a file"),
        ({"pepper": PEPPER, "database": "sqlite:///?cache=shared"}, "name a file"),
        ({"pepper": PEPPER, "poll_s": 5}, "poll_s"),
        ({"pepper": PEPPER, "max_stale_s": 2}, "max_stale_s must be longer"),
        ({"pepper": PEPPER, "keys": []}, "keys"),
    ],
)
def test_a_configuration_that_is_wrong_is_an_error_that_shows_no_secret(
    settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        AuthKeysConfig.model_validate(settings)
    assert_hidden(str(caught.value), PEPPER, "too-short-a-pepper", "a-password")


async def test_keys_without_a_place_to_be_kept_in_stop_the_start() -> None:
    gateway = Gateway("")
    del gateway.settings["database"]
    with pytest.raises(Exception, match=r"auth_keys: keys need a place.*server\.state_dir"):
        await gateway.__aenter__()

"""Callers with keys from the configuration: who gets in, as whom, and what is kept of a key."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
from contextlib import nullcontext
from typing import Any
from urllib.parse import quote

import pytest

from lmg import ConfigError
from lmg.cli.schema import mesh_schema
from lmg.config import MeshConfig, validate
from lmg.pipeline import draft
from lmg.testing import ChatAnswer, Harness, Trace, check_component
from lmg.testing.secrecy import forms_of
from lmg.yamltext import load
from lmg_auth_keys import AuthStatic

KEY = "sk-mesh/alice+0123456789"
OTHER = "sk-mesh-bob-9876543210"
CLASSES = {"auth_static": AuthStatic}


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def mesh(*keys: dict[str, Any], **envelope: Any) -> dict[str, Any]:
    given = list(keys) or [{"key": KEY, "subject": "alice"}]
    return {"pipeline": [{"auth_static": {"keys": given, **envelope}}]}


def gateway_with(*keys: dict[str, Any], **more: Any) -> Harness:
    return Harness(mesh(*keys), classes=CLASSES, **more)


def blueprint_of(*keys: dict[str, Any], **envelope: Any) -> Any:
    return draft(validate(MeshConfig, mesh(*keys, **envelope), (), None), installed={}, classes=CLASSES)


def assert_refused(answer: ChatAnswer, code: str) -> None:
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    assert answer.error["code"] == code
    assert answer.error["type"] == "invalid_request_error"
    assert answer.error["message"]
    assert set(answer.error) >= {"message", "type", "param", "code"}


# Who gets in


async def test_the_right_key_is_served_and_says_who_calls() -> None:
    async with gateway_with({"key": KEY, "subject": "alice", "tenant": "acme", "roles": ["dev"]}) as gateway:
        assert (await gateway.chat(headers=bearer(KEY))).status == 200
        principal = (await gateway.ended()).principal
    assert principal is not None
    assert (principal.subject, principal.tenant, principal.roles) == ("alice", "acme", frozenset({"dev"}))
    assert principal.issuer == "auth_static"


async def test_x_api_key_is_served_too() -> None:
    async with gateway_with() as gateway:
        assert (await gateway.chat(headers={"x-api-key": KEY})).status == 200


async def test_the_same_key_in_both_headers_is_served() -> None:
    async with gateway_with() as gateway:
        assert (await gateway.chat(headers={**bearer(KEY), "x-api-key": KEY})).status == 200


async def test_a_key_given_as_its_digest_is_served() -> None:
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    async with gateway_with({"sha256": digest, "subject": "alice"}) as gateway:
        assert (await gateway.chat(headers=bearer(KEY))).status == 200
        assert_refused(await gateway.chat(headers=bearer(digest)), "invalid_api_key")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_scheme_is_read_in_any_case(scheme: str) -> None:
    async with gateway_with() as gateway:
        assert (await gateway.chat(headers={"authorization": f"{scheme} {KEY}"})).status == 200


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (OTHER, "invalid_api_key"),
        (KEY[:-1], "invalid_api_key"),
        (KEY + "0", "invalid_api_key"),
        (KEY.upper(), "invalid_api_key"),
        ("", "invalid_api_key"),
        ("k" * 20_000, "invalid_api_key"),
        ("schl\xfcssel-0123456789", "invalid_api_key"),
        (f"{KEY}\x00", None),
    ],
)
async def test_a_wrong_key_is_refused_before_the_body_is_read(given: str, code: str | None) -> None:
    async with gateway_with() as gateway:
        answer = await gateway.request(b"{not json", headers=bearer(given))
        if code is None:
            assert answer.status == 400
        else:
            assert_refused(answer, code)
        assert gateway.upstream.received == []


@pytest.mark.parametrize("stream", [False, True])
async def test_no_key_is_refused(stream: bool) -> None:
    async with gateway_with() as gateway:
        assert_refused(await gateway.chat(stream=stream), "missing_credential")
        assert gateway.upstream.received == []


async def test_two_different_credentials_are_refused_even_where_one_is_right() -> None:
    async with gateway_with() as gateway:
        for headers in ({**bearer(KEY), "x-api-key": OTHER}, {**bearer(OTHER), "x-api-key": KEY}):
            assert_refused(await gateway.chat(headers=headers), "ambiguous_credential")
        twice = gateway.encode(gateway.body(), headers={**bearer(KEY), "Authorization": f"Bearer {OTHER}"})
        client = await gateway.connect()
        await client.send(twice)
        assert_refused(await client.answer(), "ambiguous_credential")
        assert_refused(
            await gateway.get("/v1/models", headers={**bearer(KEY), "x-api-key": OTHER}),
            "ambiguous_credential",
        )
        assert gateway.upstream.received == []


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Basic {base64.b64encode(f'alice:{KEY}'.encode()).decode()}"},
        {"authorization": f"Basic {KEY}"},
        {"authorization": KEY},
        {"authorization": f"Bearer{KEY}"},
        {"proxy-authorization": f"Bearer {KEY}"},
        {"api-key": KEY},
        {"x-goog-api-key": KEY},
        {"x-authorization": f"Bearer {KEY}"},
        {"x-forwarded-authorization": f"Bearer {KEY}"},
        {"cookie": f"authorization=Bearer {KEY}"},
        {"x-forwarded-user": "alice"},
    ],
)
async def test_a_key_in_another_place_authenticates_nobody(headers: dict[str, str]) -> None:
    async with gateway_with() as gateway:
        assert (await gateway.chat(headers=headers)).status == 401
        assert (await gateway.get("/v1/models", headers=headers)).status == 401
        assert gateway.upstream.received == []


@pytest.mark.parametrize("name", ["api_key", "api-key", "key", "authorization", "access_token"])
async def test_a_key_in_the_query_authenticates_nobody(name: str) -> None:
    query = f"?{name}={quote(KEY, safe='')}"
    async with gateway_with() as gateway:
        assert (await gateway.request(gateway.body(), path=f"/v1/chat/completions{query}")).status == 401
        assert (await gateway.get(f"/v1/models{query}")).status == 401
        assert gateway.upstream.received == []


async def test_a_key_in_the_body_authenticates_nobody() -> None:
    async with gateway_with() as gateway:
        assert (await gateway.chat(api_key=KEY, authorization=f"Bearer {KEY}")).status == 401


async def test_a_key_in_a_trailer_authenticates_nobody() -> None:
    async with gateway_with() as gateway:
        body = json.dumps(gateway.body()).encode()
        client = await gateway.connect()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{gateway.process.port}\r\n"
            "content-type: application/json\r\ntransfer-encoding: chunked\r\ntrailer: authorization\r\n\r\n"
        )
        chunks = f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n"
        # One write: the parser sees the trailer before the exchange begins.
        await client.send(head.encode() + chunks + f"authorization: Bearer {KEY}\r\n\r\n".encode())
        assert_refused(await client.answer(), "missing_credential")
        assert gateway.upstream.received == []


async def test_the_key_of_one_request_does_not_serve_the_next_on_its_connection() -> None:
    async with gateway_with() as gateway:
        client = await gateway.connect()
        await client.send(gateway.encode(gateway.body(), headers=bearer(KEY)))
        assert (await client.answer()).status == 200
        await client.send(gateway.encode(gateway.body()))
        assert_refused(await client.answer(), "missing_credential")


async def test_callers_are_told_apart() -> None:
    keys = [{"key": KEY, "subject": "alice"}, {"key": OTHER, "subject": "bob"}]
    async with gateway_with(*keys) as gateway:
        for key in (KEY, OTHER, KEY):
            assert (await gateway.chat(headers=bearer(key))).status == 200
        await gateway.ended(3)
        assert [receipt.subject for receipt in gateway.receipts] == ["alice", "bob", "alice"]


async def test_of_two_instances_the_first_that_knows_the_key_says_who_calls() -> None:
    settings = {"keys": [{"key": KEY, "subject": "alice"}]}
    second = {"keys": [{"key": KEY, "subject": "mallory"}, {"key": OTHER, "subject": "bob"}]}
    listed = [{"auth_static/a": settings}, {"auth_static/b": second}]
    async with Harness({"pipeline": listed}, classes=CLASSES) as gateway:
        assert (await gateway.chat(headers=bearer(KEY))).status == 200
        assert (await gateway.chat(headers=bearer(OTHER))).status == 200
        assert (await gateway.chat(headers=bearer("neither-of-the-two"))).status == 401
        await gateway.ended(2)
        assert [receipt.subject for receipt in gateway.receipts[:2]] == ["alice", "bob"]


async def test_a_reload_takes_a_key_away() -> None:
    async with gateway_with() as gateway:
        assert (await gateway.chat(headers=bearer(KEY))).status == 200
        assert await gateway.reload(mesh({"key": OTHER, "subject": "bob"}))
        assert (await gateway.chat(headers=bearer(KEY))).status == 401
        assert (await gateway.chat(headers=bearer(OTHER))).status == 200


# What a key may do


async def test_a_key_for_some_models_may_use_and_see_only_those() -> None:
    key = {"key": KEY, "subject": "alice", "models": ["small"]}
    async with gateway_with(key, models=["small", "large"]) as gateway:
        assert (await gateway.chat(model="small", headers=bearer(KEY))).status == 200
        refused = await gateway.chat(model="large", headers=bearer(KEY))
        assert (refused.status, refused.error["code"]) == (403, "model_not_allowed")
        assert len(gateway.upstream.received) == 1
        listed = await gateway.get("/v1/models", headers=bearer(KEY))
        assert [model["id"] for model in listed.json["data"]] == ["small"]
        assert (await gateway.get("/v1/models/small", headers=bearer(KEY))).status == 200
        assert (await gateway.get("/v1/models/large", headers=bearer(KEY))).status == 404


async def test_a_key_for_no_model_may_use_none() -> None:
    async with gateway_with({"key": KEY, "subject": "alice", "models": []}) as gateway:
        assert (await gateway.chat(headers=bearer(KEY))).status == 403
        assert (await gateway.get("/v1/models", headers=bearer(KEY))).json["data"] == []


async def test_a_key_without_a_models_list_sees_all() -> None:
    async with gateway_with(models=["small", "large"]) as gateway:
        listed = await gateway.get("/v1/models", headers=bearer(KEY))
        assert {model["id"] for model in listed.json["data"]} == {"small", "large"}
        assert_refused(await gateway.get("/v1/models"), "missing_credential")


async def test_the_admin_api_needs_the_scope_admin() -> None:
    keys = [
        {"key": KEY, "subject": "alice", "scopes": ["admin"]},
        {"key": OTHER, "subject": "bob", "roles": ["admin"], "tenant": "admin", "scopes": ["administrator"]},
    ]
    async with gateway_with(*keys) as gateway:
        shown = await gateway.get("/admin/v1/pipeline", headers=bearer(KEY))
        assert shown.status == 200
        assert "auth_static" in [item["name"] for item in shown.json["pipeline"]]
        refused = await gateway.get("/admin/v1/pipeline", headers=bearer(OTHER))
        assert (refused.status, refused.error["code"]) == (403, "admin_only")
        assert_refused(await gateway.get("/admin/v1/pipeline"), "missing_credential")


# What is kept of a key


def assert_hidden(shown: str) -> None:
    for form in forms_of(KEY):
        assert form not in shown


def everything_in(value: object, seen: set[int]) -> list[str]:
    """The representations of an object and of all that it holds."""
    if id(value) in seen or isinstance(value, type):
        return []
    seen.add(id(value))
    out = [repr(value)]
    inner: list[object] = []
    if isinstance(value, dict):
        inner += [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple | set | frozenset):
        inner += list(value)
    inner += list(getattr(value, "__dict__", {}).values())
    for item in inner:
        out += everything_in(item, seen)
    return out


async def test_no_key_is_kept_shown_or_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with gateway_with({"key": KEY, "subject": "alice", "scopes": ["admin"]}) as gateway:
        assert (await gateway.chat(headers=bearer(KEY))).status == 200
        assert (await gateway.chat(headers={"x-api-key": KEY}, stream=True)).status == 200
        assert (await gateway.chat(headers={**bearer(KEY), "x-api-key": OTHER})).status == 401
        gateway.upstream.reply({"error": {"message": "no", "code": "busy"}}, status=503)
        assert (await gateway.chat(headers=bearer(KEY))).status == 503
        shown = await gateway.get("/admin/v1/pipeline", headers=bearer(KEY))
        pipeline = gateway.process.gateway.pipeline
        (component,) = [c for _, c in pipeline.listed if isinstance(c, AuthStatic)]
        held = {name: value for name, value in vars(component).items() if name != "host"}
        assert_hidden("\n".join(everything_in(held, set())))
        assert_hidden(str(component.config) + component.config.model_dump_json())
        assert_hidden(repr(pipeline.describe()) + shown.raw.decode())
        assert hashlib.sha256(KEY.encode()).hexdigest() not in repr(pipeline.describe()) + shown.raw.decode()
        await gateway.ended(4)
        for exchange in gateway.exchanges:
            assert_hidden(repr(exchange.principal) + repr(exchange.receipt))
        # The upstream has an account of its own; the caller's key is no part of it.
        assert_hidden(repr(gateway.upstream.received))
    assert caplog.records
    assert_hidden(caplog.text)
    assert_hidden("\n".join(repr(vars(record)) for record in caplog.records))


async def test_a_refusal_shows_no_key() -> None:
    async with gateway_with() as gateway:
        wrong = KEY[:-1] + "x"
        answer = await gateway.chat(headers=bearer(wrong))
        assert wrong not in answer.raw.decode() + repr(answer.headers)


# What the configuration may say


def refusal(*keys: dict[str, Any], **envelope: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        blueprint_of(*keys, **envelope)
    assert caught.value.path.startswith("pipeline[0]")
    assert_hidden(str(caught.value))
    return str(caught.value)


def test_the_same_key_twice_is_an_error_that_names_both_callers() -> None:
    said = refusal({"key": KEY, "subject": "alice"}, {"key": KEY, "subject": "bob"})
    assert "'alice' and 'bob' have the same key" in said


def test_the_same_key_in_two_forms_is_an_error() -> None:
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    assert "same key" in refusal({"key": KEY, "subject": "alice"}, {"sha256": digest, "subject": "bob"})


def test_a_short_key_is_an_error_that_does_not_show_it() -> None:
    said = refusal({"key": "too-short-a-key", "subject": "alice"})
    assert "at least 16 characters" in said
    assert "too-short-a-key" not in said


@pytest.mark.parametrize("key", [KEY + "\n", KEY + "\r\n", " " + KEY, KEY + " ", KEY + "\xfc", KEY + "\x00"])
def test_a_key_that_no_header_can_carry_is_an_error(key: str) -> None:
    assert "no header can carry" in refusal({"key": key, "subject": "alice"})


@pytest.mark.parametrize("sha256", ["", "abc", "A" * 64, "g" * 64, "a" * 63, "a" * 65, "a" * 64 + "\n"])
def test_a_digest_that_is_none_is_an_error(sha256: str) -> None:
    assert "64 lower-case hex digits" in refusal({"sha256": sha256, "subject": "alice"})


@pytest.mark.parametrize(
    "key",
    [
        {"subject": "alice"},
        {"key": KEY},
        {"key": KEY, "subject": ""},
        {"key": KEY, "sha256": "a" * 64, "subject": "alice"},
        {"key": None, "sha256": "a" * 64, "subject": "alice"},
        {"key": None, "subject": "alice"},
        {"key": 1234567890123456, "subject": "alice"},
        {"key": KEY, "subject": "alice", "scope": ["admin"]},
        {"key": KEY, "subject": "alice", "models": "small"},
    ],
)
def test_an_entry_that_is_wrong_is_an_error(key: dict[str, Any]) -> None:
    refusal(key)


def test_the_schema_for_editors_shows_key_beside_sha256() -> None:
    caller = mesh_schema(CLASSES)["$defs"]["auth_static.StaticKey"]
    assert all(caller["properties"][name]["description"] for name in ("key", "sha256"))
    assert caller["oneOf"] == [{"required": ["key"]}, {"required": ["sha256"]}]
    assert caller["required"] == ["subject"]


@pytest.mark.parametrize(
    ("key", "right"),
    [
        ({"key": "${TEAM_KEY}"}, True),
        ({"key": KEY}, True),
        ({"sha256": "a" * 64}, True),
        ({"sha256": "${file:/run/secrets/digest}"}, True),
        ({}, False),
        ({"key": KEY, "sha256": "a" * 64}, False),
        ({"key": None, "sha256": "a" * 64}, False),
        ({"key": "too-short"}, False),
        ({"key": " " + KEY}, False),
        ({"sha256": "A" * 64}, False),
        ({"sha256": ""}, False),
    ],
)
def test_an_editor_marks_what_the_gateway_refuses(key: dict[str, Any], right: bool) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    document = mesh({**key, "subject": "alice"})
    assert jsonschema.Draft202012Validator(mesh_schema(CLASSES)).is_valid(document) is right
    if "${" not in str(key):
        with nullcontext() if right else pytest.raises(ConfigError):
            blueprint_of({**key, "subject": "alice"})


def test_no_keys_are_an_error() -> None:
    with pytest.raises(ConfigError):
        draft(
            validate(MeshConfig, {"pipeline": [{"auth_static": {"keys": []}}]}, (), None),
            installed={},
            classes=CLASSES,
        )


def test_shadow_is_refused() -> None:
    assert "shadow" in refusal(mode="shadow")


def test_a_key_comes_from_the_environment_and_a_missing_one_is_an_error(tmp_path: Any) -> None:
    path = tmp_path / "mesh.yaml"
    path.write_text("pipeline:\n  - auth_static:\n      keys:\n        - {key: ${TEAM_KEY}, subject: team}\n")
    with pytest.raises(ConfigError, match=r"mesh\.yaml:4: .*TEAM_KEY"):
        load(path, {})
    document = load(path, {"TEAM_KEY": KEY})
    config = validate(MeshConfig, document.value, (), document)
    (part,) = draft(config, document, installed={}, classes=CLASSES).listed
    assert part.settings.keys[0].sha256 == hashlib.sha256(KEY.encode()).hexdigest()
    assert_hidden(repr(part))


def test_it_lets_a_gateway_listen_on_every_address() -> None:
    beyond = {"server": {"host": "0.0.0.0"}}
    with pytest.raises(ConfigError, match="no authenticator"):
        draft(validate(MeshConfig, beyond, (), None), installed={}, classes=CLASSES)
    with pytest.raises(ConfigError, match="no authenticator"):
        draft(validate(MeshConfig, {**beyond, **mesh(mode="off")}, (), None), installed={}, classes=CLASSES)
    assert draft(validate(MeshConfig, {**beyond, **mesh()}, (), None), installed={}, classes=CLASSES)


async def test_it_stands_above_what_needs_to_know_who_calls() -> None:
    class NeedsPrincipal(Trace):
        requires = {"on_request": ("principal",)}

    classes = {**CLASSES, "trace": NeedsPrincipal}
    listed = mesh()["pipeline"]
    draft(validate(MeshConfig, {"pipeline": [*listed, "trace"]}, (), None), installed={}, classes=classes)
    with pytest.raises(ConfigError, match="principal"):
        draft(validate(MeshConfig, {"pipeline": ["trace", *listed]}, (), None), installed={}, classes=classes)


async def test_it_passes_the_conformance_checks() -> None:
    settings = {"keys": [{"key": "sk-conformance-0123456789", "subject": "conformance"}]}
    await check_component(lambda: (AuthStatic, settings))

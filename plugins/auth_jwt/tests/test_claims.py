"""What claims mean: who is calling, and what the table of roles lets them do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lmg import Principal
from lmg_auth_jwt.claims import ClaimsReader, Roles, claim_at
from lmg_auth_jwt.config import ClaimsConfig, RoleConfig
from lmg_auth_jwt.tokens import TokenFault

TABLE = {
    "reader": {"models": ["small", "gpt-*"], "operations": ["chat"], "budget_class": "low"},
    "builder": {"models": ["large"], "operations": ["chat", "embeddings"], "scopes": ["deploy"]},
    "operator": {"scopes": ["admin"], "budget_class": "ops"},
}


def reader(
    paths: dict[str, Any] | None = None,
    table: dict[str, Any] | None = None,
    default: str | None = None,
    **more: Any,
) -> ClaimsReader:
    roles = Roles({name: RoleConfig(**entry) for name, entry in (table or {}).items()}, default)
    settings: dict[str, Any] = {"tenant": "home", "tenants": None, "admin_scope": None, **more}
    return ClaimsReader(ClaimsConfig(**(paths or {})), roles, issuer="https://id.example", **settings)


def principal(claims: dict[str, Any], *args: Any, **more: Any) -> Principal:
    return reader(*args, **more).principal({"sub": "alice", **claims}, 5.0, "k1")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("a", {"b": {"c": 1}}),
        ("a.b", {"c": 1}),
        ("a.b.c", 1),
        ("a.b.c.d", None),
        ("x", None),
        ("a.x", None),
        ("https://acme.example/tenant", "acme"),
        ("list.0", None),
        ("", None),
    ],
)
def test_a_path_leads_to_a_claim(path: str, value: Any) -> None:
    claims = {"a": {"b": {"c": 1}}, "https://acme.example/tenant": "acme", "list": [1]}
    assert claim_at(claims, path) == value


def test_the_claims_of_a_keycloak_token() -> None:
    claims = {
        "org": {"tenant": "acme", "department": "research", "level": 3, "cleared": True},
        "realm_access": {"roles": ["reader", "offline_access"]},
        "groups": ["/staff", "/staff/research"],
        "scope": "openid profile mesh.read",
        "llm": {"models": "small gpt-4o"},
    }
    paths = {
        "tenant": "org.tenant",
        "roles": "realm_access.roles",
        "models": "llm.models",
        "attributes": {
            "department": "org.department",
            "level": "org.level",
            "cleared": "org.cleared",
            "in": "groups",
            "no": "x",
        },
    }
    found = principal(claims, paths)
    assert found == Principal(
        "alice",
        "acme",
        frozenset({"reader", "offline_access"}),
        frozenset({"/staff", "/staff/research"}),
        frozenset({"openid", "profile", "mesh.read"}),
        frozenset({"small", "gpt-4o"}),
        "https://id.example",
        "k1",
        5.0,
        attributes={
            "department": "research",
            "level": "3",
            "cleared": "true",
            "in": ("/staff", "/staff/research"),
        },
    )


@pytest.mark.parametrize(
    ("roles", "models", "operations", "budget_class", "scopes"),
    [
        (["reader"], {"small", "gpt-*"}, {"chat"}, "low", set()),
        (["builder"], {"large"}, {"chat", "embeddings"}, "", {"deploy"}),
        (["builder", "reader"], {"small", "gpt-*", "large"}, {"chat", "embeddings"}, "low", {"deploy"}),
        (["operator"], None, None, "ops", {"admin"}),
        (["operator", "reader"], None, None, "low", {"admin"}),
        (["stranger"], set(), set(), "", set()),
        ([], set(), set(), "", set()),
        (["Reader"], set(), set(), "", set()),
    ],
)
def test_roles_grant_what_the_table_says(
    roles: list[str],
    models: set[str] | None,
    operations: set[str] | None,
    budget_class: str,
    scopes: set[str],
) -> None:
    found = principal({"roles": roles}, None, TABLE)
    assert (found.models, found.operations) == (models, operations)
    assert (found.budget_class, found.scopes) == (budget_class, scopes)
    assert found.roles == set(roles)


def test_a_default_role_is_for_those_who_hold_none() -> None:
    assert principal({"roles": ["x"]}, None, TABLE, "reader").models == {"small", "gpt-*"}
    assert principal({"roles": ["builder"]}, None, TABLE, "reader").models == {"large"}


@pytest.mark.parametrize(
    ("token", "roles", "models"),
    [
        (["small", "gpt-4o", "other"], ["reader"], {"small", "gpt-4o"}),
        (["*"], ["reader"], {"small", "gpt-*"}),
        (["gpt-4*"], ["reader"], {"gpt-4*"}),
        (["*-mini"], ["reader"], set()),
        (["small"], ["operator"], {"small"}),
        (None, ["reader"], set()),
        ([], ["operator"], set()),
        (["small"], [], set()),
    ],
)
def test_a_token_s_own_list_narrows_what_roles_allow(token: Any, roles: list[str], models: set[str]) -> None:
    claims = {"roles": roles, **({} if token is None else {"models": token})}
    assert principal(claims, {"models": "models"}, TABLE).models == models


def test_a_scope_of_the_token_opens_the_admin_api_only_where_it_is_named() -> None:
    claims = {"scope": "admin mesh.admin read"}
    assert principal(claims).scopes == {"mesh.admin", "read"}
    assert principal(claims, admin_scope="mesh.admin").scopes == {"mesh.admin", "read", "admin"}
    assert principal({"scope": "read"}, admin_scope="mesh.admin").scopes == {"read"}
    assert principal(claims, admin_scope="admin").scopes == {"mesh.admin", "read", "admin"}


def test_an_issuer_speaks_for_its_tenants_alone() -> None:
    paths = {"tenant": "org"}
    assert principal({"org": "acme"}, paths, tenants=["acme"]).tenant == "acme"
    for claims in ({"org": "other"}, {"org": ["acme"]}, {}):
        with pytest.raises(TokenFault):
            principal(claims, paths, tenants=["acme"])
    assert principal({"org": "other"}).tenant == "home"


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": 1},
        {"sub": ""},
        {"sub": None},
        {"sub": "a" * 257},
        {"sub": "a\x00b"},
        {"sub": "a\u202eb"},
        {"roles": 1},
        {"roles": [1]},
        {"roles": ["a", None]},
        {"roles": [["a"]]},
        {"roles": ["a"] * 501},
        {"roles": ["a" * 257]},
        {"groups": {"a": 1}},
        {"scope": 1},
        {"scope": True},
        {"level": "a" * 257},
        {"level": ["a", 1]},
    ],
)
def test_claims_of_the_wrong_kind_or_size_are_refused(claims: dict[str, Any]) -> None:
    with pytest.raises(TokenFault):
        principal(claims, {"attributes": {"level": "level"}})


def test_the_order_of_a_list_does_not_change_who_calls() -> None:
    paths = {"attributes": {"of": "of"}}
    one = principal({"roles": ["a", "b"], "of": ["x", "y"]}, paths)
    assert one == principal({"roles": "b a", "of": ["y", "x"]}, paths)


async def test_the_kernel_holds_callers_to_their_models_and_operations(kit: Any) -> None:
    signer = kit.Signer()
    async with kit.gateway(
        kit.static(signer), roles=TABLE, models=["small", "large", "text-embedding-3-small"]
    ) as gateway:
        caller = kit.bearer(signer.token(roles=["reader"]))
        assert (await gateway.chat(model="small", headers=caller)).status == 200
        answer = await gateway.chat(model="large", headers=caller)
        assert (answer.status, answer.error["code"]) == (403, "model_not_allowed")
        body = {"model": "small", "input": "hello"}
        answer = await gateway.request(body, path="/v1/embeddings", headers=caller)
        assert answer.status == 403
        listed = await gateway.get("/v1/models", headers=caller)
        assert [model["id"] for model in listed.json["data"]] == ["small"]
        assert (await gateway.chat(model="small", headers=kit.bearer(signer.token()))).status == 403
        assert len(gateway.upstream.received) == 1


async def test_a_role_opens_the_admin_api(kit: Any) -> None:
    signer = kit.Signer()
    async with kit.gateway(kit.static(signer), roles=TABLE) as gateway:
        operator, other = (
            kit.bearer(signer.token(roles=[role], scope="admin")) for role in ("operator", "reader")
        )
        shown = await gateway.get("/admin/v1/auth_jwt/issuers", headers=operator)
        assert shown.status == 200, shown.raw
        assert shown.json["issuers"][0]["keys"] == [{"kid": "k1", "algorithms": ["ES256"]}]
        assert (await gateway.get("/admin/v1/auth_jwt/issuers", headers=other)).status == 403


async def test_a_tenant_that_is_missing_is_a_401(kit: Any, refused: Callable[[Any], None]) -> None:
    signer = kit.Signer()
    async with kit.gateway(kit.static(signer, claims={"tenant": "org"})) as gateway:
        refused(await gateway.chat(headers=kit.bearer(signer.token())))
        assert (await gateway.chat(headers=kit.bearer(signer.token(org="acme")))).status == 200

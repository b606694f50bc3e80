"""The admin API: what operators see and do, and what a tenant's own admin cannot."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import OPERATOR, Gateway, bearer


async def tenant_admin(gateway: Gateway, **more: Any) -> dict[str, str]:
    asked = {"tenant": "acme", "scopes": ["admin:auth_keys", "batch"], "roles": ["dev"], **more}
    return bearer((await gateway.issue("boss", **asked))["key"])


async def test_the_list_shows_every_field_and_no_digest(database: str) -> None:
    async with Gateway(database) as gateway:
        made = await gateway.issue("alice", tenant="acme", expires_in_s=60)
        text = made.pop("key")
        answer = await gateway.admin("GET", "keys")
        assert answer.json == {"keys": [made], "next": None}
        assert text not in answer.raw.decode()
        assert "digest" not in answer.raw.decode()
        assert gateway.component._directory.get(made["id"]).digest.hex() not in answer.raw.decode()  # type: ignore[union-attr]
        assert made["created_by"] == "default/operator"
        assert (await gateway.admin("GET", f"keys/{made['id']}")).json == made


async def test_pages_hold_every_key_once_the_newest_first(database: str) -> None:
    async with Gateway(database) as gateway:
        made = [(await gateway.issue(f"s{n}", tenant=f"t{n % 2}"))["id"] for n in range(7)]
        seen: list[str] = []
        following: str | None = ""
        while following is not None:
            page = (
                await gateway.admin(
                    "GET", f"keys?limit=3&before={following}" if following else "keys?limit=3"
                )
            ).json
            seen += [key["id"] for key in page["keys"]]
            following = page["next"]
        assert seen == made[::-1]
        of_one = (await gateway.admin("GET", "keys?tenant=t1")).json["keys"]
        assert [key["id"] for key in of_one] == [made[5], made[3], made[1]]
        of_caller = (await gateway.admin("GET", "keys?subject=s4")).json["keys"]
        assert [key["id"] for key in of_caller] == [made[4]]


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "limit=x", "limit=%C2%B2", "limit=-1", "before=x", "before="]
)
async def test_a_query_that_is_wrong_is_a_400(database: str, query: str) -> None:
    async with Gateway(database) as gateway:
        assert (await gateway.admin("GET", f"keys?{query}")).status == 400


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "subject"),
        ({"subject": ""}, "subject"),
        ({"subject": "x" * 257}, "subject"),
        ({"subject": "x", "id": "mine"}, "id"),
        ({"subject": "x", "created_by": "somebody"}, "created_by"),
        ({"subject": "x", "digest": "00"}, "digest"),
        ({"subject": "x", "roles": "dev"}, "roles"),
        ({"subject": "x", "operations": ["everything"]}, "operations.0"),
        ({"subject": "x", "expires_in_s": 0}, "expires_in_s"),
        ({"subject": "x", "expires_in_s": 1e300}, "expires_in_s"),
        ({"subject": "x", "expires_in_s": "60"}, "expires_in_s"),
    ],
)
async def test_only_what_the_model_names_can_be_written(database: str, body: Any, param: str) -> None:
    async with Gateway(database) as gateway:
        answer = await gateway.admin("POST", "keys", body)
        assert (answer.status, answer.error["param"]) == (400, param)
        assert (await gateway.admin("GET", "keys")).json["keys"] == []


@pytest.mark.parametrize("key_id", ["AAAAAAAAAAAA", "x", "'%20OR%201=1%20--", "%C3%A9AAAAAAAAAAA"])
async def test_a_key_that_is_not_there_is_a_404(database: str, key_id: str) -> None:
    async with Gateway(database) as gateway:
        for method, path, body in (
            ("GET", f"keys/{key_id}", b""), ("DELETE", f"keys/{key_id}", b""), ("POST", f"keys/{key_id}/rotate", {}),
        ):  # fmt: skip
            answer = await gateway.admin(method, path, body)
            assert (answer.status, answer.error["code"]) == (404, "no_such_key")


async def test_text_that_looks_like_sql_is_text(database: str) -> None:
    async with Gateway(database) as gateway:
        subject = "'; DROP TABLE lmg_auth_keys; --"
        made = await gateway.issue(subject, attributes={"'": '"; --'})
        shown = (await gateway.admin("GET", f"keys/{made['id']}")).json
        assert (shown["subject"], shown["attributes"]) == (subject, {"'": '"; --'})


async def test_revoking_twice_changes_nothing_the_second_time(database: str) -> None:
    async with Gateway(database) as gateway:
        made = await gateway.issue()
        first = await gateway.admin("DELETE", f"keys/{made['id']}")
        again = await gateway.admin("DELETE", f"keys/{made['id']}")
        assert first.json == again.json
        assert (again.status, again.json["status"], again.json["revoked_by"]) == (
            200,
            "revoked",
            "default/operator",
        )


async def test_every_change_is_audited_and_no_event_holds_a_key(database: str) -> None:
    async with Gateway(database) as gateway:
        made = await gateway.issue()
        new = (await gateway.admin("POST", f"keys/{made['id']}/rotate", {})).json
        await gateway.admin("DELETE", f"keys/{new['id']}")
        await gateway.admin("DELETE", "keys/AAAAAAAAAAAA")
        done = [(event.action, event.resource, event.outcome) for event in gateway.audited]
        assert done == [
            ("POST auth_keys/keys", "/auth_keys/keys", "success"),
            ("POST auth_keys/keys/{id}/rotate", f"/auth_keys/keys/{made['id']}/rotate", "success"),
            ("DELETE auth_keys/keys/{id}", f"/auth_keys/keys/{new['id']}", "success"),
            ("DELETE auth_keys/keys/{id}", "/auth_keys/keys/AAAAAAAAAAAA", "denied"),
        ]
        shown = repr(gateway.audited)
        assert made["key"] not in shown
        assert new["key"] not in shown


# A tenant's own admin


async def test_a_tenants_admin_sees_and_touches_only_its_own_tenant(database: str) -> None:
    async with Gateway(database) as gateway:
        boss = await tenant_admin(gateway)
        foreign = await gateway.issue("eve", tenant="rival")
        own = (await gateway.admin("POST", "keys", {"subject": "alice"}, boss)).json
        assert own["tenant"] == "acme"
        seen = (await gateway.admin("GET", "keys", headers=boss)).json["keys"]
        assert {key["subject"] for key in seen} == {"alice", "boss"}
        assert (await gateway.admin("GET", "keys?tenant=rival", headers=boss)).json["keys"] == []
        for method, path, body in (
            ("GET", f"keys/{foreign['id']}", b""), ("DELETE", f"keys/{foreign['id']}", b""),
            ("POST", f"keys/{foreign['id']}/rotate", {}),
        ):  # fmt: skip
            assert (await gateway.admin(method, path, body, boss)).status == 404
        assert await gateway.status(foreign["key"]) == 200
        assert (await gateway.admin("DELETE", f"keys/{own['id']}", headers=boss)).status == 200
        assert await gateway.status(own["key"]) == 401


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"tenant": "rival"}, "tenant"),
        ({"scopes": ["admin"]}, "scopes"),
        ({"scopes": ["admin:read"]}, "scopes"),
        ({"roles": ["owner"]}, "roles"),
        ({"models": ["large"]}, "models"),
        ({}, "models"),
        ({"models": ["sm*"], "operations": ["embeddings"]}, "operations"),
        ({"models": ["sm*"]}, "operations"),
        ({"models": ["sm*"], "operations": ["chat"], "attributes": {"clearance": "secret"}}, "attributes"),
        ({"models": ["sm*"], "operations": ["chat"], "attributes": {"floors": ["1", "3"]}}, "attributes"),
        ({"models": ["sm*"], "operations": ["chat"], "budget_class": "unlimited"}, "budget_class"),
        ({"models": ["sm*"], "operations": ["chat"], "budget_class": ""}, "budget_class"),
    ],
)
async def test_nobody_grants_what_they_do_not_hold(database: str, asked: dict[str, Any], param: str) -> None:
    async with Gateway(database) as gateway:
        boss = await tenant_admin(
            gateway,
            models=["sm*"],
            operations=["chat"],
            budget_class="small",
            attributes={"floors": ["1", "2"]},
        )
        answer = await gateway.admin("POST", "keys", {"subject": "x", **asked}, boss)
        assert (answer.status, answer.error["code"], answer.error["param"]) == (
            403,
            "grant_exceeds_own",
            param,
        )
        fine = {"models": ["sm*"], "operations": ["chat"], "roles": ["dev"], "attributes": {"floors": "2"}}
        granted = await gateway.admin("POST", "keys", {"subject": "x", **fine}, boss)
        assert granted.status == 200
        assert granted.json["budget_class"] == "small"


async def test_nobody_gets_what_they_do_not_hold_by_rotating_it(database: str) -> None:
    async with Gateway(database) as gateway:
        boss = await tenant_admin(gateway)
        root = await gateway.issue("root", tenant="acme", scopes=["admin"])
        answer = await gateway.admin("POST", f"keys/{root['id']}/rotate", {}, boss)
        assert (answer.status, answer.error["code"]) == (403, "grant_exceeds_own")
        assert (await gateway.admin("GET", f"keys/{root['id']}")).json["rotated_to"] is None


@pytest.mark.parametrize("scopes", [[], ["admin:other"], ["auth_keys"], ["admin:read"]])
async def test_without_the_scope_nothing_is_changed(database: str, scopes: list[str]) -> None:
    async with Gateway(database) as gateway:
        key = bearer((await gateway.issue("mallory", scopes=scopes))["key"])
        assert (await gateway.admin("POST", "keys", {"subject": "x"}, key)).status == 403
        assert (await gateway.admin("GET", "keys", headers=key)).status == (
            200 if scopes == ["admin:read"] else 403
        )
        assert (await gateway.admin("GET", "keys", headers=OPERATOR)).status == 200


async def test_a_database_that_is_away_is_a_503_that_names_nothing(database: str, tmp_path: Any) -> None:
    async with Gateway(database) as gateway:
        made = await gateway.issue()
        (tmp_path / "keys.sqlite").write_bytes(b"not a database" * 1000)
        for method, path, body in (
            ("GET", "keys", b""), ("POST", "keys", {"subject": "x"}), ("DELETE", f"keys/{made['id']}", b""),
        ):  # fmt: skip
            answer = await gateway.admin(method, path, body)
            assert (answer.status, answer.error["code"]) == (503, "store_unreachable")
            assert b"sqlite" not in answer.raw.lower()
        assert await gateway.status(made["key"]) == 200

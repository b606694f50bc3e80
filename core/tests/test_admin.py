"""The admin API: off unless configured, authenticated by itself, a list of what may be written, every change audited."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field
from starlette.routing import Route

from lmg import (
    AdminCall,
    AdminRoute,
    Component,
    ComponentConfig,
    ConfigError,
    Deny,
    Exchange,
    Principal,
    Refusal,
)
from lmg.admin import check_grant, holds
from lmg.config import MeshConfig, validate
from lmg.credentials import credential_of
from lmg.dialects.registry import DIALECTS
from lmg.pipeline import draft
from lmg.server.admin import Admin
from lmg.server.rest import build
from lmg.testing import ChatAnswer, Harness


class KeysConfig(ComponentConfig):
    keys: dict[str, list[str]] = Field(
        default_factory=dict, description="Scopes by key; the key is the subject, too."
    )


class Keys(Component):
    Config = KeysConfig
    provides = {"on_request": ("principal",)}
    modes = frozenset({"enforce", "off"})

    def on_request(self, exchange: Exchange) -> None:
        key = credential_of(exchange.head)
        if key in self.config.keys:
            exchange.set_fact(
                "principal", Principal(key, "acme", scopes=frozenset(self.config.keys[key]), issuer=self.name)
            )


class Written(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=8)
    size: int = 1


class Things(Component):
    """Has routes."""

    async def _made(self, call: AdminCall) -> Any:
        if call.body.name == "taken":
            raise Refusal(409, "taken", "There is one already.")
        if call.body.name == "broken":
            raise RuntimeError("secret of the handler")
        self.made = {"by": call.principal.subject, "name": call.body.name, "size": call.body.size}
        return self.made

    async def _shown(self, call: AdminCall) -> Any:
        return {"id": call.params["id"], "query": dict(call.query)}

    def admin_routes(self) -> list[AdminRoute]:
        return [
            AdminRoute("POST", "", self._made, Written),
            AdminRoute("GET", "{id}", self._shown),
            AdminRoute("DELETE", "{id}/parts/{part}", self._removed),
        ]

    async def _removed(self, call: AdminCall) -> Any:
        return dict(call.params)


class FourEyes(Component):
    """A change needs a second person."""

    asked: ClassVar[list[Any]] = []

    def on_request(self, exchange: Exchange) -> Deny | None:
        asked = exchange.fact("admin")
        self.asked.append(asked)
        free = asked.method == "GET" or asked.component == "approvals"
        return None if free or asked.approvers else Deny(403, "needs_approval")


CLASSES: dict[str, type[Any]] = {"keys": Keys, "things": Things, "four_eyes": FourEyes}
OPERATORS = {
    "root": ["admin"],
    "second": ["admin"],
    "reader": ["admin:read"],
    "keeper": ["admin:things"],
    "nobody": ["adm"],
}


def mesh(*policies: Any, **admin: Any) -> dict[str, Any]:
    return {
        "admin": {"pipeline": [{"keys/admin": {"keys": OPERATORS}}, *policies], **admin},
        "pipeline": [{"keys": {"keys": {"app": [], "app-root": ["admin"]}}}, "things"],
    }  # fmt: skip


async def call(gateway: Harness, method: str, path: str, key: str = "root", body: object = b"") -> ChatAnswer:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return await gateway.request(body, path=f"/admin/v1/{path}", method=method, headers=headers)


async def test_without_its_table_there_is_no_admin_api() -> None:
    async with Harness({**mesh(), "admin": None}, classes=CLASSES) as gateway:
        for key in ("app-root", "app", ""):
            for path in ("pipeline", "receipts", "things/1"):
                assert (await call(gateway, "GET", path, key)).status == 404


async def test_it_has_authenticators_of_its_own_and_those_of_the_pipeline_do_not_open_it() -> None:
    async with Harness(mesh(), classes=CLASSES) as gateway:
        assert (await call(gateway, "GET", "pipeline", "root")).status == 200
        assert (await call(gateway, "GET", "pipeline", "app-root")).status == 401
        assert (await gateway.chat(headers={"authorization": "Bearer root"})).status == 401
        assert (await gateway.chat(headers={"authorization": "Bearer app"})).status == 200


async def test_without_authenticators_of_its_own_it_takes_the_pipelines() -> None:
    async with Harness({**mesh(), "admin": {}}, classes=CLASSES) as gateway:
        assert (await call(gateway, "GET", "pipeline", "app-root")).status == 200
        assert (await call(gateway, "GET", "pipeline", "app")).status == 403
        assert (await call(gateway, "GET", "pipeline", "")).status == 401


async def test_on_a_port_of_its_own_the_gateways_port_has_none_and_it_serves_no_models() -> None:
    async with Harness(mesh(port=0), classes=CLASSES) as gateway:
        front = gateway.process.port
        assert gateway.process.admin_port != front
        assert (await call(gateway, "GET", "pipeline")).status == 404
        gateway.process._sockets, gateway.process._admin_sockets = (
            gateway.process._admin_sockets,
            gateway.process._sockets,
        )
        assert (await call(gateway, "GET", "pipeline")).status == 200
        assert (await call(gateway, "GET", "pipeline", "")).status == 401
        assert (await gateway.get("/readyz")).status == 200
        for path in ("/v1/models", "/v1/chat/completions"):
            assert (await gateway.get(path, headers={"authorization": "Bearer root"})).status == 404


@pytest.mark.parametrize(
    ("key", "method", "path", "status"),
    [
        ("reader", "GET", "pipeline", 200), ("reader", "GET", "things/1", 200), ("reader", "POST", "things", 403),
        ("keeper", "GET", "things/1", 200), ("keeper", "POST", "things", 200), ("keeper", "GET", "receipts", 403),
        ("root", "GET", "nothing", 404), ("root", "PUT", "things", 405), ("root", "GET", "things", 405),
        ("nobody", "GET", "nothing", 403), ("nobody", "GET", "pipeline", 403), ("", "GET", "nothing", 401),
        ("root", "GET", "things/", 404), ("root", "DELETE", "things/1/parts/2", 200), ("root", "GET", "things/1/2", 404),
    ],
)  # fmt: skip
async def test_a_scope_opens_what_it_names_and_no_more(key: str, method: str, path: str, status: int) -> None:
    async with Harness(mesh(), classes=CLASSES) as gateway:
        body = {"name": "a"} if method == "POST" else b""
        assert (await call(gateway, method, path, key, body)).status == status


async def test_parts_of_the_path_and_the_query_reach_the_handler() -> None:
    async with Harness(mesh(), classes=CLASSES) as gateway:
        assert (await call(gateway, "GET", "things/a.b?c=d")).json == {"id": "a.b", "query": {"c": "d"}}
        assert (await call(gateway, "DELETE", "things/1/parts/2")).json == {"id": "1", "part": "2"}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"name": "a", "scopes": ["admin"]}, "scopes"), ({"name": "a", "__class__": "x"}, "__class__"), ({"name": ""}, "name"),
        ({"name": "a", "size": "much"}, "size"), ({}, "name"), ([], "body"), ("text", "body"), ({"name": "a", "x" * 99: 1}, "x" * 99),
    ],
)  # fmt: skip
async def test_only_the_fields_of_a_list_can_be_written(body: Any, param: str) -> None:
    async with Harness(mesh(), classes=CLASSES) as gateway:
        refused = await call(gateway, "POST", "things", body=body)
        assert (refused.status, refused.error["code"], refused.error["param"]) == (
            400,
            "invalid_request",
            param,
        )
        assert not hasattr(gateway.process.gateway.pipeline.listed[-1][1], "made")


async def test_a_route_without_a_body_takes_none_and_what_is_no_json_is_refused() -> None:
    async with Harness(mesh(), classes=CLASSES) as gateway:
        assert (await call(gateway, "DELETE", "things/1/parts/2", body={"a": 1})).status == 400
        assert (await call(gateway, "POST", "things", body=b"{")).error["code"] == "invalid_json"
        assert (await call(gateway, "POST", "things", body=b"{}" + b" " * (1 << 20))).status == 413


async def test_every_change_is_audited_whether_it_happened_or_not() -> None:
    async with Harness(mesh(), classes=CLASSES) as gateway:
        await call(gateway, "GET", "things/1")
        for name in ("a", "taken", "broken", "far too long"):
            await call(gateway, "POST", "things", body={"name": name})
        await call(gateway, "DELETE", "things/1/parts/2", "keeper")
        told = [(e.actor, e.tenant, e.action, e.resource, e.outcome, e.code) for e in gateway.audited]
        assert told == [
            ("root", "acme", "POST things", "/things", "success", ""),
            ("root", "acme", "POST things", "/things", "denied", "taken"),
            ("root", "acme", "POST things", "/things", "failed", "internal_error"),
            ("root", "acme", "POST things", "/things", "denied", "invalid_request"),
            ("keeper", "acme", "DELETE things/{id}/parts/{part}", "/things/1/parts/2", "success", ""),
        ]
        assert all(event.source == "127.0.0.1" and event.request_id and event.at for event in gateway.audited)


async def test_a_failure_of_a_handler_or_of_a_sink_tells_the_caller_nothing() -> None:
    async with Harness(mesh(), classes=CLASSES) as gateway:

        def broken(event: object) -> None:
            raise RuntimeError

        gateway.host.audit_sinks.insert(0, broken)
        failed = await call(gateway, "POST", "things", body={"name": "broken"})
        assert (failed.status, failed.error["code"]) == (500, "internal_error")
        assert b"secret" not in failed.raw
        assert (await call(gateway, "POST", "things", body={"name": "a"})).status == 200
        assert len(gateway.audited) == 2


# Four eyes


async def test_a_change_that_a_second_person_approves_is_made_once() -> None:
    async with Harness(mesh("four_eyes"), classes=CLASSES) as gateway:
        refused = await call(gateway, "POST", "things", body={"name": "a", "size": 2})
        assert (refused.status, refused.error["code"]) == (403, "needs_approval")
        change = refused.headers["x-lmg-change"]
        shown = (await call(gateway, "GET", f"approvals/{change}", "second")).json
        assert (shown["actor"], shown["method"], shown["path"]) == ("root", "POST", "/things")
        assert shown["body"] == {"name": "a", "size": 2}
        own = await call(gateway, "POST", f"approvals/{change}", "root")
        assert (own.status, own.error["code"]) == (403, "own_change")
        approved = await call(gateway, "POST", f"approvals/{change}", "second")
        assert approved.json == {"change": change, "approvers": ["second"]}
        # Another body, another path or another caller is another change.
        assert (await call(gateway, "POST", "things", body={"name": "a", "size": 3})).status == 403
        assert (await call(gateway, "POST", "things", "second", body={"name": "a", "size": 2})).status == 403
        # The order of members is no difference.
        done = await call(gateway, "POST", "things", body=b'{"size": 2, "name": "a"}')
        assert (done.status, done.json["by"]) == (200, "root")
        assert gateway.audited[-1].approvers == ("second",)
        assert (await call(gateway, "POST", "things", body={"name": "a", "size": 2})).status == 403


async def test_what_nobody_was_refused_cannot_be_approved() -> None:
    async with Harness(mesh(), classes=CLASSES) as gateway:
        assert (
            await call(gateway, "POST", "approvals/0123456789abcdef0123456789abcdef", "second")
        ).status == 404
        assert (await call(gateway, "GET", "approvals/x", "second")).status == 404


# Configuration


def refusal(config: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        draft(validate(MeshConfig, config, (), None), installed={}, classes=CLASSES)
    return str(caught.value)


def test_a_pipeline_of_its_own_needs_an_authenticator() -> None:
    assert "no authenticator" in refusal({"admin": {"pipeline": ["four_eyes"]}})
    assert "listed in the pipeline, too" in refusal({"admin": {"pipeline": ["keys"]}, "pipeline": ["keys"]})
    assert "listed twice" in refusal({"admin": {"pipeline": ["keys", "keys"]}})
    assert "one name" in refusal({"admin": {"pipeline": [{"keys": {}, "four_eyes": {}}]}})
    assert "port of its own" in refusal({"admin": {"tls": {"cert_file": "a", "key_file": "b"}}})


# Grants


def test_nobody_grants_what_they_do_not_hold() -> None:
    root = Principal("root", "ops", scopes=frozenset({"admin"}))
    check_grant(root, tenant="other", scopes=["admin"], roles=["any"])
    lead = Principal(
        "lead", "acme", frozenset({"dev"}), scopes=frozenset({"admin:things", "chat"}), models=frozenset({"gpt-*", "echo"}),
        operations=frozenset({"chat"}),
    )  # fmt: skip
    check_grant(
        lead, tenant="acme", scopes=["chat"], roles=["dev"], models=["echo", "gpt-5"], operations=["chat"]
    )
    check_grant(lead, models=["gpt-*"], operations=[])
    for beyond, name in (
        ({"tenant": "other"}, "tenant"), ({"scopes": ["admin"]}, "scopes"), ({"roles": ["ops"]}, "roles"), ({}, "models"),
        ({"models": ["*"]}, "models"), ({"models": ["gpt-5*"]}, "models"), ({"models": ["claude"]}, "models"),
        ({"models": ["echo"], "operations": None}, "operations"), ({"models": ["echo"], "operations": ["images"]}, "operations"),
        ({"models": ["echo"], "attributes": {"department": "sales"}}, "attributes"), ({"models": ["echo"], "budget_class": "gold"}, "budget_class"),
    ):  # fmt: skip
        with pytest.raises(Refusal, match=name):
            check_grant(
                lead,
                **{"models": ["echo"], "operations": ["chat"], **beyond}
                if beyond
                else {"operations": ["chat"]},
            )  # type: ignore[arg-type]


NAMES = st.frozensets(st.sampled_from(["a", "b", "c", "admin", "admin:things"]), max_size=4)


@given(held=NAMES, given_scopes=NAMES, roles=NAMES, granted_roles=NAMES)
def test_a_chain_of_grants_never_gains(
    held: frozenset[str], given_scopes: frozenset[str], roles: frozenset[str], granted_roles: frozenset[str]
) -> None:
    holder = Principal("x", "acme", roles, scopes=held)
    try:
        check_grant(holder, tenant="acme", scopes=given_scopes, roles=granted_roles)
    except Refusal:
        return
    assert "admin" in held or (given_scopes <= held and granted_roles <= roles)
    for method in ("GET", "POST"):
        assert not holds(Principal("y", scopes=given_scopes), "things", method) or holds(
            holder, "things", method
        )


# No route answers without identity


PUBLIC = {"/livez", "/readyz"}


@pytest.mark.parametrize("key", ["", "wrong", "Basic"])
async def test_no_route_of_the_app_answers_without_identity_unless_it_is_public(key: str) -> None:
    async with (
        Harness(mesh(), classes=CLASSES) as gateway,
        httpx.AsyncClient(base_url=gateway.url, trust_env=False) as client,
    ):
        app = gateway.process.gateway
        hot = [path.decode() for path in DIALECTS]
        rest = [route.path for route in build(app).routes if isinstance(route, Route)]
        assert len(hot) > 5
        assert len(rest) == len(build(app).routes) > 4
        admin = [
            f"/admin/v1/{component}/{route.path.strip('/')}".rstrip("/").replace("{", "").replace("}", "")
            for component, route in Admin(app).routes(app.pipeline)
        ]
        assert len(admin) > 6
        headers = {
            "": {},
            "wrong": {"authorization": "Bearer wrong"},
            "Basic": {"authorization": "Basic cm9vdDpyb290"},
        }[key]
        for path in [
            *hot,
            *admin,
            *(one.replace("{model:path}", "m").replace("{path:path}", "x") for one in rest),
        ]:
            for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE"):
                answer = await client.request(method, path, content=b"{}", headers=headers)
                expected = {200, 405} if path in PUBLIC else {401, 405}
                assert answer.status_code in expected, (method, path, answer.status_code)
        assert not gateway.upstream.received


def test_the_example_of_the_documentation_loads() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "admin.md"
    if not page.exists():
        pytest.skip("the documentation is not beside these tests")
    text = page.read_text().split("```yaml\n")[1].split("```")[0]
    config = validate(MeshConfig, yaml.safe_load(text.replace("${", "$").replace("_KEY}", "_KEY")), (), None)
    assert config.admin is not None
    assert [entry.name for entry in config.admin_entries()] == ["auth_static/operators"]

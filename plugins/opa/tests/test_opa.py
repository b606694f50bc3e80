"""The component in a real gateway: who passes, who does not, and what binds those who do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lmg import ConfigError
from lmg.testing import Harness, check_component
from lmg_opa import Opa, OpaConfig
from lmg_opa.config import InputConfig
from lmg_opa.document import InputPlan

from .conftest import ALLOW_ALL, CLASSES, DENY_ALL, HEADER, Redactor

Write = Callable[..., str]


def mesh(folder: str, *below: Any, **settings: Any) -> dict[str, Any]:
    return {"pipeline": ["caller", {"opa": {"bundle": folder, **settings}}, *below]}


def obliging(text: str) -> str:
    return f"{ALLOW_ALL}\nobligations := {text}\n"


async def test_an_allowed_request_passes_and_a_denied_one_never_reaches_the_model(policy: Write) -> None:
    folder = policy(
        HEADER
        + 'default allow := false\nallow if "engineer" in input.principal.roles\n'
        + 'reasons contains "not_an_engineer" if not engineer\n'
        + 'engineer if "engineer" in input.principal.roles\n'
    )
    async with Harness(mesh(folder), classes=CLASSES) as gateway:
        assert (await gateway.chat()).status == 200
        refused = await gateway.chat(headers={"x-caller": "acme/bob/intern"})
        assert (refused.status, refused.error["code"]) == (403, "policy_denied")
        assert "not_an_engineer" not in refused.raw.decode()
        assert len(gateway.upstream.received) == 1
        await gateway.ended(2)
        assert gateway.exchanges[1].code == "policy_denied"


async def test_reasons_reach_the_caller_where_configured_and_only_in_the_shape_of_codes(
    policy: Write,
) -> None:
    text = DENY_ALL + 'reasons contains "too_late"\nreasons contains input.request.model\n'
    async with Harness(mesh(policy(text), show_reasons=True), classes=CLASSES) as gateway:
        refused = await gateway.chat(model="Ignore all rules <script>")
        assert refused.error["message"] == "The request was refused by policy. Reasons: too_late."


@pytest.mark.parametrize("allow", ['"true"', "1", "[true]", '{"allow": true}'])
async def test_what_is_not_the_boolean_true_lets_nobody_through(policy: Write, allow: str) -> None:
    async with Harness(mesh(policy(HEADER + f"allow := {allow}\n")), classes=CLASSES) as gateway:
        assert (await gateway.chat()).status in (403, 503)
        assert not gateway.upstream.received


async def test_an_undefined_allow_is_a_refusal(policy: Write) -> None:
    async with Harness(
        mesh(policy(HEADER + 'allow if input.request.model == "other"\n')), classes=CLASSES
    ) as gateway:
        refused = await gateway.chat()
        assert (refused.status, refused.error["code"]) == (403, "policy_denied")
        assert not gateway.upstream.received


async def test_a_conflict_in_the_policy_is_a_503_that_tells_nothing(policy: Write) -> None:
    text = (
        HEADER + 'allow := true if input.request.model != ""\nallow := false if input.request.model != "x"\n'
    )
    async with Harness(mesh(policy(text)), classes=CLASSES) as gateway:
        refused = await gateway.chat()
        assert (refused.status, refused.error["code"]) == (503, "policy_unavailable")
        assert "conflict" not in refused.raw.decode()
        assert not gateway.upstream.received


# -- obligations ----------------------------------------------------------------------------------

TWO = {
    "eu": {"region": "eu", "on_prem": True, "priority": 2},
    "us": {"region": "us", "priority": 1},
}


@pytest.mark.parametrize(
    ("obligations", "serves"),
    [
        ('{"regions": ["eu"]}', "eu"),
        ('{"on_prem": true}', "eu"),
        ('{"providers": ["scripted/eu"]}', "eu"),
        ('{"providers": ["scripted/us", "scripted/eu"], "on_prem": false}', "us"),
        ('{"regions": ["us"], "on_prem": true}', None),
        ('{"providers": []}', None),
    ],
)
async def test_bounds_decide_which_provider_is_called(
    policy: Write, obligations: str, serves: str | None
) -> None:
    async with Harness(
        mesh(policy(obliging(obligations))), classes=CLASSES, upstreams=TWO, models=["test-model"]
    ) as gateway:
        answer = await gateway.chat()
        called = {name for name, upstream in gateway.upstreams.items() if upstream.received}
        assert called == ({serves} if serves else set())
        assert answer.status == (200 if serves else 403)


async def test_the_cap_of_answers_is_sent_upstream(policy: Write) -> None:
    async with Harness(mesh(policy(obliging('{"max_output_tokens": 7}'))), classes=CLASSES) as gateway:
        await gateway.chat(max_tokens=500)
        assert gateway.upstream.received[0].json["max_tokens"] == 7


async def test_redaction_and_budget_class_reach_who_carries_them_out(policy: Write) -> None:
    text = obliging('{"redact": ["email"], "budget_class": "trial"}')
    async with Harness(mesh(policy(text), "redactor"), classes=CLASSES) as gateway:
        assert (await gateway.chat()).status == 200
        assert Redactor.seen == [({"redact:email": True, "budget_class": "trial"}, frozenset({"email"}))]


@pytest.mark.parametrize(
    ("obligations", "above", "below"),
    [
        ('{"redact": ["email"]}', [], []),
        ('{"redact": ["email"]}', ["redactor"], []),
        ('{"redact": ["iban"]}', [], ["redactor"]),
        ('{"redact": ["email"]}', [], [{"redactor": {"mode": "shadow"}}]),
        ('{"budget_class": "gold"}', [], []),
        ('{"guards": {"redactor": "off"}}', [], ["redactor"]),
        ('{"guards": {"nobody": "enforce"}}', [], ["redactor"]),
    ],
)
async def test_what_nobody_below_can_carry_out_is_a_refusal(
    policy: Write, obligations: str, above: list[Any], below: list[Any]
) -> None:
    pipeline = ["caller", *above, {"opa": {"bundle": policy(obliging(obligations))}}, *below]
    async with Harness({"pipeline": pipeline}, classes=CLASSES) as gateway:
        refused = await gateway.chat()
        assert (refused.status, refused.error["code"]) == (403, "obligation_unmet")
        assert not gateway.upstream.received


async def test_a_guard_that_is_tightened_carries_out_what_it_is_obliged_to(policy: Write) -> None:
    text = obliging('{"redact": ["email"], "guards": {"redactor": "enforce"}}')
    async with Harness(mesh(policy(text), {"redactor": {"mode": "shadow"}}), classes=CLASSES) as gateway:
        assert (await gateway.chat()).status == 200


async def test_a_guard_in_shadow_enforces_for_whom_the_policy_says_so(policy: Write) -> None:
    text = ALLOW_ALL + 'obligations := {"guards": {"guard": "enforce"}} if input.principal.subject == "bob"\n'
    async with Harness(mesh(policy(text), {"guard": {"mode": "shadow"}}), classes=CLASSES) as gateway:
        assert (await gateway.chat()).status == 200
        assert (await gateway.chat(headers={"x-caller": "acme/bob/engineer"})).error["code"] == "guarded"


async def test_tags_stand_on_the_receipt(policy: Write) -> None:
    text = obliging('{"tags": {"project": "apollo", "tenant": input.principal.tenant}}')
    async with Harness(mesh(policy(text)), classes=CLASSES) as gateway:
        await gateway.chat()
        await gateway.ended(1)
        assert gateway.receipts[0].tags == {"project": "apollo", "tenant": "acme"}


@pytest.mark.parametrize(
    "obligations",
    ['{"watermark": true}', '{"max_output_tokens": "7"}', '{"redact": "email"}', '{"model": "x"}'],
)
async def test_an_unknown_or_malformed_obligation_is_a_refusal(policy: Write, obligations: str) -> None:
    async with Harness(mesh(policy(obliging(obligations)), "redactor"), classes=CLASSES) as gateway:
        refused = await gateway.chat()
        assert (refused.status, refused.error["code"]) == (403, "policy_denied")
        assert not gateway.upstream.received


# -- where it stands --------------------------------------------------------------------------------


async def test_two_instances_both_bind_and_either_refuses(policy: Write) -> None:
    access = policy(obliging('{"regions": ["eu", "us"], "max_output_tokens": 50}'), "access")
    risk = policy(
        HEADER
        + 'default allow := false\nallow if input.risk < 0.9\nobligations := {"regions": ["us"], "max_output_tokens": 90}\n',
        "risk",
    )
    pipeline = [
        "caller",
        {"opa/access": {"bundle": access}},
        "risk",
        {"opa/risk": {"bundle": risk, "facts": ["risk", "signals"]}},
    ]
    async with Harness({"pipeline": pipeline}, classes=CLASSES, upstreams=TWO) as gateway:
        assert (await gateway.chat(max_tokens=70)).status == 200
        assert not gateway.upstreams["eu"].received
        assert gateway.upstreams["us"].received[0].json["max_tokens"] == 50


async def test_without_an_authenticator_the_principal_is_null(policy: Write) -> None:
    folder = policy(HEADER + "default allow := false\nallow if is_null(input.principal)\n")
    async with Harness({"pipeline": [{"opa": {"bundle": folder}}]}, classes=CLASSES) as gateway:
        assert (await gateway.chat()).status == 200


async def test_in_shadow_nothing_is_refused_or_bound_and_what_would_have_been_is_told(policy: Write) -> None:
    text = obliging('{"max_output_tokens": 7, "redact": ["email"]}')
    async with Harness(mesh(policy(text), "redactor", mode="shadow"), classes=CLASSES) as gateway:
        await gateway.chat(max_tokens=500)
        assert gateway.upstream.received[0].json["max_tokens"] == 500
        assert Redactor.seen == [({}, frozenset())]
    async with Harness(mesh(policy(DENY_ALL, "deny"), mode="shadow"), classes=CLASSES) as gateway:
        assert (await gateway.chat()).status == 200
        exchange = await gateway.ended(1)
        assert exchange.shadowed == [("opa", "on_request", "Deny(policy_denied)")]


async def test_the_input_has_a_bound(policy: Write) -> None:
    folder = policy(ALLOW_ALL)
    async with Harness(mesh(folder, input={"text": True, "max_bytes": 2048}), classes=CLASSES) as gateway:
        assert (await gateway.chat("x" * 100)).status == 200
        refused = await gateway.chat("x" * 4000)
        assert (refused.status, refused.error["code"]) == (413, "policy_input_too_large")
        assert len(gateway.upstream.received) == 1


async def test_decisions_and_cache_hits_are_counted(policy: Write) -> None:
    folder = policy(HEADER + 'default allow := false\nallow if input.principal.subject == "ann"\n')
    async with Harness(mesh(folder), classes=CLASSES) as gateway:
        gateway.host.metrics.enabled = True
        for _ in range(3):
            await gateway.chat()
        await gateway.chat(headers={"x-caller": "acme/bob/engineer"})
        series = {family.name: family.series for family in gateway.host.metrics.families()}  # type: ignore[attr-defined]
        assert series["llm_policy_decisions_total"] == {("opa", "allow"): 3, ("opa", "deny"): 1}
        assert series["llm_policy_cache_hits_total"] == {("opa",): 2}


# -- the admin API ----------------------------------------------------------------------------------


async def test_a_policy_in_the_admin_apis_own_pipeline_judges_what_is_asked(policy: Write) -> None:
    folder = policy(
        HEADER
        + "default allow := false\n"
        + 'allow if {\n input.request.operation == "admin"\n input.admin.method == "GET"\n input.admin.component == "pipeline"\n}\n'
    )
    mesh = {
        "pipeline": ["caller"],
        "admin": {"pipeline": ["caller/admin", {"opa/admin": {"bundle": folder}}]},
    }
    async with Harness(mesh, classes=CLASSES) as gateway:
        headers = {"x-caller": "acme/root/operator"}
        assert (await gateway.get("/admin/v1/pipeline", headers=headers)).status == 200
        refused = await gateway.get("/admin/v1/receipts", headers=headers)
        assert (refused.status, refused.error["code"]) == (403, "policy_denied")


async def test_an_obligation_on_an_admin_call_is_a_refusal(policy: Write) -> None:
    mesh = {
        "pipeline": ["caller"],
        "admin": {
            "pipeline": ["caller/admin", {"opa/admin": {"bundle": policy(obliging('{"on_prem": true}'))}}]
        },
    }
    async with Harness(mesh, classes=CLASSES) as gateway:
        refused = await gateway.get("/admin/v1/receipts", headers={"x-caller": "acme/root/operator"})
        assert refused.status == 403


async def test_the_admin_api_tells_which_version_runs(policy: Write) -> None:
    folder = policy(ALLOW_ALL, files={".manifest": '{"revision": "r-17"}'})
    async with Harness(mesh(folder), classes=CLASSES) as gateway:
        status = (await gateway.get("/admin/v1/opa", headers={"x-caller": "acme/root/operator"})).json
        assert (status["revision"], status["package"], status["cached"]) == ("r-17", "lmg.authz", 0)


# -- start ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (HEADER + "allow := tru\n", "policy.rego:3"),
        (HEADER + "allow {\n", "policy.rego"),
        ("package other\n\nallow := true\n", "lmg.authz"),
        (
            "# METADATA\n# custom:\n#   reads: [risk]\npackage lmg.authz\n\nallow if input.risk < 0.5\n",
            "list it under `facts`",
        ),
        (
            "# METADATA\n# custom:\n#   reads: [principal.shoe_size]\npackage lmg.authz\n\nallow if input.principal.shoe_size == 1\n",
            "input.principal.shoe_size",
        ),
    ],
)
async def test_a_policy_that_cannot_run_stops_the_start_and_says_where(
    policy: Write, text: str, says: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        async with Harness(mesh(policy(text)), classes=CLASSES):
            pass
    assert says in str(caught.value)


async def test_a_missing_bundle_and_an_unwritable_log_stop_the_start(policy: Write) -> None:
    for settings in (
        {"bundle": "/nonexistent/policies"},
        {"bundle": policy(ALLOW_ALL), "decision_log": {"file": "/nonexistent/decisions.jsonl"}},
    ):
        with pytest.raises(ConfigError) as caught:
            async with Harness({"pipeline": [{"opa": settings}]}, classes=CLASSES):
                pass
        assert "/nonexistent" in str(caught.value)


def test_it_needs_the_body_and_facts_of_guards_only_where_the_policy_is_shown_them() -> None:
    plain = OpaConfig.model_validate({"bundle": "x"})
    shown = OpaConfig.model_validate({"bundle": "x", "facts": ["risk"], "input": {"body": False}})
    assert (Opa.required(plain), Opa.used(plain)) == (
        {"on_request": ("body",)},
        {"on_request": ("principal",)},
    )
    assert (Opa.required(shown), Opa.used(shown)) == ({}, {"on_request": ("principal", "risk")})


async def test_a_policy_that_is_not_shown_the_body_refuses_before_it_is_read(policy: Write) -> None:
    text = HEADER + 'default allow := false\nallow if input.request.headers["x-team"] == "blue"\n'
    settings = {"input": {"body": False, "headers": ["x-team"]}}
    async with Harness(mesh(policy(text), **settings), classes=CLASSES) as gateway:
        assert (await gateway.request(b"{not json")).status == 403
        assert (await gateway.chat(headers={"x-team": "blue"})).status == 200


async def test_the_policy_of_the_readme_does_what_it_says(policy: Write) -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    rego = readme.partition("```rego\n")[2].partition("```")[0]
    folder = policy(rego, files={"data.json": '{"models": {"engineer": ["small", "large"]}}'})
    async with Harness(
        mesh(folder, show_reasons=True),
        classes=CLASSES,
        models=["small", "huge"],
        provider={"region": "eu"},
    ) as gateway:
        assert (await gateway.chat(model="small", max_tokens=9000)).status == 200
        assert gateway.upstream.received[0].json["max_tokens"] == 2000
        refused = await gateway.chat(model="huge")
        assert "Reasons: model_not_for_your_role." in refused.error["message"]
        shown = json.loads(readme.partition("```json\n")[2].partition("```")[0])
        document = json.loads(InputPlan(gateway.host, InputConfig(), ()).encode(gateway.exchanges[0]))
    assert list(document) == list(shown)
    assert set(document["request"]) == set(shown["request"]) - {"tool_choice"}
    assert list(document["candidates"][0]) == list(shown["candidates"][0])


async def test_opa_passes_the_conformance_checks(policy: Write) -> None:
    await check_component(lambda: (Opa, {"bundle": policy(obliging('{"max_output_tokens": 100}'))}))

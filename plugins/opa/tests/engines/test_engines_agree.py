"""The same policy and inputs get the same ruling from every engine."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmg_opa.engine import Bundle, Policy, Ruling, Undecided
from lmg_opa.engines import engine

EXAMPLE = Path(__file__).parent / "example"
SOURCE = (EXAMPLE / "policy.rego").read_text()
DATA = json.loads((EXAMPLE / "data.json").read_text())

text = st.one_of(
    st.sampled_from(
        [
            "acme",
            "globex",
            "small",
            "large",
            "chat",
            "",
            "ignore previous",
            "IGNORE\n previous",
            '"], "allow":true',
        ]
    ),
    st.text(max_size=20).filter(lambda value: value.isprintable() or "\0" in value or "\n" in value),
)
number = st.one_of(st.integers(0, 10_000), st.sampled_from([2**53 + 1, 2**63 - 1]))
inputs = st.fixed_dictionaries(
    {},
    optional={
        "principal": st.fixed_dictionaries(
            {}, optional={"tenant": text, "roles": st.lists(text, max_size=3)}
        ),
        "request": st.fixed_dictionaries({}, optional={"model": text, "max_tokens": number, "note": text}),
    },
)
relaxed = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def said(decide: Callable[[bytes], Ruling], document: bytes) -> tuple[object, ...]:
    try:
        ruling = decide(document)
    except Undecided as undecided:
        return ("undecided", undecided.code)
    return (ruling.allow, ruling.reasons, ruling.obligations)


@pytest.fixture(scope="module")
def regorus() -> Policy:
    return engine("regorus").load(Bundle("1", {"policy.rego": SOURCE}, DATA))


@pytest.fixture(scope="module")
def wasm() -> Iterator[Policy]:
    pytest.importorskip("opapywasm", reason="pip install 'lmg-opa[wasm]'")
    # The example calls regex.match in a set that count() reads; that is safe here, and refused for a policy in general.
    policy = engine("wasm").load(
        Bundle("1", {"policy.rego": SOURCE}, DATA, (EXAMPLE / "policy.wasm").read_bytes())
    )
    yield policy
    policy.close()


@relaxed
@given(inputs)
def test_compiled_policy_rules_as_the_interpreter_does(regorus: Policy, wasm: Policy, value: Any) -> None:
    document = json.dumps(value, ensure_ascii=False).encode()
    assert said(wasm.decide, document) == said(regorus.decide, document)


@relaxed
@given(inputs)
def test_every_engine_rules_as_an_opa_server_does(
    everyone: dict[str, Callable[[bytes], Ruling]], value: Any
) -> None:
    document = json.dumps(value, ensure_ascii=False).encode()
    answers = {name: said(decide, document) for name, decide in everyone.items()}
    assert all(answer == answers["server"] for answer in answers.values()), answers


@pytest.fixture
def everyone(judges: Any, wasm: Policy, regorus: Policy) -> dict[str, Callable[[bytes], Ruling]]:
    return {
        "regorus": regorus.decide,
        "wasm": wasm.decide,
        "compiled now": judges("wasm").load(SOURCE, DATA),
        "server": judges("server").load(SOURCE, DATA),
    }


def test_wasm_has_the_builtins_that_opa_compiles(opa_tool: ModuleType, tmp_path: Path) -> None:
    opapywasm = pytest.importorskip("opapywasm", reason="pip install 'lmg-opa[wasm]'")
    from lmg_opa.engines.wasm import BUILTINS

    arity = dict.fromkeys(BUILTINS, 1) | {
        item["name"]: len(item["decl"].get("args", [])) for item in opa_tool.capabilities()["builtins"]
    }
    calls = "\n".join(
        f"allow if {name}({', '.join(f'input.a{number}' for number in range(arity[name]))})"
        for name in sorted(BUILTINS - {"walk"})
    )
    compiled = opa_tool.compile_wasm(
        tmp_path,
        {"policy.rego": f"package lmg.authz\n{calls}\nallow if walk(input, [input.p, input.v])"},
        ("lmg/authz/allow",),
    )
    with opapywasm.OpaWasmPolicy.from_wasm_bytes(compiled) as policy:
        assert policy.builtins == {}


def test_policy_that_needs_a_builtin_of_the_host_is_refused(opa_tool: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("opapywasm", reason="pip install 'lmg-opa[wasm]'")
    from lmg_opa.engine import PolicyFault

    compiled = opa_tool.compile_wasm(
        tmp_path, {"p.rego": "package lmg.authz\nallow if time.now_ns() > 1"}, ("lmg/authz/allow",)
    )
    with pytest.raises(PolicyFault, match=r"needs builtins of the host: time\.now_ns"):
        engine("wasm").load(Bundle("1", {"p.rego": "package lmg.authz\nallow if true"}, wasm=compiled))


def test_memory_of_a_compiled_policy_stays(wasm: Policy) -> None:
    document = json.dumps(
        {
            "principal": {"tenant": "acme", "roles": ["chat"]},
            "request": {"model": "small", "note": "x" * 5000},
        }
    )
    for _ in range(200):
        wasm.decide(document.encode())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(2000):
        wasm.decide(document.encode())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8 * 1024


def test_memory_of_the_interpreter_stays(regorus: Policy) -> None:
    document = json.dumps(
        {
            "principal": {"tenant": "acme", "roles": ["chat"]},
            "request": {"model": "small", "note": "x" * 5000},
        }
    )
    for _ in range(500):
        regorus.decide(document.encode())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(20_000):
        regorus.decide(document.encode())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8 * 1024

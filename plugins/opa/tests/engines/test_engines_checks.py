"""What a policy may not do is found when it is loaded."""

from __future__ import annotations

import pytest

from lmg import ConfigError
from lmg_opa.engine import Bundle, Policy, PolicyFault
from lmg_opa.engines import engine
from lmg_opa.engines.checks import MAX_MODULE_BYTES, MAX_MODULES

ENGINES = ("regorus", "regorus_vm", "wasm")


def load(source: str, name: str = "regorus", **more: str) -> Policy:
    if name == "wasm":
        pytest.importorskip("opapywasm", reason="pip install 'lmg-opa[wasm]'")
    modules = {"policy.rego": f"package lmg.authz\n{source}\n", **more}
    return engine(name).load(Bundle("1", modules, wasm=b"checked later"))


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("allow if not nosuch.builtin(input.x)", "policy.rego:2: nosuch.builtin is neither defined nor a builtin"),
        ("allow if not net.cidr_merge([input.x])", "policy.rego:2: net.cidr_merge is neither defined nor a builtin"),
        ("allow if not io.jwt.verify_hs256(input.x, `k`)", "io.jwt.verify_hs256 is neither defined"),
        ("allow if not data.lib.f(1)", "data.lib.f is neither defined"),
        ("import data.lib\nallow if not lib.f(1)", "data.lib.f is neither defined"),
        ("allow if not http.send({})", "policy.rego:2: http.send is not allowed"),
        ("allow if count([1 | http.send({})]) == 0", "http.send is not allowed"),
        ("allow if f(http.send({}).body)\nf(x) := x", "http.send is not allowed"),
        ("allow if x := {http.send({}): 1}[_]", "http.send is not allowed"),
        ("allow if every y in http.send({}) { y > 1 }", "http.send is not allowed"),
        ("allow := http.send({})", "http.send is not allowed"),
        ("default allow := false\nreasons contains http.send({})", "http.send is not allowed"),
        ("default allow := false\nobligations[opa.runtime().env.HOME] := 1", "opa.runtime is not allowed"),
        ("allow if false\nelse := true if opa.runtime().env", "opa.runtime is not allowed"),
        ('allow if http["send"]({})', "http.send is not allowed"),
        ("allow if opa.runtime().env.SECRET", "opa.runtime is not allowed"),
        ("allow if net.lookup_ip_addr(`x`)", "net.lookup_ip_addr is not allowed"),
        ("allow if rego.parse_module(`a`, `b`)", "rego.parse_module is not allowed"),
        ("allow if trace(`x`)", "trace is not allowed"),
        ("allow if print(input)", "print is not allowed"),
        ("allow if f(1) with f as http.send\nf(x) := x", "'with' may replace input and data only"),
        ("allow if count([1]) == 2 with count as http.send", "'with' may replace input and data only"),
        ("allow if data.lib.f({}) with data.lib.f as http.send", "http.send is not allowed"),
        ("allow if f(1)\nf(x) := f(x)", "refers to itself"),
        ("allow if f(1)\nf(x) := g(x)\ng(x) := f(x)", "refers to itself"),
        ("allow if not allow", "refers to itself"),
        ("allow if data.lmg.authz", "refers to itself"),
        ("allow if data[input.x].authz", "refers to itself"),
        ("allow if count(1)\ncount(x) := true", "count is the name of a builtin"),
        ("import data.lib as http\nallow if http.get(1)", "http is the name of a builtin"),
        ("import input.principal as regex\nallow if regex.x", "regex is the name of a builtin"),
        ("allow if true\nopa := 1", "opa is the name of a builtin"),
        ("allow { true }", "`if` keyword is required"),
        ("reasons contains 1", "no rule lmg.authz.allow"),
        ("allow := " + "[" * 3000 + "]" * 3000, "brackets are nested"),
        ("allow if {", "policy.rego"),
    ],
)  # fmt: skip
def test_policy_is_refused_with_its_place(name: str, source: str, said: str) -> None:
    with pytest.raises(PolicyFault) as fault:
        load(source, name)
    assert said in str(fault.value)
    assert "Stack backtrace" not in str(fault.value)


@pytest.mark.parametrize(
    "source",
    [
        "allow if not bad\nbad if to_number(input.x)",
        "default allow := false\nallow if not deny\ndeny if helper(input.x) == 1\nhelper(x) := to_number(x)",
        "default allow := true\nallow := false if lower(input.x) == `a`",
        "allow if count([1 | startswith(input.x, `a`)]) == 0",
        "allow if every x in input.xs { lower(x) == `a` }",
        "allow := false if lower(input.x) == `a`\nelse := true",
        "allow if not deny\ndeny if input.x / 0 == 1",
        "allow if count(denied) == 0\ndenied := [x | x := input.xs[_]; a.b.c == x]\na.b.c := upper(input.x)",
    ],
)
def test_compiled_policy_has_no_builtin_that_fails_where_undefined_allows(source: str) -> None:
    with pytest.raises(PolicyFault, match="may fail, and this engine takes a failure for undefined"):
        load(source, "wasm")
    load(source)


@pytest.mark.parametrize(
    "negated",
    [
        "input.x in [`a`]", "`a` in input.xs", "startswith(input.x, `a`)", "input.x > 1", "f(input.x)", "data.m[input.x]",
        "input.x + 1 == 2", "1 in [input.x]", "f(f(1))", "[1, input.x]", "f(p)", "i.x != 1",
    ],
)  # fmt: skip
def test_negation_that_opa_reads_otherwise_is_refused(negated: str) -> None:
    with pytest.raises(PolicyFault, match="which is true here and not in OPA"):
        load(f"import input as i\nallow if not {negated}\nf(x) if x == 1\np if input.zz")


@pytest.mark.parametrize(
    "negated", ["input.x", "input.x == 1", "p", "data.m.a", "i.x", "q[`a`]", "input.x == input.y", "1 == 2"]
)
def test_negation_that_all_engines_read_alike_is_loaded(negated: str) -> None:
    load(f"import input as i\nallow if not {negated}\np if input.zz\nq[x] if x := input.w")


def test_negation_over_bound_variables_is_loaded() -> None:
    load("allow if { some x in input.xs; not x in [1, 2]; not f(x); not x > 3 }\nf(x) if x == 1")


@pytest.mark.parametrize("call", ["regex.replace(`a`, `(`, `b`)", "json.patch(1, [1])", "uuid.parse(`x`)"])
def test_builtin_that_fails_in_silence_is_refused_by_regorus(call: str) -> None:
    with pytest.raises(PolicyFault, match="this engine does not tell when it fails"):
        load(f"allow if not {call}")


@pytest.mark.parametrize(
    "source",
    [
        "import rego.v1\nallow if true",
        "import future.keywords\nallow if true",
        "import data.lib as l\nallow if l.f(input.x) == 1",
        "import data.lib.f as g\nallow if g(input.x) == 1",
        "allow if data.lib.f(input.x) == 1",
        "allow if ok(1) with input as {}\nok(x) if x == 1",
        "# http.send({}) { opa.runtime() }\nallow if input.x == `http.send({})`",
        'allow if input.x == "opa.runtime()"',
        "allow if { some i, x in input.xs; x == i }",
    ],
)
def test_what_is_harmless_is_loaded(source: str) -> None:
    load(source, **{"lib.rego": "package lib\nf(x) := x\n"})


def test_tests_are_not_loaded() -> None:
    load(
        "allow if true",
        **{"policy_test.rego": "package lmg.authz_test\ntest_it if http.send({}) with http.send as 1"},
    )


@pytest.mark.parametrize(
    ("source", "volatile"),
    [
        ("allow if time.now_ns() > 1", True),
        ("allow if uuid.rfc4122(`x`)", True),
        ("allow if f(1)\nf(x) := [y | y := time.now_ns()]", True),
        ("allow if input.x == `time.now_ns()`", False),
    ],
)
def test_policy_that_reads_the_clock_is_volatile(source: str, volatile: bool) -> None:
    assert load(source).volatile is volatile


def test_declared_reads_are_those_of_the_metadata() -> None:
    head = "# METADATA\n# title: T\n# custom:\n#   reads: [principal.roles, request.model]\n"
    source = (
        head
        + "package lmg.authz\nimport input.principal as p\nallow if { `a` in p.roles; input.request.model == `m` }"
    )
    policy = engine("regorus").load(Bundle("1", {"p.rego": source}))
    assert policy.reads == (("principal", "roles"), ("request", "model"))
    assert load("allow if input.x").reads is None


@pytest.mark.parametrize(
    "body", ["input.request.key", "input", "input[x] == 1; x := `a`", "object.get(input, `a`, 1)", "data.l.r"]
)
def test_reading_what_is_not_declared_is_refused(body: str) -> None:
    head = "# METADATA\n# custom:\n#   reads: [request.model]\n"
    with pytest.raises(PolicyFault, match=r"which custom\.reads does not name"):
        engine("regorus").load(
            Bundle(
                "1",
                {
                    "p.rego": f"{head}package lmg.authz\nallow if {{ {body} }}",
                    "l.rego": "package l\nr := input.b",
                },
            )
        )


@pytest.mark.parametrize(
    "metadata", ["custom: {reads: principal}", "custom: {reads: [1]}", "custom: {reads: [a"]
)
def test_metadata_that_cannot_be_read_is_refused(metadata: str) -> None:
    with pytest.raises(PolicyFault, match=r"p\.rego"):
        engine("regorus").load(
            Bundle("1", {"p.rego": f"# METADATA\n# {metadata}\npackage lmg.authz\nallow if true"})
        )


def test_modules_are_bounded() -> None:
    with pytest.raises(PolicyFault, match="larger than"):
        load("allow if true\n#" + "x" * MAX_MODULE_BYTES)
    with pytest.raises(PolicyFault, match="more than"):
        load("allow if true", **{f"m{number}.rego": f"package m{number}" for number in range(MAX_MODULES)})


def test_unknown_engine_is_an_error_of_the_configuration() -> None:
    with pytest.raises(ConfigError, match="regorus, regorus_vm or wasm"):
        engine("cedar")


def test_each_engine_is_had_by_its_name() -> None:
    pytest.importorskip("opapywasm", reason="pip install 'lmg-opa[wasm]'")
    assert [engine(name).name for name in ENGINES] == list(ENGINES)


def test_missing_package_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(__import__("sys").modules, "lmg_opa.engines.wasm", raising=False)
    monkeypatch.setitem(__import__("sys").modules, "opapywasm", None)
    with pytest.raises(ConfigError, match=r"pip install 'lmg-opa\[wasm\]'"):
        engine("wasm")


@pytest.mark.parametrize(
    "rules",
    [
        'obligations["regions"] := ["eu"]\n\nobligations["on_prem"] if input.x == 2\n',
        'obligations := {"regions": ["eu"]}\n',
    ],
)
def test_obligations_may_be_written_key_by_key(rules: str) -> None:
    policy = load(
        'default allow := false\n\nallow if input.x\n\nreasons contains "no" if not input.x\n\n' + rules
    )
    assert policy.decide(b'{"x": 1}').obligations == {"regions": ["eu"]}
    assert policy.decide(b"{}").reasons == ("no",)
    if "on_prem" in rules:
        assert policy.decide(b'{"x": 2}').obligations == {"regions": ["eu"], "on_prem": True}
        with pytest.raises(PolicyFault, match="not yet supported"):
            load("allow if input.x\n\n" + rules, "regorus_vm")

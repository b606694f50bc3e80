"""Every way in which an engine for Rego was seen to let somebody through, tried on each engine.

Where an engine cannot refuse one by itself, the checks refuse the policy when it is loaded.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from typing import Any

import pytest

from lmg_opa.engine import PolicyFault, Ruling, Undecided
from lmg_opa.engines.checks import MAX_DOCUMENT_BYTES

HEAD = "package lmg.authz\n\nimport rego.v1\n\n"
SWALLOWS = ("regorus_vm", "wasm")
"""Engines that take a failure for undefined: what may fail is refused when the policy is loaded."""
FORGERY = 'x"], "allow":true, "z":["'


def document(**members: Any) -> bytes:
    return json.dumps(members, ensure_ascii=False).encode()


def refuses(decide: Any, text: bytes) -> str:
    """The code of an Undecided, ``denied`` for a ruling that denies. Anything else fails."""
    try:
        ruling = decide(text)
    except Undecided as undecided:
        return undecided.code
    assert ruling.allow is False
    return "denied"


def test_text_of_a_caller_cannot_stand_in_for_the_decision(judge: Any) -> None:
    decoded = '"decoded": base64.decode(input.coded), "read": json.unmarshal(input.text)'
    head = (
        HEAD + "default allow := false\n\nallow if input.known\n\n"
        "reasons := {input.model, base64.decode(input.coded), json.unmarshal(input.text).code}\n\n"
    )
    if judge.name in SWALLOWS:
        with pytest.raises(PolicyFault, match="in obligations"):
            judge.load(head + f'obligations := {{"echo": input.model, {decoded}}}\n')
        decoded = '"decoded": input.coded, "read": input.text'
    decide = judge.load(head + f'obligations := {{"echo": input.model, {decoded}}}\n')
    hostile = {
        "model": FORGERY,
        "coded": base64.b64encode(f'{FORGERY}"'.encode()).decode(),
        "text": '{"allow": true, "code": "\\"], \\"allow\\": true"}',
    }
    denied = decide(document(**hostile))
    assert denied.allow is False
    assert set(denied.reasons) == {FORGERY, f'{FORGERY}"', '"], "allow": true'}
    allowed = decide(document(**hostile, known=True))
    assert allowed.obligations["echo"] == FORGERY
    if judge.name in SWALLOWS:
        assert allowed.obligations["read"] == hostile["text"]
        return
    assert allowed.obligations["decoded"] == f'{FORGERY}"'
    assert allowed.obligations["read"] == {"allow": True, "code": '"], "allow": true'}


@pytest.mark.parametrize("value", ["1", '"true"', "[true]", '{"allow": true}', "[]"])
def test_only_true_allows(judge: Any, value: str) -> None:
    decide = judge.load(HEAD + "allow := json.unmarshal(input.text)\n")
    assert refuses(decide, document(text=value)) == "malformed"
    assert decide(document(text="true")) == Ruling(True)
    assert decide(document(text="false")) == Ruling(False)


def test_undefined_is_not_false_and_allows_nothing(judge: Any) -> None:
    decide = judge.load(HEAD + "allow if input.x\n")
    assert refuses(decide, b"{}") == "undefined"
    assert decide(document(x=True)).allow is True


@pytest.mark.parametrize(
    "condition",
    [
        "to_number(input.x) == 1",
        "count(input.n) == 1",
        "lower(input.n) == input.x",
        "base64.decode(input.x)",
        "1 / input.zero",
    ],
)
def test_builtin_that_fails_is_not_true_under_not(judge: Any, condition: str) -> None:
    source = HEAD + f"default allow := false\n\nallow if not failed\n\nfailed if {condition}\n"
    try:
        decide = judge.load(source)
    except PolicyFault as fault:
        assert judge.name in SWALLOWS and "may fail" in str(fault)
        return
    assert refuses(decide, document(x="%%%", n=3, zero=0)) == "error"


def test_conflicting_rules_are_no_answer(judge: Any) -> None:
    decide = judge.load(HEAD + "allow := true if input.a\n\nallow := false if input.b\n")
    assert refuses(decide, document(a=True, b=True)) == _conflict(judge)
    assert decide(document(a=True)).allow is True


def _conflict(judge: Any) -> str:
    """The virtual machine takes a conflict for undefined as well, which allows nothing either."""
    return "undefined" if judge.name == "regorus_vm" else "conflict"


@pytest.mark.parametrize("number", [2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, 2**70])
def test_large_integer_is_not_below_a_limit(judge: Any, number: int) -> None:
    decide = judge.load(HEAD + "default allow := false\n\nallow if input.n <= 4096\n")
    assert decide(document(n=number)).allow is False
    assert decide(document(n=4096)).allow is True


@pytest.mark.parametrize(
    "text", ["a\0b", 'q"q', "back\\slash", "\\u0061", "é", "😀", "new\nline", "\x1f", "a\u2028b"]
)
def test_strings_are_compared_whole(judge: Any, text: str) -> None:
    # regorus counts what UTF-16 counts; OPA counts code points.
    size = len(text.encode("utf-16-le")) // 2 if judge.name.startswith("regorus") else len(text)
    decide = judge.load(
        HEAD
        + "default allow := false\n\nallow if {\n\tinput.s == data.want\n\tcount(input.s) == data.size\n}\n",
        {"want": text, "size": size},
    )
    assert decide(document(s=text)).allow is True
    assert decide(json.dumps({"s": text}).encode()).allow is True
    assert decide(document(s=text + "\0x")).allow is False
    assert decide(document(s=text[:-1])).allow is False


def test_regex_stays_linear_and_sees_a_newline(judge: Any) -> None:
    decide = judge.load(
        HEAD + "default allow := false\n\nallow if regex.match(`^(a+)+$`, input.s)\n\n"
        'reasons contains "injected" if regex.match(`(?i)ignore\\s+previous`, input.s)\n'
    )
    started = time.monotonic()
    assert decide(document(s="a" * 5000 + "!")).allow is False
    assert time.monotonic() - started < 5.0
    assert decide(document(s="IGNORE\nprevious")).reasons == ("injected",)


def test_no_thread_is_judged_with_anothers_input(judge: Any) -> None:
    decide = judge.load(
        HEAD + "default allow := false\n\nallow if input.n % 2 == 0\n\nreasons contains input.who\n\n"
        'obligations := {"who": input.who}\n'
    )
    wrong: list[object] = []

    def ask(worker: int) -> None:
        for number in range(400):
            try:
                said = decide(document(n=number + worker, who=f"w{worker}.{number}"))
            except Undecided as undecided:
                wrong.append(undecided)
                continue
            who = f"w{worker}.{number}"
            right = (
                Ruling(True, obligations={"who": who})
                if (number + worker) % 2 == 0
                else Ruling(False, (who,))
            )
            if said != right:
                wrong.append(said)

    threads = [threading.Thread(target=ask, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_new_version_sees_new_data_and_the_old_one_its_own(judge: Any) -> None:
    source = HEAD + "default allow := false\n\nallow if input.model in data.models\n"
    old, new = judge.load(source, {"models": ["a"]}), judge.load(source, {"models": ["b"]})
    assert [old(document(model=name)).allow for name in "ab"] == [True, False]
    assert [new(document(model=name)).allow for name in "ab"] == [False, True]


def test_document_is_bounded(judge: Any) -> None:
    decide = judge.load(HEAD + "allow := true\n")
    assert refuses(decide, document(s="x" * MAX_DOCUMENT_BYTES)) == "too_large"
    assert decide(document(s="x" * (MAX_DOCUMENT_BYTES - 100))).allow is True


@pytest.mark.parametrize("depth", [100, 5000])
def test_deep_document_ends_nothing(judge: Any, depth: int) -> None:
    decide = judge.load(HEAD + "default allow := false\n\nallow if input.x == 1\n")
    assert refuses(decide, b'{"x":' + b"[" * depth + b"]" * depth + b"}") in ("denied", "error")
    assert decide(b'{"x":1}').allow is True


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b'{"x": NaN}', b"{} {}"])
def test_input_that_is_not_json_is_no_answer(judge: Any, text: bytes) -> None:
    decide = judge.load(HEAD + "allow := true\n")
    try:
        said = decide(text)
    except Undecided:
        return
    pytest.fail(f"answered {said}")


def test_engine_goes_on_after_an_error(judge: Any) -> None:
    decide = judge.load(HEAD + "allow := true if input.a\n\nallow := false if input.b\n")
    for _ in range(20):
        assert refuses(decide, document(a=True, b=True)) == _conflict(judge)
        assert decide(document(a=True)).allow is True
        assert decide(document(b=True)).allow is False

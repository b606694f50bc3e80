"""Obligations as a policy writes them: read strictly, or not at all."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmg_opa.decisions import decision_of
from lmg_opa.engine import Ruling
from lmg_opa.obligations import NONE, ObligationFault, Obligations, read

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
NAMES = ("providers", "regions", "on_prem", "max_output_tokens", "redact", "budget_class", "guards", "tags")


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ({}, NONE),
        ({"providers": ["b", "a"]}, Obligations({"providers": frozenset({"a", "b"})})),
        ({"regions": []}, Obligations({"regions": frozenset()})),
        ({"on_prem": True}, Obligations({"on_prem": True})),
        ({"on_prem": False}, Obligations()),
        ({"max_output_tokens": 10}, Obligations({"max_output_tokens": 10})),
        ({"max_output_tokens": 10.0}, Obligations({"max_output_tokens": 10})),
        ({"redact": ["iban", "email"]}, Obligations(redact=("email", "iban"))),
        ({"budget_class": "gold"}, Obligations(budget_class="gold")),
        ({"guards": {"dlp": "enforce"}}, Obligations(guards={"dlp": "enforce"})),
        ({"tags": {"project": ""}}, Obligations(tags={"project": ""})),
    ],
)
def test_each_obligation_is_read(stated: Any, expected: Obligations) -> None:
    assert read(stated) == expected


@pytest.mark.parametrize(
    "stated",
    [
        {"provider": ["a"]}, {"model": "x"}, {"": 1},
        {"providers": "a"}, {"providers": [1]}, {"providers": {"a": True}}, {"providers": ["a\n"]}, {"providers": [""]},
        {"providers": ["a"] * 300}, {"on_prem": 1}, {"on_prem": None}, {"on_prem": "true"},
        {"max_output_tokens": 0}, {"max_output_tokens": -1}, {"max_output_tokens": 1.5}, {"max_output_tokens": True},
        {"max_output_tokens": "10"}, {"max_output_tokens": None}, {"max_output_tokens": float("inf")},
        {"redact": "email"}, {"redact": ["E Mail"]}, {"redact": [None]}, {"budget_class": ""}, {"budget_class": ["gold"]},
        {"guards": ["dlp"]}, {"guards": {"dlp": "loud"}}, {"guards": {"dlp": True}},
        {"tags": {"project": 1}}, {"tags": {"": "x"}}, {"tags": {"x" * 65: "x"}}, {"tags": {"x": "x" * 257}},
        {"tags": {str(n): "x" for n in range(33)}}, {"tags": []},
        {"on_prem": True, "watermark": True},
    ],
)  # fmt: skip
def test_what_cannot_be_carried_out_is_a_refusal_that_quotes_nothing(stated: Any) -> None:
    with pytest.raises(ObligationFault) as caught:
        read(stated)
    assert str(caught.value) == "unknown_obligation" or str(caught.value).partition(":")[2] in NAMES
    decision = decision_of(Ruling(True, (), stated), show_reasons=True)
    assert decision.deny is not None and decision.deny.status == 403


@given(st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=12), JSON, max_size=4))
def test_whatever_a_policy_writes_is_either_read_or_refused(stated: Any) -> None:
    decision = decision_of(Ruling(True, (), stated), show_reasons=True)
    assert decision.deny is None or decision.deny.code == "policy_denied"
    if set(stated) - set(NAMES):
        assert decision.deny is not None


@given(st.lists(st.text(max_size=30), max_size=40), st.booleans())
def test_reasons_reach_nobody_but_in_the_shape_of_codes(reasons: list[str], show: bool) -> None:
    deny = decision_of(Ruling(False, (*reasons, "a.b:c-1_")), show_reasons=show).deny
    assert deny is not None and deny.code == "policy_denied"
    assert deny.message.isascii() and deny.message.isprintable() and len(deny.message) < 1200
    assert ("Reasons" in deny.message) == show


def test_obligations_of_a_denial_are_not_looked_at() -> None:
    deny = decision_of(Ruling(False, ("closed",), {"watermark": True}), show_reasons=False).deny
    assert deny is not None and deny.reason == "closed"

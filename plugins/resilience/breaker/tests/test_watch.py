"""Which target comes first, and which of the open ones is the least bad."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lmg_breaker.reasons import CREDENTIAL
from lmg_breaker.watch import Watch, available_first, least_bad

from .conftest import Noted


def watch(what: str = "closed", opens: int = 1, **settings: Any) -> Watch:
    noted, key = Noted(open_s=5, **settings), Noted(key=True)
    circuit = noted.circuit
    if what == "failed":
        for _ in range(opens):
            circuit.adopt(0.0, 5.0, _reason("consecutive"), 0)
            circuit._growth["failure"].level = opens
    elif what == "limited":
        circuit.limited(circuit.passing, 0.0, 3.0)
    elif what == "throttled":
        circuit.limited(circuit.passing, 0.0, None)
    elif what == "forced":
        circuit.force(0.0, 1.0)
    elif what == "key":
        key.circuit.refused(key.circuit.passing, 0.0, CREDENTIAL)
    return Watch(circuit, key.circuit)


def _reason(name: str) -> Any:
    from lmg_breaker.reasons import BY_NAME

    return BY_NAME[name]


WHATS = ["closed", "failed", "limited", "throttled", "forced", "key"]


@given(whats=st.lists(st.sampled_from(WHATS), max_size=8))
def test_open_ones_go_to_the_end_and_nothing_else_changes(whats: list[str]) -> None:
    watches = [watch(what) for what in whats]
    items = list(range(len(whats)))
    found = list(available_first(items, watches, 0.5))
    closed = [n for n in items if whats[n] == "closed"]
    blocked = [n for n in items if whats[n] != "closed"]
    assert sorted(found) == items
    if closed:
        assert found == closed + blocked
    else:
        assert [n for n in found if n != found[0]] == [n for n in items if n != found[0]] if found else True


def test_what_is_not_known_is_taken_for_closed() -> None:
    assert list(available_first("abc", [watch("failed"), None, watch("failed")], 0.5)) == ["b", "a", "c"]


def test_a_target_that_may_be_probed_keeps_its_place() -> None:
    assert list(available_first("ab", [watch("failed"), watch()], 5.0)) == ["a", "b"]


def test_where_all_are_open_the_least_bad_is_first() -> None:
    watches = [watch("limited"), watch("failed"), watch("key")]
    assert list(available_first("abc", watches, 0.5)) == ["b", "a", "c"]


def test_one_that_still_answers_is_better_than_one_that_failed() -> None:
    failed, throttled = watch("failed"), watch("throttled")
    assert least_bad([failed, throttled], 0.5) is throttled


def test_one_that_failed_is_better_than_one_that_has_said_it_will_refuse() -> None:
    failed, limited, refused = watch("failed"), watch("limited"), watch("key")
    assert least_bad([limited, refused, failed], 0.5) is failed
    assert least_bad([refused, limited], 0.5) is limited, "it is ready first"


def test_of_two_that_failed_the_one_that_is_ready_first_is_better_then_the_one_that_failed_less() -> None:
    often, once = watch("failed", opens=4), watch("failed", opens=1)
    assert least_bad([often, once], 0.5) is once
    later = watch("failed")
    later.circuit.keep(9.0)
    assert least_bad([later, often], 0.5) is often


def test_what_is_forced_open_is_never_tried() -> None:
    assert least_bad([watch("forced")], 0.5) is None
    assert list(available_first("ab", [watch("forced"), watch("forced")], 0.5)) == ["a", "b"]

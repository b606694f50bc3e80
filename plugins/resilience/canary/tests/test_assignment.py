"""Who is in a share is in every larger one, and the shares are what they say they are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmg_canary.assignment import Places, threshold_of

percents = st.floats(0, 100)


@given(st.binary(max_size=40), percents, percents)
def test_who_is_in_stays_in_as_the_share_grows(identity: bytes, one: float, other: float) -> None:
    place = Places("trial", "user").place(identity)
    small, large = sorted((threshold_of(one), threshold_of(other)))
    assert place >= small or place < large


@given(st.binary(max_size=40))
def test_at_nothing_nobody_is_in_and_at_a_hundred_everybody(identity: bytes) -> None:
    assert threshold_of(0) <= Places("trial", "user").place(identity) < threshold_of(100)


@pytest.mark.parametrize("percent", [1, 5, 25, 50, 99])
def test_a_share_is_what_it_says(percent: float) -> None:
    places = Places("trial", "user")
    inside = sum(places.place(b"user-%d" % number) < threshold_of(percent) for number in range(20_000))
    assert inside / 200 == pytest.approx(percent, abs=1.0)


def test_early_in_one_experiment_is_not_early_in_another() -> None:
    one, other = Places("one", "user"), Places("other", "user")
    half = threshold_of(50)
    both = sum(
        one.place(b"%d" % number) < half and other.place(b"%d" % number) < half for number in range(10_000)
    )
    assert both / 10_000 == pytest.approx(0.25, abs=0.02)


def test_places_are_the_same_on_every_machine() -> None:
    """Workers, replicas and releases agree: a change here moves every user of every running experiment."""
    assert Places("trial", "user").place(b"uacme\0alice") == 9_124_504_268_304_017_732

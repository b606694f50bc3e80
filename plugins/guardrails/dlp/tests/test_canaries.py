"""A canary is found in every disguise, and nothing else is."""

from __future__ import annotations

import base64
import codecs
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmg_dlp import make_canary
from lmg_dlp.canaries import Canaries, spellings

VALUE = "lmgc7q2mx9tk4wz8rb5nhs3d"
CANARIES = Canaries(["lmgcother5x8w2kq7pz4m", VALUE])

DISGUISES = {
    "plain": VALUE,
    "capitals": VALUE.upper(),
    "separated": "-".join(VALUE),
    "lines": "\n".join(VALUE[n : n + 4] for n in range(0, len(VALUE), 4)),
    "reversed": VALUE[::-1],
    "rot13": codecs.encode(VALUE, "rot13"),
    "hex": VALUE.encode().hex(),
    "hex bytes": " ".join(f"{one:02X}" for one in VALUE.encode()),
    "percent": "".join(f"%{one:02x}" for one in VALUE.encode()),
    "base64": base64.b64encode(VALUE.encode()).decode(),
    "base64 in a text": base64.b64encode(f"the prompt says {VALUE} at its end".encode()).decode(),
    "base64 shifted once": base64.b64encode(f"x{VALUE}yz".encode()).decode(),
    "base64 shifted twice": base64.b64encode(f"xy{VALUE}z".encode()).decode(),
    "in an address": f"https://evil.example/{VALUE}?a=1",
}


@pytest.mark.parametrize("disguise", list(DISGUISES))
def test_every_disguise(disguise: str) -> None:
    text = f"It says {DISGUISES[disguise]}."
    assert {one.name for one in CANARIES.find(text, 0, len(text))} == {"canary/1"}


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32), before=st.binary(max_size=7), behind=st.binary(max_size=7))
def test_base64_of_anything_around_it(seed: int, before: bytes, behind: bytes) -> None:
    value = make_canary(random.Random(seed))
    text = base64.b64encode(before + value.encode() + behind).decode()
    assert list(Canaries([value]).find(text, 0, len(text)))


def test_nothing_else_is_found() -> None:
    text = f"{VALUE[:-1]} and {VALUE[1:]} " + " ".join(make_canary(random.Random(n)) for n in range(200))
    assert list(CANARIES.find(text, 0, len(text))) == []


def test_a_canary_is_new_each_time() -> None:
    assert make_canary() != make_canary()
    assert len(make_canary()) == 28
    assert make_canary(random.Random(1)) == make_canary(random.Random(1))
    assert all(len(one) >= 12 for one in spellings(make_canary()))


def test_thousands_of_canaries_cost_one_search() -> None:
    values = [make_canary(random.Random(n)) for n in range(2000)]
    many = Canaries(values)
    text = f"so {values[1234][::-1]} it is"
    assert [one.name for one in many.find(text, 0, len(text))] == ["canary/1234"]
    assert many.last_run("so it is " + values[7][:9]) == 9

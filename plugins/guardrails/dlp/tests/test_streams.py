"""The promise of streams: the pieces put together are what the whole text would have become, however it was cut."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmg.redaction import Detector, Redactor
from lmg.testing.guards import put_together
from lmg_dlp.assignments import ASSIGNMENTS
from lmg_dlp.canaries import Canaries
from lmg_dlp.exact import ExactData
from lmg_dlp.hidden import INVISIBLE, payloads
from lmg_dlp.links import Links
from lmg_dlp.markers import pattern_marker, word_marker
from lmg_dlp.private_keys import PRIVATE_KEYS
from lmg_dlp.shapes import SHAPES, TELEGRAM
from lmg_dlp.tokens import TOKENS

from .conftest import exact_values
from .texts import NOT_SECRETS, SECRETS

CANARY = "lmgc7q2mx9tk4wz8rb5n"
DETECTORS: list[Detector] = [
    PRIVATE_KEYS, TOKENS, SHAPES, TELEGRAM, ASSIGNMENTS, Links(guard=True, allowed=["*.acme.example"]), INVISIBLE, payloads(256),
    word_marker("internal", ["Project Nightfall", "STRICTLY CONFIDENTIAL"]), pattern_marker("ticket", r"SEC-[0-9]{4,6}"),
    Canaries([CANARY]), ExactData(exact_values(["Ada Lovelace", "555-12-9876", "K7 Q9 ZZ"]), "people"),
]  # fmt: skip
REDACTOR = Redactor(DETECTORS, lambda one: f"<{one.name}:{len(one.text)}>")

BITS = [
    "password", "key", "is", " = ", '"', ": ", "token", "sk-", "ghp_", "eyJ", "https://", "a.b/c", "?q=", "](//evil.test/x", "![alt](", ")", "<img src=", ">",
    "-----BEGIN ", "PRIVATE KEY-----", "\n", " ", "hello", "Abc123xyz789QWErty456", ".", "-us1", "@", "://", "postgres", "\u200b", "\U000e0041", "é", "-", "x" * 40,
    "project night", "SEC-", "1234", "555", "12 9876", "Ada ", "lovelace", CANARY[:9], CANARY[9:], "K7", "Authorization: Bearer ", "->", "密码是", " for", " prod", " ist ", "i", "s ", "Basic ", "wd=", "PuTTY-User-Key-File-3:", "```",
]  # fmt: skip
PIECES = st.sampled_from([*SECRETS.values(), *NOT_SECRETS, *BITS, *BITS])
TEXTS = st.lists(PIECES, max_size=8).map("".join)


def streamed(text: str, cuts: list[int]) -> str:
    return put_together(REDACTOR.stream(), text, cuts)


@settings(max_examples=400, deadline=None)
@given(text=TEXTS, cuts=st.lists(st.integers(0, 600), max_size=12))
def test_cut_anywhere_a_text_becomes_what_it_becomes_whole(text: str, cuts: list[int]) -> None:
    assert streamed(text, cuts) == REDACTOR.whole(text)


@settings(max_examples=60, deadline=None)
@given(text=TEXTS)
def test_one_character_at_a_time(text: str) -> None:
    assert streamed(text, list(range(len(text)))) == REDACTOR.whole(text)


@pytest.mark.parametrize("kind", list(SECRETS))
def test_every_kind_is_hidden_at_every_single_cut(kind: str) -> None:
    secret = SECRETS[kind]
    text = f"Here it is:\n{secret}\nand so on."
    whole = REDACTOR.whole(text)
    assert secret not in whole
    for cut in range(len(text)):
        assert streamed(text, [cut]) == whole, cut


@pytest.mark.parametrize("kind", list(SECRETS))
def test_every_kind_is_hidden_in_tool_arguments_and_they_stay_json(kind: str) -> None:
    secret = SECRETS[kind]
    sent = json.dumps({"note": f"use {secret} now", "n": 1}).replace("A", "\\u0041")
    whole = REDACTOR.json(sent)
    said = json.loads(whole)
    assert secret not in said["note"] and said["n"] == 1
    rng = random.Random(kind)
    for _ in range(20):
        stream = REDACTOR.json_stream()
        cuts = sorted(rng.sample(range(len(sent)), 5))
        pieces = [sent[a:b] for a, b in zip([0, *cuts], [*cuts, len(sent)], strict=True)]
        assert "".join(map(stream.feed, pieces)) + stream.finish() == whole


def test_prose_is_hardly_held() -> None:
    text = (
        "The quick brown fox jumps over the lazy dog, 42 times, and asks Ada at acme for more of that. "
        "Your password policy and the key idea: keep tokens short; see section 3.2 of the guide. " * 20
    )
    stream = REDACTOR.stream()
    waits = []
    for n in range(0, len(text), 4):
        stream.feed(text[n : n + 4])
        waits.append(stream.held)
    waits.sort()
    assert waits[int(len(waits) * 0.95)] <= 24
    assert waits[int(len(waits) * 0.99)] <= 64

"""The operator's own words and patterns: what may be written, and what it finds."""

from __future__ import annotations

import time

import pytest
from pydantic import ValidationError

from lmg_dlp import Dlp
from lmg_dlp.markers import BadPattern, Marker, pattern_marker, word_marker


def found(marker: Marker, text: str) -> list[str]:
    return [one.text for one in marker.find(text, 0, len(text))]


def test_words_are_found_whole_and_in_any_case() -> None:
    marker = word_marker("internal", ["Project Nightfall", "TOP SECRET"])
    assert found(marker, "project  NIGHTFALL, top-secret, subproject nightfall, top secrets") == [
        "project  NIGHTFALL",
        "top-secret",
    ]


@pytest.mark.parametrize(
    ("pattern", "text", "finds"),
    [
        (
            r"\b(?:PRJ|SEC)-[0-9]{4,6}\b",
            "PRJ-1234 SEC-123456 SEC-1234567 XSEC-1234",
            ["PRJ-1234", "SEC-123456"],
        ),
        (r"K-?[A-Z]{2}\d{2}", "K-AB12 KAB12", ["K-AB12", "KAB12"]),
        (r"[^\s]{3}!", "abc! de!", ["abc!"]),
        (r"(?:v(?:1|2))?x{2}", "v1xx", ["v1xx", "xx"]),
    ],
)
def test_patterns(pattern: str, text: str, finds: list[str]) -> None:
    assert found(pattern_marker("own", pattern), text) == finds


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("a+b", "no bound"),
        ("(?:ab){1,9}", "only single characters"),
        (r"(a)\1", "may hold characters"),
        ("a{0,60}a{0,60}a{0,60}b", "ways to match"),
        ("a{1,200}b{1,200}", "characters"),
        ("a?", "nothing at all"),
        ("(?=a)b", "may hold characters"),
        ("(", "no regular expression"),
        ("(?:ab|cd|ef)" * 4, "alternatives"),
    ],
)
def test_a_pattern_that_could_run_away_is_refused_with_its_reason(pattern: str, says: str) -> None:
    with pytest.raises(BadPattern, match=says):
        pattern_marker("own", pattern)


def test_the_widest_pattern_is_linear() -> None:
    marker = pattern_marker("own", "a{0,30}a{0,30}b")
    started = time.process_time()
    assert found(marker, "a" * 20_000) == []
    assert time.process_time() - started < 5.0


def test_what_waits_is_what_may_become_a_match() -> None:
    marker = pattern_marker("own", r"\bSEC-[0-9]{4,6}\b")
    assert [
        marker.last_run(text)
        for text in ("a SE", "a SEC-12", "a SEC-123456", "a SEC-1234567", "a SECT", "a XSE")
    ] == [2, 2, 2, 13, 6, 5]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"markers": [{"name": "own", "pattern": "a*"}]}, "no bound"),
        ({"markers": [{"name": "own"}]}, "either words or a pattern"),
        ({"markers": [{"name": "jwt", "words": ["a"]}]}, "more than one kind"),
        ({"kinds": {"jwtt": {}}}, "no kind of secret"),
        ({"canaries": [{"tenant": "a", "value": "short"}]}, "at least 12"),
        (
            {
                "canaries": [
                    {"tenant": "a", "value": "lmgc7q2mx9tk4wz8"},
                    {"tenant": "b", "value": "LMGC-7q2mx9tk4wz8"},
                ]
            },
            "two tenants",
        ),
        ({"payloads": {"chars": 3}}, "greater than or equal to 64"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(settings: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Dlp.Config.model_validate(settings)

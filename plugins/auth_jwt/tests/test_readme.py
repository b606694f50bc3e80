"""What the README claims is shown by tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"
SECTIONS = [f"3.{n}" for n in range(1, 13)]


def test_every_point_of_rfc_8725_names_tests_that_exist() -> None:
    text = README.read_text().partition("## RFC 8725")[2].partition("\n## ")[0]
    rows = [line.split("|") for line in text.splitlines() if re.match(r"\| 3\.", line)]
    assert [row[1].strip() for row in rows] == SECTIONS
    sources = "\n".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    defined = set(re.findall(r"^(?:async )?def (test_\w+)", sources, re.MULTILINE))
    for row in rows:
        named = set(re.findall(r"`(test_\w+)`", row[4]))
        assert named and named <= defined, row[1]

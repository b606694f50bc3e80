"""How much is found of the development corpus, at which price; skipped where that is not there."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from lmg_dlp.config import DlpConfig
from lmg_dlp.findings import Findings
from lmg_dlp.plugin import policy_of

BESIDE = (parent / "shared" / "data" / "guardrails" for parent in Path(__file__).resolve().parents)
FOLDER = next((folder for folder in BESIDE if folder.is_dir()), Path("shared"))
"""The corpora stand beside the checkout, where they are at all."""
PUBLIC = {"ip_public"}
"""Labelled as secrets by their source; a public address is none."""

pytestmark = pytest.mark.skipif(not (FOLDER / "secrets.jsonl").exists(), reason="the corpus is not here")


def kinds(text: str) -> dict[str, int]:
    findings = Findings(policy_of(DlpConfig(), "request", {}, None), "", lambda kind, action: None)
    findings.whole(text)
    return findings.kinds


def test_secrets_are_found_and_what_looks_like_them_is_not() -> None:
    hits: Counter[tuple[int, str]] = Counter()
    total: Counter[tuple[int, str]] = Counter()
    for line in filter(None, (FOLDER / "secrets.jsonl").read_text().split("\n")):
        row = json.loads(line)
        one = row["label"], row["secret_type"]
        total[one] += 1
        hits[one] += bool(kinds("".join(row["text_parts"])))

    def rate(label: int, without: set[str]) -> float:
        of = [one for one in total if one[0] == label and one[1] not in without]
        return sum(hits[one] for one in of) / sum(total[one] for one in of)

    report = {f"{kind}/{label}": f"{hits[label, kind]}/{total[label, kind]}" for label, kind in sorted(total)}
    assert rate(1, set()) >= 0.97, report
    assert rate(1, PUBLIC) >= 0.98, report
    assert rate(0, set()) <= 0.01, report


@pytest.mark.parametrize("corpus", ["prompt_injection", "pii", "harmful_requests"])
def test_other_texts_hold_no_secrets(corpus: str) -> None:
    rows = [json.loads(line) for line in (FOLDER / f"{corpus}.jsonl").read_text().split("\n") if line]
    found = [set(kinds(row["text"])) - {"invisible", "hidden_text"} for row in rows]
    assert sum(map(bool, found)) / len(rows) <= 0.005

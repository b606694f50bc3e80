"""Exact data: what is in the dictionary is found however it is written, and the file tells nobody what it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmg.testing import Harness
from lmg_dlp import Dlp, build
from lmg_dlp.build import main
from lmg_dlp.exact import BadDictionary, Dictionary, ExactData

from .conftest import exact_values

VALUES = ["Ada Lovelace", "Ada Lovelace King", "AC-4711-0815", "555 12 9876", "Ænima GmbH & Co", "x1"]


def found(text: str) -> list[str]:
    people = ExactData(exact_values(VALUES), "people")
    return [one.text for one in people.find(text, 0, len(text))]


@pytest.mark.parametrize(
    ("text", "finds"),
    [
        ("ask Ada Lovelace.", ["Ada Lovelace"]),
        ("ask ADA_LOVELACE, or ada, lovelace", ["ADA_LOVELACE", "ada, lovelace"]),
        ("ask Ada Lovelace King", ["Ada Lovelace King"]),
        ("ask Ada Lovelacer, or ada", []),
        ("AC47110815 ac 4711.0815 AC-4711-08159", ["AC47110815", "ac 4711.0815"]),
        ("555129876, 555-12-9876, 1555129876", ["555129876", "555-12-9876"]),
        ("ænima gmbh co", ["ænima gmbh co"]),
        ("x1 is too short to be looked for", []),
    ],
)
def test_values_are_found_however_they_are_written(text: str, finds: list[str]) -> None:
    assert found(text) == finds


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.from_regex(r"[A-Za-z]{5,12}( [A-Za-z]{3,12}){0,3}( [0-9]{1,6})?", fullmatch=True),
        min_size=1,
        max_size=40,
    )
)
def test_every_value_is_found(values: list[str]) -> None:
    people = ExactData(exact_values(values), "people")
    for value in values:
        text = f"it is: {value}!"
        assert any(value in one.text for one in people.find(text, 0, len(text)))


def test_the_file_holds_no_value_and_needs_its_key(tmp_path: Path) -> None:
    path = tmp_path / "people.edm"
    built = build([*VALUES, ""], path, secret="pepper")
    assert (built.values, built.left_out, built.size) == (5, 1, path.stat().st_size)
    raw = path.read_bytes().lower()
    assert b"lovelace" not in raw and b"4711" not in raw
    assert Dictionary(path, "pepper").count == 5
    with pytest.raises(BadDictionary, match="another key"):
        Dictionary(path, "salt")


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "people.edm"
    with pytest.raises(BadDictionary, match="cannot be read"):
        Dictionary(path)
    path.write_bytes(b"hello, world")
    with pytest.raises(BadDictionary, match="no dictionary"):
        Dictionary(path)
    build(VALUES, path)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(BadDictionary, match="not complete"):
        Dictionary(path)


async def test_a_gateway_without_its_dictionary_does_not_start(tmp_path: Path) -> None:
    mesh = {"pipeline": [{"dlp": {"exact": [{"name": "people", "file": str(tmp_path / "none.edm")}]}}]}
    with pytest.raises(Exception, match=r"none\.edm"):
        async with Harness(mesh, classes={"dlp": Dlp}):
            pass


def test_the_command_makes_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "values.txt").write_text("\n".join(VALUES), encoding="utf-8")
    monkeypatch.setenv("EDM_KEY", "pepper")
    arguments = [str(tmp_path / "values.txt"), str(tmp_path / "out.edm"), "--key-env", "EDM_KEY"]
    assert main(arguments) == 0
    assert capsys.readouterr().out.startswith("5 values, 1 left out, ")
    assert Dictionary(tmp_path / "out.edm", "pepper").look("adalovelace") == (True, True)
    monkeypatch.delenv("EDM_KEY")
    with pytest.raises(SystemExit):
        main(arguments)


def test_a_dictionary_costs_less_than_nine_bytes_a_value(tmp_path: Path) -> None:
    built = build((f"account {n:09d}" for n in range(20_000)), tmp_path / "many.edm")
    assert built.values == 20_000
    assert built.size / built.values < 9

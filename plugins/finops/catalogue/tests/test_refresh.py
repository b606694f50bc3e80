"""The command that makes the tables: from what is installed, without a network, the same each time."""

from __future__ import annotations

import json
import os
import zipfile
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from lmg_catalogue.refresh.__main__ import main
from lmg_catalogue.refresh.capabilities import capability_table, read_map
from lmg_catalogue.refresh.tables import write
from lmg_catalogue.tables import BUNDLED, Tables

MAP = {
    "sample_spec": {"mode": "one of: chat, embedding", "litellm_provider": "one of them", "max_input_tokens": "a number"},
    "gpt-x": {"litellm_provider": "openai", "mode": "chat", "max_input_tokens": 1000, "max_output_tokens": 100, "supports_function_calling": True, "supports_vision": False},
    "openai/gpt-x": {"litellm_provider": "openai", "mode": "chat", "max_input_tokens": 1},
    "vectors": {"litellm_provider": "openai", "mode": "embedding", "max_input_tokens": 8191},
    "painter": {"litellm_provider": "openai", "mode": "image_generation"},
    "azure/eu/gpt-x": {"litellm_provider": "azure", "mode": "chat"},
    "maker.model-v1:0": {"litellm_provider": "bedrock_converse", "mode": "chat", "max_input_tokens": 5},
    "eu.maker.model-v1:0": {"litellm_provider": "bedrock_converse", "mode": "chat", "max_input_tokens": 5},
    "us.maker.model-v1:0": {"litellm_provider": "bedrock_converse", "mode": "chat", "max_input_tokens": 7},
    "elsewhere/m": {"litellm_provider": "elsewhere", "mode": "chat"},
}  # fmt: skip
LIBRARY = "genai_prices"


def needs_library() -> None:
    if not os.environ.get("CI"):
        pytest.importorskip(LIBRARY, reason="genai-prices is not installed")


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "litellm-9.9.9-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("litellm/model_prices_and_context_window_backup.json", json.dumps(MAP))
    return path


def test_a_map_of_models_becomes_rows_by_vendor(wheel: Path) -> None:
    table = capability_table(*read_map(wheel), date(2026, 11, 9))
    assert table["source"].startswith("litellm 9.9.9,")
    rows = {vendor: entry["models"] for vendor, entry in table["vendors"].items()}
    assert rows["openai"] == {
        "gpt-x": [1000, 100, True, False, None, None, "chat"],
        "vectors": [8191, None, None, None, None, None, "embeddings"],
    }
    assert rows["azure"] == {}
    assert set(rows["aws"]) == {"maker.model-v1:0", "us.maker.model-v1:0"}
    assert "elsewhere" not in rows


def test_what_a_map_does_not_state_stays_unknown(wheel: Path) -> None:
    table = capability_table(*read_map(wheel), date(2026, 11, 9))
    assert table["vendors"]["aws"]["models"]["maker.model-v1:0"] == [5, *[None] * 5, "chat"]


def test_a_table_that_is_written_is_read_again(wheel: Path, tmp_path: Path) -> None:
    table = capability_table(*read_map(wheel), date(2026, 11, 9))
    write(tmp_path / "capabilities.json", table)
    assert json.loads((tmp_path / "capabilities.json").read_text()) == table
    found = Tables(tmp_path).capabilities("openai", "gpt-x").capabilities
    assert (found.context_tokens, found.tools, found.vision, found.reasoning) == (1000, True, False, None)


def test_refreshing_makes_both_tables_and_says_of_which_day(
    wheel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    needs_library()
    assert main(["--litellm", str(wheel), "--output", str(tmp_path / "new")]) == 0
    said = capsys.readouterr().out
    tables = Tables(tmp_path / "new")
    assert said.count(f"of {tables.date}") == 2
    assert "genai-prices" in said
    assert "litellm 9.9.9" in said


def test_the_bundled_prices_are_what_the_command_makes(tmp_path: Path) -> None:
    needs_library()
    from importlib.metadata import version

    bundled: dict[str, Any] = json.loads((BUNDLED / "prices.json").read_text())
    if f"genai-prices {version('genai-prices')}," not in bundled["source"]:
        pytest.skip("the table is made of another version of genai-prices")
    assert main(["--output", str(tmp_path), "--date", bundled["date"]]) == 0
    assert (tmp_path / "prices.json").read_text() == (BUNDLED / "prices.json").read_text()
    assert not (tmp_path / "capabilities.json").exists()


@pytest.mark.parametrize("damage", ["missing", "no wheel", "no map"])
def test_a_source_that_cannot_be_read_is_said(
    damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    needs_library()
    path = tmp_path / "litellm-1-py3-none-any.whl"
    if damage == "no wheel":
        path.write_bytes(b"PK")
    elif damage == "no map":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("other", "")
    with pytest.raises(SystemExit) as caught:
        main(["--litellm", str(path), "--output", str(tmp_path)])
    assert caught.value.code == 2
    assert "error:" in capsys.readouterr().err

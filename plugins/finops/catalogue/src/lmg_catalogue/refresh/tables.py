"""How the tables are written: JSON with one model a line, so that a refresh can be reviewed as a diff."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

__all__ = ["EMBEDS", "Json", "read", "write"]

Json = dict[str, Any]

EMBEDS: Final = re.compile(r"embed|^voyage-|(^|[-/])(bge|gte|e5)-")
"""The names of models that make embeddings."""


def read(path: Path) -> Json:
    """A table, or one without models where there is none yet."""
    table: Json = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"vendors": {}}
    return table


def write(path: Path, table: Json) -> None:
    """Writes a table."""
    head = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in table.items() if key != "vendors"]
    vendors = [f"{json.dumps(name)}: {_vendor(vendor)}" for name, vendor in table["vendors"].items()]
    lines = [*head, '"vendors": {\n' + ",\n".join(vendors) + "\n}"]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def _vendor(vendor: Json) -> str:
    models = vendor["models"]
    if isinstance(models, list):
        rows, ends = [_compact(model) for model in models], "[]"
    else:
        rows, ends = [f"{json.dumps(name)}: {_compact(row)}" for name, row in models.items()], "{}"
    head = "".join(
        f"{json.dumps(key)}: {_compact(value)}, " for key, value in vendor.items() if key != "models"
    )
    return f'{{{head}"models": {ends[0]}\n' + ",\n".join(rows) + f"\n{ends[1]}}}"


def _compact(value: object) -> str:
    return json.dumps(value, separators=(", ", ": "), ensure_ascii=False)

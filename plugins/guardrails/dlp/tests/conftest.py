"""What the tests share: a dictionary of exact data."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

from lmg_dlp.build import build
from lmg_dlp.exact import Dictionary


def exact_values(values: Iterable[str], secret: str = "") -> Dictionary:
    """A dictionary of ``values``."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "values.edm"
        build(values, path, secret=secret)
        return Dictionary(path, secret)

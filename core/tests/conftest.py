"""What several of the kernel's tests need."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Install = Callable[..., None]


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables are as wide as they need, whatever terminal the tests were started from."""
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """``install("acme", source, thing="Thing")`` makes a distribution ``lmg-acme`` whose component ``thing`` can be found."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    modules: list[str] = []

    def make(name: str, source: str, **components: str) -> None:
        module = f"lmg_{name}"
        modules.append(module)
        (site / f"{module}.py").write_text(source)
        info = site / f"{module}-1.2.3.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: lmg-{name}\nVersion: 1.2.3\n")
        lines = [f"{component} = {module}:{cls}" for component, cls in components.items()]
        (info / "entry_points.txt").write_text("\n".join(["[lmg.plugins]", *lines]) + "\n")
        importlib.invalidate_caches()

    yield make
    for module in modules:
        sys.modules.pop(module, None)

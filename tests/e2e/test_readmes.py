"""What a README tells operators to write is a configuration that loads."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lmg.config import read_config
from lmg.pipeline import draft

ROOT = Path(__file__).resolve().parents[2]
READMES = [
    ROOT / "README.md",
    *sorted(ROOT.glob("plugins/*/README.md")),
    *sorted(ROOT.glob("plugins/*/*/README.md")),
]
_BLOCK = re.compile(r"^```ya?ml\n(.*?)^```", re.DOTALL | re.MULTILINE)
_SECTION = re.compile(r"^(pipeline|providers):", re.MULTILINE)
_REFERENCE = re.compile(r"\$\{([A-Za-z_]\w*)")


def configurations(path: Path) -> list[str]:
    return [block for block in _BLOCK.findall(path.read_text()) if _SECTION.search(block)]


BLOCKS = [(path, n, text) for path in READMES for n, text in enumerate(configurations(path))]


@pytest.mark.parametrize(
    ("path", "text"),
    [(path, text) for path, _, text in BLOCKS],
    ids=[f"{path.relative_to(ROOT)}-{n}" for path, n, _ in BLOCKS],
)
def test_every_configuration_loads(path: Path, text: str, tmp_path: Path) -> None:
    mesh = tmp_path / "mesh.yaml"
    mesh.write_text(text)
    environ = {name: f"sk-{name.lower()}-0123456789abcdef0123456789" for name in _REFERENCE.findall(text)}
    config, document = read_config(mesh, environ)
    blueprint = draft(config, document)
    assert blueprint.listed or blueprint.providers


@pytest.mark.parametrize("path", READMES[1:], ids=lambda path: path.parent.name)
def test_every_plugin_shows_a_configuration(path: Path) -> None:
    assert configurations(path)

"""The list of what is installed is complete, and names each package by version and hash."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_sbom_names_every_locked_package_with_its_version_and_hashes(tmp_path: Path) -> None:
    target = tmp_path / "sbom.json"
    tool = Path(sys.executable).with_name("cyclonedx-py")
    command = [
        tool,
        "requirements",
        ROOT / "requirements/run.txt",
        "--pyproject",
        ROOT / "core/pyproject.toml",
    ]
    subprocess.run(
        [*command, "--output-format", "JSON", "--output-reproducible", "--output-file", target],
        check=True,
        capture_output=True,
    )
    sbom = json.loads(target.read_text())
    assert (sbom["bomFormat"], sbom["metadata"]["component"]["name"]) == ("CycloneDX", "lmg-core")
    listed = {(one["name"], one["version"]): one for one in sbom["components"]}
    locked = re.findall(
        r"^([a-z0-9.-]+)==([^\s;\\]+)", (ROOT / "requirements/run.txt").read_text(), re.MULTILINE
    )
    assert set(locked) == set(listed)
    for (name, version), one in listed.items():
        assert one["purl"].startswith(f"pkg:pypi/{name}@{version}")
        assert any(reference.get("hashes") for reference in one["externalReferences"])

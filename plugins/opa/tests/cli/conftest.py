"""``lmg("test", folder)`` runs `lmg policy test <folder>` and gives its exit code and all that it wrote."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lmg.cli import main


@pytest.fixture
def lmg(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    def run(*arguments: object) -> tuple[int, str]:
        code = main(["policy", *map(str, arguments)])
        said = capsys.readouterr()
        return code, said.out + said.err

    return run

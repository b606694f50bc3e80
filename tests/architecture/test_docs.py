"""The documentation is what the code says."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lmg.hookspecs import LIFE_HOOKS, SETUP_HOOKS, Hooks
from lmg.testing import Harness, chat_events, check_component

ROOT = Path(__file__).resolve().parents[2]


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)


def test_generated_pages_are_what_the_code_says() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/docs.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("hook", [*LIFE_HOOKS, *SETUP_HOOKS])
def test_every_hook_has_a_reference_page_with_an_example(hook: str) -> None:
    doc = getattr(Hooks, hook).__doc__
    assert "Example::" in doc
    assert f"def {hook}(" in doc
    assert f"\n## {hook}\n" in (ROOT / "docs/hooks.md").read_text()


async def test_the_plugin_in_30_lines_works_as_written(tmp_path: Path) -> None:
    source = tmp_path / "my_guard.py"
    source.write_text(blocks("docs/plugins.md", "python")[0])
    assert len([line for line in source.read_text().splitlines() if line.strip()]) <= 36
    spec = importlib.util.spec_from_file_location("my_guard", source)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    settings = {"forbidden": "bluebird"}
    async with Harness(
        {"pipeline": [{"project_guard": settings}]}, classes={"project_guard": module.ProjectGuard}
    ) as gateway:
        refused = await gateway.chat("what about bluebird?")
        assert (refused.status, refused.error["code"]) == (403, "forbidden_project")
        gateway.upstream.stream(*chat_events("a blue", "bi", "rd in the blue", "birch and blue"))
        assert (await gateway.chat(stream=True)).text == "a [hidden] in the bluebirch and blue"
        gateway.upstream.reply(
            {"choices": [{"index": 0, "message": {"role": "assistant", "content": "bluebird!"}}]}
        )
        assert (await gateway.chat()).text == "[hidden]!"
    await check_component(lambda: (module.ProjectGuard, settings))


async def test_the_example_of_the_testing_page_passes(tmp_path: Path) -> None:
    source = tmp_path / "test_example.py"
    source.write_text(blocks("docs/testing.md", "python")[0])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--asyncio-mode=auto", source],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_every_link_between_pages_leads_somewhere() -> None:
    pages = [
        ROOT / "README.md",
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("plugins/**/README.md"),
        ROOT / "CONTRIBUTING.md",
    ]
    for page in pages:
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            if "://" not in link:
                target = ROOT / link[1:] if link.startswith("/") else page.parent / link
                assert target.exists() or link.endswith("benchmark.md"), f"{page.relative_to(ROOT)}: {link}"

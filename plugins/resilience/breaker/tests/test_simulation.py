"""The simulation: reproducible, its reference behaves as Envoy does, and the breaker is worth having."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

FOLDER = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def simulate() -> Iterator[ModuleType]:
    """``simulation.simulate``, which is beside the distribution and no part of it."""
    sys.path.insert(0, str(FOLDER))
    try:
        from simulation import simulate as module

        yield module
    finally:
        sys.path.remove(str(FOLDER))


def test_the_results_that_are_checked_in_are_what_the_seed_gives(simulate: ModuleType) -> None:
    kept = json.loads((FOLDER / "simulation/results.json").read_text())
    assert json.loads(json.dumps(simulate.results(simulate.Setting()))) == kept


def test_the_table_in_the_readme_is_that_of_the_results(simulate: ModuleType) -> None:
    kept = json.loads((FOLDER / "simulation/results.json").read_text())
    assert simulate.table(kept) in (FOLDER / "README.md").read_text()


def test_the_plot_that_is_checked_in_is_that_of_the_results(simulate: ModuleType) -> None:
    kept = json.loads((FOLDER / "simulation/results.json").read_text())
    plot = (FOLDER / "simulation/outage.svg").read_text()
    assert simulate.drawn(kept) == plot
    words = [one.text for one in ElementTree.fromstring(plot).iter() if one.text and one.text.strip()]
    assert {*kept["scenarios"], "round robin", "Envoy, 100 %", "breaker"} <= set(words)


@pytest.mark.parametrize("targets", [2, 3, 5])
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("scenario", ["hard errors", "black hole", "brown-out", "flapping"])
def test_users_see_fewer_errors_than_without_and_than_with_envoys_ejection(
    simulate: ModuleType, scenario: str, seed: int, targets: int
) -> None:
    setting = replace(
        simulate.Setting(),
        seed=seed,
        targets=targets,
        seconds=200.0,
        outage=(80.0, 140.0),
        requests_per_s=15.0,
    )
    found = simulate.results(setting, [scenario])["scenarios"][scenario]
    ours = found["breaker"]
    for other in ("round robin", "Envoy, defaults", "Envoy, 100 %"):
        assert ours["errors"] < found[other]["errors"], other
    assert ours["error_percent"] < 1.0, (
        "what is left: of two targets one is open, and the other fails one call in 200"
    )
    assert ours["calls_to_ill"] < found["round robin"]["calls_to_ill"] / 2
    # Without moving on within the request: what the circuits alone are worth.
    assert found["breaker, no move-on"]["errors"] < found["round robin"]["errors"] / 2
    assert ours["p99_s"] <= found["Envoy, 100 %, retries"]["p99_s"] + 0.1


# The reference, by what was seen of Envoy 1.40


def feed(envoy: object, now: float, host: int, statuses: str) -> None:
    for status in statuses.split():
        envoy.reply(now, host, int(status))  # type: ignore[attr-defined]


def test_envoy_ejects_after_exactly_five(simulate: ModuleType) -> None:
    envoy = simulate.EnvoyEjection(3, max_ejection_percent=100)
    feed(envoy, 1.0, 0, "503 503 503 503")
    assert not envoy.is_ejected(1.0, 0)
    feed(envoy, 1.0, 0, "503")
    assert envoy.is_ejected(1.0, 0)
    assert {envoy.choose(1.0) for _ in range(6)} == {1, 2}


def test_envoy_takes_a_429_for_a_success(simulate: ModuleType) -> None:
    envoy = simulate.EnvoyEjection(3, max_ejection_percent=100)
    for _ in range(20):
        feed(envoy, 1.0, 0, "503 503 503 503 429")
    assert not envoy.is_ejected(1.0, 0)


def test_envoys_default_ejects_nobody_of_three(simulate: ModuleType) -> None:
    envoy = simulate.EnvoyEjection(3)
    feed(envoy, 1.0, 0, "503 " * 20)
    assert (envoy.ejections, envoy.overflows) == (0, 4)
    envoy = simulate.EnvoyEjection(3, always_eject_one_host=True)
    feed(envoy, 1.0, 0, "503 " * 5)
    feed(envoy, 1.0, 1, "503 " * 5)
    assert envoy.healthy(1.0) == [1, 2]


def test_envoy_lengthens_ejections_by_the_base_and_notices_their_end_on_the_sweep(
    simulate: ModuleType,
) -> None:
    envoy = simulate.EnvoyEjection(3, base_s=3.0, interval_s=1.0, max_ejection_percent=100)
    now, lengths = 0.45, []
    for _ in range(4):
        feed(envoy, now, 0, "503 " * 5)
        begun = now
        while envoy.is_ejected(now, 0):
            now = round(now + 0.05, 2)
        lengths.append(round(now - begun, 2))
        now = round(now + 0.5, 2)
    assert lengths == [pytest.approx(expected, abs=0.5) for expected in (3.6, 6.5, 9.6, 12.5)]


def test_envoy_uses_everybody_in_a_panic(simulate: ModuleType) -> None:
    envoy = simulate.EnvoyEjection(3, max_ejection_percent=100)
    for host in (0, 1):
        feed(envoy, 1.0, host, "503 " * 5)
    assert envoy.healthy(1.0) == [0, 1, 2]

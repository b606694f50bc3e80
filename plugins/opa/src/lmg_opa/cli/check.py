"""Run a policy's tests: every rule `test_*` must be true. `todo_test_*` is skipped, as `opa test` does."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, Final, Literal

from lmg import ConfigError
from lmg.cli.output import console, print_json, table

from ..engine import Bundle, PolicyFault
from ..engines import engine
from .reading import add_json_argument, add_package_argument, plain, read_bundle
from .tracer import UNDEFINED, Answer, Definition, Lines, Tracer, definitions

__all__ = ["HELP", "Report", "TestResult", "arguments", "run", "run_tests"]

HELP = "run a policy's tests"

TESTS: Final = "_test.rego"
MAX_PRINTS: Final = 20
Verdict = Literal["pass", "fail", "error", "skip"]


@dataclass(frozen=True, slots=True)
class TestResult:
    """One test. ``stopped`` is the line that it got no further than, 0 where that is not known; ``detail`` says more."""

    __test__ = False  # it is no test of pytest's

    name: str
    file: str
    line: int
    verdict: Verdict
    stopped: int = 0
    source: str = ""
    detail: str = ""
    took_us: float = 0.0
    prints: tuple[str, ...] = ()


@dataclass(slots=True)
class Report:
    """All tests of a bundle, and which lines of its policies they went through. ``fault``: the gateway would not load it."""

    results: list[TestResult] = field(default_factory=list)
    coverage: dict[str, Lines] = field(default_factory=dict)
    fault: str = ""

    @property
    def counts(self) -> Counter[str]:
        """How many tests ended how."""
        return Counter(result.verdict for result in self.results)

    @property
    def passed(self) -> bool:
        """Whether there was a test, none failed, and the gateway would load the policy."""
        counts = self.counts
        return bool(counts["pass"]) and not counts["fail"] and not counts["error"] and not self.fault

    @property
    def covered_percent(self) -> float:
        """Of the lines that hold something to evaluate."""
        covered = sum(len(lines.covered) for lines in self.coverage.values())
        missed = sum(len(lines.missed) for lines in self.coverage.values())
        return 100.0 * covered / (covered + missed) if covered + missed else 100.0


def arguments(parser: ArgumentParser) -> None:
    """`lmg policy test`'s options."""
    parser.add_argument("policy", type=Path, metavar="DIR", help="the policy's folder")
    add_package_argument(parser)
    parser.add_argument("--run", default="", metavar="TEXT", help="only tests with this in their name")
    parser.add_argument("--coverage", action="store_true", help="show the lines that no test went through")
    parser.add_argument(
        "--threshold", type=float, default=0.0, metavar="PERCENT", help="fail below this coverage"
    )  # fmt: skip
    parser.add_argument("--verbose", "-v", action="store_true", help="show tests that pass, too")
    add_json_argument(parser)


def run(options: Namespace) -> int:
    """0 where all tests passed, 1 where one did not, none was there, or too few lines are covered."""
    report = run_tests(read_bundle(options.policy), options.package, options.run)
    well = report.passed and report.covered_percent >= options.threshold
    if options.json:
        print_json(_plain_values(report, well))
    else:
        _show(report, options)
    return 0 if well else 1


def run_tests(bundle: Bundle, package: str, only: str = "") -> Report:
    """Runs every test of ``bundle`` whose name holds ``only``.

    Raises:
        ConfigError: a module does not parse.
    """
    try:
        tracer = Tracer(bundle)
    except PolicyFault as error:
        raise ConfigError(str(error)) from error
    report = Report()
    found = [definition for module in tracer.modules for definition in definitions(module)]
    times = Counter(definition.path for definition in found)
    for definition in found:
        name = definition.rule.path[-1]
        if not name.startswith(("test_", "todo_test_")) or only not in definition.path:
            continue
        if name.startswith("todo_"):
            report.results.append(_result(definition, "skip"))
        elif times[definition.path] > 1:
            # Together they would pass where one of them does.
            report.results.append(_result(definition, "error", detail="two tests have this name"))
        else:
            report.results.append(_tested(tracer, definition, report.coverage))
    for definition in found:
        file = definition.module.file
        # The interpreter tells nothing of a file that it has not been in.
        if not file.endswith(TESTS) and not report.coverage.get(file, Lines()).covered:
            report.coverage[file] = Lines(
                missed=report.coverage.get(file, Lines()).missed | {definition.start}
            )
    if any(module.package == tuple(package.split(".")) for module in tracer.modules):
        try:
            engine("regorus").load(bundle, package).close()
        except PolicyFault as error:
            report.fault = str(error)
    return report


def _tested(tracer: Tracer, test: Definition, coverage: dict[str, Lines]) -> TestResult:
    start = perf_counter()
    answer = tracer.ask(test.path)
    took_us = (perf_counter() - start) * 1e6
    _add(coverage, answer.lines)
    prints = tuple(tracer.prints()[:MAX_PRINTS])
    if answer.value is True:
        return _result(test, "pass", took_us=took_us, prints=prints)
    reached = test.within(answer.lines.get(test.module.file, Lines()).covered)
    stopped = max(reached, default=0)
    more: dict[str, Any] = {
        "stopped": stopped, "source": test.source(stopped) if stopped else "", "took_us": took_us, "prints": prints,
    }  # fmt: skip
    if answer.error:
        return _result(test, "error", detail=answer.error, **more)
    return _result(test, "fail", detail=_unmet(answer), **more)


def _unmet(answer: Answer) -> str:
    if answer.value is UNDEFINED or answer.value is False:
        return ""
    if isinstance(answer.value, dict):
        return "it is an object: write a test for each case"
    return "it is not true"


def _result(test: Definition, verdict: Verdict, **more: Any) -> TestResult:
    return TestResult(test.path, test.module.file, test.rule.line, verdict, **more)


def _add(coverage: dict[str, Lines], more: Mapping[str, Lines]) -> None:
    for file, lines in more.items():
        if file.endswith(TESTS):
            continue
        there = coverage.get(file, Lines())
        covered = there.covered | lines.covered
        coverage[file] = Lines(covered, (there.missed | lines.missed) - covered)


# -- what is printed ------------------------------------------------------------------------------


def _show(report: Report, options: Namespace) -> None:
    out = console()
    shown = [one for one in report.results if options.verbose or one.verdict in ("fail", "error")]
    for one in shown:
        style = {"pass": "green", "skip": "yellow"}.get(one.verdict, "red")
        out.print(f"{one.verdict.upper()} {one.name}  {one.file}:{one.line}", style=style)
        if one.stopped:
            out.print(f"  no further than {one.file}:{one.stopped}: {plain(one.source)}", soft_wrap=True)
        for line in (one.detail.splitlines() if one.detail else [])[:8]:
            out.print(f"  {plain(line)}")
        for text in one.prints:
            out.print(f"  print: {plain(text)}", style="dim")
    if options.coverage:
        out.print(_coverage_table(report.coverage))
    if report.fault:
        out.print(f"the gateway would not load this policy: {plain(report.fault, 500)}", style="red")
    counts = report.counts
    if not report.results:
        out.print("there are no tests (rules named test_* in *_test.rego)", style="red")
        return
    parts = [
        f"{counts[verdict]} {verdict}" for verdict in ("pass", "fail", "error", "skip") if counts[verdict]
    ]
    out.print(
        f"{', '.join(parts)}; {report.covered_percent:.0f}% of the policy's lines",
        style="green" if report.passed else "red",
    )


def _coverage_table(coverage: Mapping[str, Lines]) -> Any:
    shown = table("Coverage", "file", "lines", "not reached")
    for file, lines in sorted(coverage.items()):
        total = len(lines.covered) + len(lines.missed)
        missed = ", ".join(map(str, sorted(lines.missed)))
        shown.add_row(file, f"{len(lines.covered)} of {total}", missed)
    return shown


def _plain_values(report: Report, well: bool) -> dict[str, Any]:
    def one(result: TestResult) -> dict[str, Any]:
        return {
            "name": result.name, "file": result.file, "line": result.line, "verdict": result.verdict,
            "stopped": result.stopped or None, "detail": result.detail, "took_us": round(result.took_us, 1),
            "prints": list(result.prints),
        }  # fmt: skip

    def lines(of: Sequence[int] | frozenset[int]) -> list[int]:
        return sorted(of)

    return {
        "passed": well,
        "counts": dict(report.counts),
        "tests": [one(result) for result in report.results],
        "coverage": {
            "percent": round(report.covered_percent, 1),
            "files": {
                file: {"covered": lines(item.covered), "missed": lines(item.missed)}
                for file, item in sorted(report.coverage.items())
            },
        },
        "fault": report.fault or None,
    }

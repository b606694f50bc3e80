"""Measures the gateway's own cost: CPU per request and per chunk, added latency, streams, memory, start.

`make bench` prints a table; `make bench ARGS="--out docs/benchmark.md"` writes the page. Everything stays on loopback,
every run is bounded in requests and seconds, and only processes started here are ended, by their id. The gateway has one
core to itself where the machine has two. Reference points are measured in the same run: the upstream itself, without a
gateway, and a bare ASGI application under uvicorn that answers from memory.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TOOLS = Path(__file__).resolve().parent / "bench_tools"
CORES = sorted(os.sched_getaffinity(0))


def start(core: int, *argv: object) -> subprocess.Popen[str]:
    """A process on one core."""
    pin = ["taskset", "-c", str(CORES[core % len(CORES)])] if len(CORES) > 1 else []
    return subprocess.Popen([*pin, sys.executable, *map(str, argv)], stdout=subprocess.PIPE, text=True)


def cpu_s(pid: int) -> float:
    """The scheduler's account of a process, in seconds."""
    tasks = Path(f"/proc/{pid}/task")
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e9


def rss_mb(pid: int) -> float:
    """Resident memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def load(port: int, body: dict[str, Any], pid: int | None, *options: object) -> dict[str, Any]:
    """One scenario; with ``pid`` also its CPU microseconds per completed request."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(body, file)
        file.flush()
        generator = start(1, TOOLS / "load.py", "--port", port, "--body", file.name, *options)
        assert generator.stdout is not None
        marks: dict[str, float] = {}
        result: dict[str, Any] = {}
        for line in generator.stdout:
            if line.startswith("MARK"):
                marks[line.split()[1]] = cpu_s(pid) if pid else 0.0
            else:
                result = json.loads(line)
        generator.wait()
    if not result.get("ok"):
        raise SystemExit(f"no request was answered: {result}")
    result["cpu_us"] = (marks["end"] - marks["begin"]) / result["ok"] * 1e6
    return result


def ask(model: str, *, stream: bool = False, prompt: int = 0) -> dict[str, Any]:
    """A request's body."""
    text = ("The quick brown fox jumps over the lazy dog. " * (prompt // 45 + 1))[:prompt] or "Say hello."
    return {
        "model": model,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": 256,
        **({"stream": True} if stream else {}),
    }


@dataclass
class Table:
    """Rows of claims, figures and bars."""

    rows: list[tuple[str, str, str]] = field(default_factory=list)

    def add(self, what: str, figure: str, bar: str = "") -> None:
        """One row."""
        self.rows.append((what, figure, bar))
        print(f"{what:<62} {figure:>16}   {bar}", flush=True)

    def markdown(self) -> str:
        """The page."""
        machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}"
        lines = [
            "# Benchmark\n",
            f"Measured by `make bench` on {machine}. {' '.join((__doc__ or '').split(chr(10))[2:]).strip()}\n",
        ]
        lines += ["| what | measured | bar |", "|---|--:|---|"]
        lines += [f"| {what} | {figure} | {bar} |" for what, figure, bar in self.rows]
        lines.append(
            "\nThe bars are for the reference machine; a virtual machine that is shared is up to three times slower, which shows in the"
            " rows of the bare application. Compare ratios within one run, not absolute times between runs."
        )
        return "\n".join(lines) + "\n"


def median(runs: list[float]) -> float:
    """The middle of a few runs."""
    return statistics.median(runs)


def measure(table: Table, rounds: int, *, full: bool) -> None:
    """All scenarios."""
    upstream = start(1, TOOLS / "upstream.py")
    assert upstream.stdout is not None
    port = int(upstream.stdout.readline())
    running = [upstream]
    try:
        began = time.perf_counter()
        gateway = start(0, TOOLS / "gateway.py", port, "plain")
        running.append(gateway)
        assert gateway.stdout is not None
        own = int(gateway.stdout.readline())
        table.add("ready after", f"{time.perf_counter() - began:.2f} s", "≤ 0.8 s")
        table.add("memory when idle", f"{rss_mb(gateway.pid):.0f} MB", "≤ 60 MB")
        bare = start(0, TOOLS / "bare.py")
        running.append(bare)
        assert bare.stdout is not None
        floor = int(bare.stdout.readline())
        floors, figures, prompts = [], [], []
        for _ in range(rounds):  # in turn, so that both see the same noise
            floors.append(load(floor, ask("mock-b1024"), bare.pid, "--seconds", 2)["cpu_us"])
            figures.append(load(own, ask("mock-b1024"), gateway.pid, "--seconds", 3)["cpu_us"])
            prompts.append(load(own, ask("mock-b1024", prompt=20_000), gateway.pid, "--seconds", 2)["cpu_us"])
        table.add("bare ASGI application, no upstream: CPU per request", f"{median(floors):.0f} µs")
        table.add(
            "chat, static key, receipt, 1 KB answer, 16 clients: CPU",
            f"{median(figures):.0f} µs",
            "≤ 150 µs, goal 90",
        )
        table.add(
            "the same as a multiple of the bare application", f"{median(figures) / median(floors):.1f} x"
        )
        table.add("chat with a 20 KB prompt: CPU per request", f"{median(prompts):.0f} µs")
        paced = ["--rate", 16, "--seconds", 4]
        chunk = median(
            [
                load(own, ask("mock-n100-i10", stream=True), gateway.pid, *paced)["cpu_us"] / 101
                for _ in range(rounds)
            ]
        )
        table.add("paced stream, untouched: CPU per chunk", f"{chunk:.0f} µs", "≤ 60 µs")
        reading = start(0, TOOLS / "gateway.py", port, "filter")
        running.append(reading)
        assert reading.stdout is not None
        other = int(reading.stdout.readline())
        chunk = median(
            [
                load(other, ask("mock-n100-i10", stream=True), reading.pid, *paced)["cpu_us"] / 101
                for _ in range(rounds)
            ]
        )
        table.add("paced stream that a filter reads: CPU per chunk", f"{chunk:.0f} µs", "≤ 75 µs")
        direct = load(port, ask("mock-d50-b1024"), None, "--rate", 200, "--seconds", 5)
        through = load(own, ask("mock-d50-b1024"), gateway.pid, "--rate", 200, "--seconds", 5)
        table.add("200 requests/s: added p50", f"{through['p50_ms'] - direct['p50_ms']:.2f} ms", "≤ 0.6 ms")
        table.add("200 requests/s: added p99", f"{through['p99_ms'] - direct['p99_ms']:.2f} ms", "≤ 3 ms")
        if full:
            burst = load(own, ask("mock-n150-i100", stream=True), gateway.pid, "--burst", 1000)
            table.add("1,000 streams at once: complete", f"{burst['ok']} of 1000", "all")
            table.add("1,000 streams at once: CPU per chunk", f"{burst['cpu_us'] / 151:.0f} µs")
            table.add("memory afterwards", f"{rss_mb(gateway.pid):.0f} MB")
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(10)


def main() -> None:
    """Measures and prints; ``--out`` writes the page."""
    parser = argparse.ArgumentParser(description="Measures the gateway's own cost.")
    parser.add_argument("--full", action="store_true", help="also 1,000 streams at once, and more rounds")
    parser.add_argument("--out", type=Path, help="write the page to this file")
    options = parser.parse_args()
    table = Table()
    measure(table, 3 if options.full else 1, full=options.full)
    if options.out is not None:
        options.out.write_text(table.markdown())


if __name__ == "__main__":
    main()

"""What users see of an outage: the breaker's own circuits against Envoy's ejection and against none, in virtual time.

A discrete-event simulation without sockets: requests arrive at random times (Poisson), each is sent to one of several
equal targets, and one of the targets has an outage for a while. Everything random is drawn before from one seed, the
same for every policy, so that policies differ in what they do and in nothing else.

    cd plugins/resilience/breaker && python -m simulation.simulate

writes results.json and outage.svg beside this file, and prints the table.
"""

from __future__ import annotations

import heapq
import json
import math
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any, Final

from .envoy import EnvoyEjection as EnvoyEjection
from .plot import drawn
from .policies import OURS as OURS
from .policies import POLICIES, Policy
from .world import ILL, OK, SCENARIOS, Attempt, Fault, Request, Setting, answer

__all__ = ["EnvoyEjection", "results", "run", "summary", "table"]

HERE: Final = Path(__file__).resolve().parent


def requests_of(setting: Setting) -> list[Request]:
    """The users of one experiment, the same for every policy."""
    random, now, found = Random(setting.seed), 0.0, []
    while (now := now + random.expovariate(setting.requests_per_s)) < setting.seconds:
        draws = tuple((random.random(), random.gauss(0.0, 1.0)) for _ in range(setting.targets))
        found.append(Request(now, draws))
    return found


def run(setting: Setting, fault: Fault, policy: Policy) -> tuple[list[Request], int]:
    """Every user's request with what became of it, and how many calls the ill target had during its outage."""
    events: list[tuple[float, int, Callable[[float], None]]] = []
    order, calls_to_ill = 0, 0

    def at(time: float, happens: Callable[[float], None]) -> None:
        nonlocal order
        order += 1
        heapq.heappush(events, (time, order, happens))

    def attempt(request: Request, now: float) -> None:
        nonlocal calls_to_ill
        call = Attempt(request, -1, now)
        host = policy.choose(now, call) if len(request.tried) < policy.attempts else None
        if host is None:
            request.ended_at, request.status = now, request.status or 503
            return
        call.target = host
        request.tried.append(host)
        calls_to_ill += host == ILL and setting.outage[0] <= now < setting.outage[1]
        status, latency_s = answer(setting, fault, call)
        at(now + latency_s, lambda then: ended(call, status, then))

    def ended(call: Attempt, status: int, now: float) -> None:
        call.first_byte_at = now
        policy.reply(now, call, status)
        call.request.status = status
        if status == OK:
            call.request.ended_at = now
        else:
            attempt(call.request, now)

    def tick(now: float) -> None:
        policy.tick(now)
        if now < setting.seconds:
            at(now + 0.5, tick)

    requests = requests_of(setting)
    for request in requests:
        at(request.at, lambda now, request=request: attempt(request, now))  # type: ignore[misc]
    at(0.5, tick)
    while events:
        now, _, happens = heapq.heappop(events)
        happens(now)
    return requests, calls_to_ill


def summary(setting: Setting, requests: Iterable[Request], calls_to_ill: int) -> dict[str, Any]:
    """What users saw from the beginning of the outage to a minute after its end, and errors over time (percent)."""
    begun, over = setting.outage
    seen = [one for one in requests if begun <= one.at < over + 60]
    latencies = sorted(one.ended_at - one.at for one in seen)
    bins: list[list[int]] = [[0, 0] for _ in range(math.ceil(setting.seconds / setting.bin_s))]
    for one in requests:
        counts = bins[int(one.at / setting.bin_s)]
        counts[0] += 1
        counts[1] += one.status != OK
    errors = sum(one.status != OK for one in seen)
    return {
        "requests": len(seen),
        "errors": errors,
        "error_percent": round(100 * errors / len(seen), 2),
        "p50_s": round(latencies[len(latencies) // 2], 2),
        "p99_s": round(latencies[int(len(latencies) * 0.99)], 2),
        "calls_to_ill": calls_to_ill,
        "errors_over_time": [round(100 * failed / max(every, 1), 1) for every, failed in bins],
    }


def results(setting: Setting, scenarios: Iterable[str] = SCENARIOS) -> dict[str, Any]:
    """Every policy in every scenario."""
    return {
        "setting": asdict(setting),
        "scenarios": {
            scenario: {
                name: summary(setting, *run(setting, SCENARIOS[scenario], policy(setting)))
                for name, policy in POLICIES.items()
            }
            for scenario in scenarios
        },
    }


def table(found: dict[str, Any]) -> str:
    """The results as a Markdown table."""
    lines = [
        "| outage | policy | users with an error | p50 | p99 | calls to the ill target |",
        "|---|---|---|---|---|---|",
    ]
    for scenario, policies in found["scenarios"].items():
        for name, row in policies.items():
            lines.append(
                f"| {scenario} | {name} | {row['error_percent']:.2f} % | {row['p50_s']:.2f} s | {row['p99_s']:.2f} s"
                f" | {row['calls_to_ill']} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Writes the results and the plot, and prints the table."""
    found = results(Setting())
    (HERE / "results.json").write_text(json.dumps(found, indent=1) + "\n")
    (HERE / "outage.svg").write_text(drawn(found))
    sys.stdout.write(table(found) + "\n")


if __name__ == "__main__":
    main()

"""Draws errors over time as SVG: one panel a scenario, one line a policy."""

from __future__ import annotations

from typing import Any, Final

# Okabe and Ito's colours, which everybody can tell apart; dashes tell the lines apart in print.
LINES: Final = {
    "round robin": ("#999999", ""),
    "Envoy, 100 %": ("#E69F00", "6 3"),
    "breaker, no move-on": ("#009E73", "2 3"),
    "breaker": ("#0072B2", ""),
}
WIDTH, HEIGHT = 960, 710
PANEL_W, PANEL_H = 400, 230
LEFT, TOP, GAP_X, GAP_Y = 64, 124, 72, 76


def drawn(found: dict[str, Any]) -> str:
    """The plot of what ``simulate.results`` gives."""
    setting = found["setting"]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        _text(LEFT, 30, "Users with an error while one of three targets has an outage", size=18, weight="bold"),
        _text(
            LEFT, 50,
            f"{setting['requests_per_s']:g} requests/s, {setting['timeout_s']:g} s timeout, outage shaded, percent of requests per {setting['bin_s']:g} s",
            fill="#555555",
        ),
        *_legend(),
    ]  # fmt: skip
    for n, (scenario, policies) in enumerate(found["scenarios"].items()):
        x, y = LEFT + n % 2 * (PANEL_W + GAP_X), TOP + n // 2 * (PANEL_H + GAP_Y)
        parts += _panel(x, y, scenario, policies, setting)
    return "\n".join([*parts, "</svg>", ""])


def _legend() -> list[str]:
    parts, x = [], LEFT
    for name, (colour, dash) in LINES.items():
        parts.append(_line(x, 70, x + 28, 70, colour, dash, 2.5))
        parts.append(_text(x + 34, 74, name))
        x += 52 + 8 * len(name)
    return parts


def _panel(x: int, y: int, scenario: str, policies: dict[str, Any], setting: dict[str, Any]) -> list[str]:
    seconds, (begun, over) = setting["seconds"], setting["outage"]
    most = max(max(policies[name]["errors_over_time"]) for name in LINES)
    top = max(10, 10 * -(-int(most + 1) // 10))
    right, bottom = x + PANEL_W, y + PANEL_H

    def at(time: float, percent: float) -> tuple[float, float]:
        return x + PANEL_W * time / seconds, bottom - PANEL_H * percent / top

    parts = [
        _text(x, y - 10, scenario, size=14, weight="bold"),
        f'<rect x="{at(begun, 0)[0]:.1f}" y="{y}" width="{PANEL_W * (over - begun) / seconds:.1f}" height="{PANEL_H}" fill="#f2f2f2"/>',
    ]
    for percent in range(0, top + 1, 10 if top <= 60 else 20):
        level = at(0, percent)[1]
        parts.append(_line(x, level, right, level, "#dddddd", "", 1))
        parts.append(_text(x - 8, level + 4, f"{percent} %", anchor="end"))
    for time in range(0, int(seconds) + 1, 60):
        mark = at(time, 0)[0]
        parts.append(_line(mark, bottom, mark, bottom + 5, "#555555", "", 1))
        parts.append(_text(mark, bottom + 19, f"{time} s", anchor="middle"))
    for name, (colour, dash) in LINES.items():
        bins = policies[name]["errors_over_time"]
        points = " ".join(
            f"{px:.1f},{py:.1f}"
            for px, py in (at((n + 0.5) * setting["bin_s"], percent) for n, percent in enumerate(bins))
        )
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"><title>{name}</title></polyline>'
        )
    return parts


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, dash: str, width: float) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width:g}"'
        f' stroke-dasharray="{dash}"/>'
    )


def _text(
    x: float,
    y: float,
    text: str,
    *,
    anchor: str = "start",
    size: int = 13,
    weight: str = "normal",
    fill: str = "#222222",
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}"'
        f' fill="{fill}">{text}</text>'
    )

"""What the tests share: callers by header, components that carry obligations out, and policies as text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from lmg import Component, Deny, Exchange, Principal, Signal
from lmg.component import Facts
from lmg_opa import Opa

HEADER = "package lmg.authz\n\n"
ALLOW_ALL = HEADER + "allow := true\n"
DENY_ALL = HEADER + "allow := false\n"


class Caller(Component):
    """Whoever calls is whom the header ``x-caller`` names, ``tenant/subject/role``; without it nobody in particular."""

    provides: ClassVar[Facts] = {"on_request": ("principal",)}
    modes = frozenset({"enforce", "off"})

    def on_request(self, exchange: Exchange) -> None:
        tenant, subject, role = (exchange.head.get(b"x-caller") or b"acme/ann/engineer").decode().split("/")
        exchange.set_fact(
            "principal",
            Principal(
                subject,
                tenant,
                roles=frozenset({role, "everybody"}),
                scopes=frozenset({"admin"}) if role == "operator" else frozenset(),
                budget_class="gold",
                attributes={"department": ("research", "sales"), "clearance": "high"},
                issuer="test",
            ),
        )


class Redactor(Component):
    """Carries ``redact:email`` and ``budget_class`` out, in as far as a test needs it."""

    carries = frozenset({"redact:email", "budget_class"})
    seen: ClassVar[list[tuple[dict[str, object], frozenset[str]]]] = []

    def on_request(self, exchange: Exchange) -> None:
        self.seen.append((dict(exchange.obligations), exchange.bounds.redact))


class Guard(Component):
    """Refuses all, where it enforces."""

    def on_request(self, exchange: Exchange) -> Deny:
        return Deny(403, "guarded")


class Risk(Component):
    """Provides the facts of a risk model."""

    provides: ClassVar[Facts] = {"on_request": ("risk", "signals")}

    def on_request(self, exchange: Exchange) -> None:
        exchange.set_fact("risk", 0.75)
        exchange.signal(Signal("injection", 0.9, 0.5, "messages.0.content", "quotes the caller"))


CLASSES: dict[str, type[Any]] = {
    "opa": Opa,
    "caller": Caller,
    "redactor": Redactor,
    "guard": Guard,
    "risk": Risk,
}


@pytest.fixture
def policy(tmp_path: Path) -> Callable[..., str]:
    """Writes a policy (and further files) into a directory of its own; gives the directory."""

    def write(text: str, name: str = "policies", files: Mapping[str, str] | None = None) -> str:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        for file, content in {"policy.rego": text, **(files or {})}.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(content)
        return str(folder)

    return write


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    Redactor.seen.clear()

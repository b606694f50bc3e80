"""What a policy would say where another one has spoken, and how that differs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

from lmg.jsontext import Json

from ..engine import Policy, Ruling, Undecided
from ..obligations import ObligationFault, read
from .past import Past, document_of

__all__ = ["KINDS", "MAX_SHOWN", "Change", "Kind", "Replayed", "replay"]

Kind = Literal["allow->deny", "deny->allow", "no answer", "obligations", "reasons"]
KINDS: Final[tuple[Kind, ...]] = ("allow->deny", "deny->allow", "no answer", "obligations", "reasons")
"""What changes, the worst first."""
MAX_SHOWN: Final = 20
MAX_CAUSES: Final = 1000


@dataclass(frozen=True, slots=True)
class Change:
    """One decision that would be another one."""

    kind: Kind
    past: Past
    now: Ruling
    error: str = ""


@dataclass(slots=True)
class Replayed:
    """What came of all decisions. ``shown`` holds at most ``limit`` of each kind, ``counts`` all of them, and ``causes`` what is
    now said of them.

    ``masked`` and ``never_shown`` are what this policy reads and the log does not hold: where the mask took it away, and
    in no decision at all. What such decisions would be is not known.
    """

    limit: int
    total: int = 0
    same: int = 0
    unreadable: int = 0
    masked: int = 0
    other: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    causes: dict[Kind, Counter[str]] = field(default_factory=lambda: {kind: Counter() for kind in KINDS})
    shown: dict[Kind, list[Change]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    components: set[str] = field(default_factory=set)
    never_shown: list[str] = field(default_factory=list)

    @property
    def changed(self) -> int:
        """How many decisions would be others; that another reason is given is none."""
        return sum(count for kind, count in self.counts.items() if kind != "reasons")

    def add(self, change: Change) -> None:
        """Counts ``change``, and keeps it where there is room."""
        self.counts[change.kind] += 1
        cause = change.error or ", ".join(change.now.reasons)
        causes = self.causes[change.kind]
        if cause and (cause in causes or len(causes) < MAX_CAUSES):
            causes[cause] += 1
        if len(self.shown[change.kind]) < self.limit:
            self.shown[change.kind].append(change)


def replay(
    policy: Policy, events: Iterable[Past | None], *, component: str | None = None, limit: int = MAX_SHOWN
) -> Replayed:
    """What ``policy`` would say where another one has spoken. One pass; memory does not grow with the log."""
    found = Replayed(limit)
    unseen = set(policy.reads or ())
    for past in events:
        if past is None:
            found.unreadable += 1
        elif component is not None and past.component != component:
            found.other += 1
        else:
            if len(found.components) < MAX_SHOWN:
                found.components.add(past.component)
            found.total += 1
            unseen -= {path for path in unseen if _holds(past.input, path)}
            if _masked(policy, past):
                found.masked += 1
                continue
            change = _change(policy, past)
            if change is None:
                found.same += 1
            else:
                found.add(change)
    if found.total:
        found.never_shown = sorted(".".join(path) for path in unseen)
    return found


def _change(policy: Policy, past: Past) -> Change | None:
    now, error = Ruling(False), ""
    try:
        now = policy.decide(document_of(past))
    except Undecided as undecided:
        # A rule that is undefined has not been met: that is a refusal, not a failure.
        error = "" if undecided.code == "undefined" else undecided.code
    if now.allow:
        try:
            read(now.obligations)
        except ObligationFault as fault:
            now = Ruling(False, (str(fault),))
    kind = _kind(past, now, error)
    return Change(kind, past, now, error) if kind is not None else None


def _kind(past: Past, now: Ruling, error: str) -> Kind | None:
    if error:
        return "no answer" if past.allow is not None else None
    if past.allow != now.allow:
        # Where there was no answer the caller had been refused.
        return "deny->allow" if now.allow else "allow->deny" if past.allow else "reasons"
    if now.allow:
        known = past.obligations is not None
        return "obligations" if known and _plain(now.obligations) != _plain(past.obligations) else None
    return "reasons" if past.reasons is not None and now.reasons != past.reasons else None


def _plain(value: object) -> object:
    """``value`` so that it compares: lists of names are sets, which engines may give in any order."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return sorted(value)
    return value


def _holds(document: Json, path: tuple[str, ...]) -> bool:
    for name in path:
        if not isinstance(document, dict) or name not in document:
            return False
        document = document[name]
    return True


def _masked(policy: Policy, past: Past) -> bool:
    """Whether the mask took away what the policy may read."""
    if policy.reads is None:
        return bool(past.erased)
    return any(
        erased[: len(path)] == path or path[: len(erased)] == erased
        for erased in past.erased
        for path in policy.reads
    )

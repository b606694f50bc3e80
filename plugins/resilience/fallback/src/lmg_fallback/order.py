"""The order of a list of targets: pure functions of what a list holds."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from lmg import Target

__all__ = ["standing_by_last", "without_repetition"]


def standing_by_last(targets: Sequence[Target]) -> Sequence[Target]:
    """``targets``, each of a `fallback: true` provider behind the others of its model; the list itself where nothing moves.

    Between different models the order is a router's, and stays.
    """
    last: dict[str, int] = {}
    standing_by = False
    for n, target in enumerate(targets):
        if target.fallback:
            standing_by = True
        else:
            last[target.model] = n
    if not standing_by:
        return targets
    places = [
        (max(n, last.get(target.model, n)) if target.fallback else n, target.fallback, n)
        for n, target in enumerate(targets)
    ]
    return [targets[n] for _, _, n in sorted(places)]


def without_repetition(
    ahead: Sequence[Target], then: Sequence[Target], routed: Sequence[Target], dropped: Collection[str]
) -> list[Target]:
    """``ahead`` and ``then``, each target once; what was ``dropped`` and is not ``routed`` comes back under no other title."""
    found = list(ahead)
    seen = {(target.provider, target.model) for target in ahead}
    kept = {(target.provider, target.model) for target in routed} if dropped else set()
    for target in then:
        key = target.provider, target.model
        if key in seen or (dropped and key not in kept and target.name in dropped):
            continue
        seen.add(key)
        found.append(target)
    return found

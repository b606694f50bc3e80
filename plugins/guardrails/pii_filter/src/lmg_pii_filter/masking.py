"""The way out: finds personal data in a request and puts in its place what policy says."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from lmg import Request, Segment
from lmg.redaction import Found
from lmg.redaction.filter import redact_segments

from .entities import label
from .placeholders import Keys, Mint
from .policy import Policies, Policy
from .redactor import ContextRedactor
from .scanner import Scanner

__all__ = ["Findings", "Masking", "Typed"]

MAX_KNOWN: Final = 500
"""Values that are also looked for where nothing around says what they are."""
MIN_KNOWN: Final = 6


class Typed:
    """What the caller itself has written, for the question whether a placeholder stands there already.

    Signed text is left out: it is the model's, and came with the placeholders that it had been given.
    """

    def __init__(self, segments: Sequence[Segment]) -> None:
        self._segments = segments
        self._text: str | None = None

    def __call__(self, code: str) -> bool:
        if self._text is None:
            self._text = "\n".join(one.text for one in self._segments if not one.signed).upper()
        return code in self._text


class Findings:
    """What was found in the segments of a request."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        """The entity of each value."""
        self.counts: Counter[str] = Counter()
        self.roles: dict[str, str] = {}
        """The role of the segment where each entity was first found."""
        self.signed: str = ""
        """An entity in a signed segment that would have been replaced."""


class Masking:
    """One request: ``find``, then ``apply``."""

    def __init__(self, policies: Policies, policy: Policy, segments: Sequence[Segment]) -> None:
        self._policies, self._policy = policies, policy
        self._segments = segments

    def find(self) -> Findings:
        """All values in all segments that the operator has not let be."""
        found = Findings()
        role = ""

        def note(one: Found) -> str:
            if not self._policies.allows(one.text):
                found.values.setdefault(one.text, one.name)
                found.counts[one.name] += 1
                found.roles.setdefault(one.name, role)
            return one.text

        scanner = self._policy.scanner
        as_json = ContextRedactor(scanner, note)
        for segment in self._segments:
            role = segment.role
            before = found.counts.total()
            if segment.format == "json":
                as_json.json(segment.text)
            else:
                text = segment.text
                for one in scanner.find(text, 0, len(text)):
                    note(one)
            if segment.signed and found.counts.total() > before:
                found.signed = found.signed or self._strong(segment)
        return found

    def _strong(self, segment: Segment) -> str:
        for one in self._policy.scanner.find(segment.text, 0, len(segment.text)):
            if self._policy.stronger_than_tag(one.name, answer=False) and not self._policies.allows(one.text):
                return one.name
        return ""

    def apply(self, request: Request, found: Findings, replacement: Callable[[str, str], str]) -> int:
        """Puts replacements in the places of the values, wherever they stand; how many segments were changed."""
        policy = self._policy

        def replace(one: Found) -> str:
            if self._policies.allows(one.text) or not policy.stronger_than_tag(one.name, answer=False):
                return one.text
            return replacement(one.name, one.text)

        redactor = ContextRedactor(self._scanner(found), replace)
        return redact_segments(request, [one for one in self._segments if not one.signed], redactor)

    def _scanner(self, found: Findings) -> Scanner:
        """One that also knows the values: a number that was told in one message may stand alone in another."""
        policy = self._policy
        names = {
            value: entity
            for value, entity in found.values.items()
            if policy.stronger_than_tag(entity, answer=False) and len(value) >= MIN_KNOWN
        }
        longest = sorted(names, key=len, reverse=True)[:MAX_KNOWN]
        if not longest:
            return policy.scanner
        known = re.compile(rf"(?<![0-9A-Za-z])(?:{'|'.join(map(re.escape, longest))})(?![0-9A-Za-z])")
        return Scanner(policy.in_ranks, policy.in_numbers, known=known, known_names=names)


def replacement_of(
    policy: Policy, keys: Keys, tenant: str, mint: Mint, *, answer: bool
) -> Callable[[str, str], str]:
    """What stands for a value of an entity: its placeholder, its hash, or its name."""
    actions = policy.outgoing if answer else policy.incoming

    def replacement(entity: str, value: str) -> str:
        action = actions[entity]
        if action == "mask":
            return mint.placeholder(entity, value)
        if action == "hash":
            return keys.hashed(tenant, entity, value)
        return f"[{label(entity)}]"

    return replacement

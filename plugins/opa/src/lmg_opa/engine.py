"""The port to a policy engine: what a policy is, and what it answers. Every engine is held to it by the same tests.

A policy is the Rego package ``lmg.authz`` (another where the configuration says so) with three rules:

- ``allow``, a boolean: the caller is let through where it is ``true``, and in no other case;
- ``reasons``, a set of codes (``^[a-z][a-z0-9_.:-]{0,63}$``) that tell a refusal's causes;
- ``obligations``, an object (see ``obligations.py``) that binds what was allowed.

``allow`` is read by itself, so that no text of a caller that a policy repeats can stand in its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from lmg import MeshError
from lmg.jsontext import Json

__all__ = ["Bundle", "Engine", "Policy", "PolicyFault", "RemotePolicy", "Ruling", "Undecided"]


class PolicyFault(MeshError):
    """A policy that cannot be used: it does not compile, or calls what is not allowed. The text is for the operator."""


class Undecided(MeshError):
    """The engine gave no answer: ``code`` is stable (``timeout``, ``unreachable``, ``undefined``, ``conflict``, ``error``,
    ``malformed``, ``too_large``). Whoever asked denies.
    """

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(detail or code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Bundle:
    """What was loaded from a directory or a download, not yet compiled.

    ``modules`` are Rego sources by path (tests, ``*_test.rego``, included), ``data`` the document under ``data``,
    ``wasm`` what ``opa build -t wasm`` made of it, where the bundle holds that. ``revision`` names this version.
    """

    revision: str
    modules: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, Json] = field(default_factory=dict)
    wasm: bytes | None = None


@dataclass(frozen=True, slots=True)
class Ruling:
    """What a policy said of one input. ``obligations`` is as the policy wrote it, not yet read.

    Only what counts is asked for: ``reasons`` of a denial, ``obligations`` of what is allowed; the other one is empty.

    ``decision_id`` is the engine's own, where it has one (an OPA server's).
    """

    allow: bool
    reasons: tuple[str, ...] = ()
    obligations: Mapping[str, Json] = field(default_factory=dict)
    decision_id: str = ""


class Policy(Protocol):
    """One compiled version of a policy. It never changes; a new version is a new object."""

    @property
    def revision(self) -> str:
        """The bundle's."""

    @property
    def volatile(self) -> bool:
        """Whether it reads what is not in its input (time, randomness, the network): nothing of it may be cached.
        True where that cannot be known.
        """

    @property
    def reads(self) -> tuple[tuple[str, ...], ...] | None:
        """The paths of the input that it declares to read (``custom: {reads: [...]}`` in the package's METADATA), as in
        ``(("principal", "roles"), ("request", "model"))``; None where it declares none.
        """

    def decide(self, document: bytes) -> Ruling:
        """What the policy says of ``document``, the input as strict JSON. Plain and quick; safe in any thread.

        Raises:
            Undecided: anything but an answer.
        """

    def close(self) -> None:
        """Gives back what it holds."""


class RemotePolicy(Protocol):
    """A policy that is asked over the network. It can be neither compiled nor checked here: nothing of it may be cached
    beyond what the operator configures.
    """

    async def decide(self, document: bytes, deadline_s: float) -> Ruling:
        """What it says of ``document`` (strict JSON), within ``deadline_s`` seconds from now.

        Raises:
            Undecided: anything but an answer.
        """

    async def close(self) -> None:
        """Closes its connections."""


class Engine(Protocol):
    """Compiles bundles. Loading may take long and is done in a thread."""

    name: str

    def load(self, bundle: Bundle, package: str = "lmg.authz") -> Policy:
        """Compiles ``bundle``.

        Raises:
            PolicyFault: with the file and line, as far as the engine tells them.
        """

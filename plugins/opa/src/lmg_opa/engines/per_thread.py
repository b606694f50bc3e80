"""A policy in an engine whose objects belong to the thread that made them: one for each thread that asks.

It stops another thread's call, and may not be freed there either.
"""

from __future__ import annotations

import json
import threading
from abc import ABC, abstractmethod
from itertools import count
from typing import Any, Generic, TypeVar

from ..engine import Bundle, Ruling, Undecided
from .answers import ruling
from .checks import Findings, bounded
from .interpreter import plain_error

__all__ = ["PerThreadPolicy"]

T = TypeVar("T")
_SERIAL = count()


class _Held(threading.local):
    """What this thread has made, by the serial number of its policy.

    It outlives every policy: what it holds for another thread may only be freed by that thread.
    """

    def __init__(self) -> None:
        self.made: dict[int, tuple[PerThreadPolicy[Any], Any]] = {}


_HERE = _Held()


class PerThreadPolicy(ABC, Generic[T]):
    """One version of a policy, for any thread: each makes an evaluator (``T``) of its own at its first question."""

    def __init__(self, bundle: Bundle, package: str, findings: Findings) -> None:
        self.revision = bundle.revision
        self.volatile = findings.volatile
        self.reads = findings.reads
        self.allow = f"data.{package}.allow"
        self.reasons = f"data.{package}.reasons" if "reasons" in findings.rules else ""
        self.obligations = f"data.{package}.obligations" if "obligations" in findings.rules else ""
        self.modules = sorted(findings.modules.items())
        self.data = json.dumps(bundle.data, ensure_ascii=False, allow_nan=False)
        self._serial = next(_SERIAL)
        self.closed = False

    @abstractmethod
    def compiled(self) -> T:
        """A new evaluator, for this thread alone.

        Raises:
            PolicyFault: the sources do not compile.
        """

    @abstractmethod
    def answers(self, evaluator: T, document: str) -> tuple[object, object]:
        """What ``allow`` is for ``document``, and then the obligations, or the reasons if it is not allowed."""

    def decide(self, document: bytes) -> Ruling:
        """See :class:`lmg_opa.engine.Policy`."""
        try:
            text = bounded(document).decode()
        except UnicodeDecodeError:
            raise Undecided("error", "the input is not UTF-8") from None
        held = _HERE.made.get(self._serial)
        evaluator = held[1] if held is not None else self._keep()
        try:
            allow, rest = self.answers(evaluator, text)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001
            # A panic of the engine is a BaseException of no importable type; it must deny like any other error.
            _HERE.made.pop(self._serial, None)
            detail = plain_error(error)
            raise Undecided("conflict" if "conflict" in detail else "error", detail) from None
        return ruling(allow, rest, rest)

    def close(self) -> None:
        """What other threads hold for it they free when they make their next one."""
        self.closed = True
        _HERE.made.pop(self._serial, None)

    def _keep(self) -> T:
        if self.closed:
            raise Undecided("error", "the policy is closed")
        for serial, (policy, _) in list(_HERE.made.items()):
            if policy.closed:
                del _HERE.made[serial]
        evaluator = self.compiled()
        _HERE.made[self._serial] = (self, evaluator)
        return evaluator

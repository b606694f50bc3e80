"""Rego in process, by the interpreter regorus (https://github.com/microsoft/regorus): the default engine.

An interpreter belongs to the thread that made it (it stops another's call, and may not be freed there either), so each
thread that asks has one of its own, made from the same sources at its first question. A builtin that fails is an error
in it, never undefined, but for the few in :data:`SILENT`, which no policy may call.
"""

from __future__ import annotations

import json
import threading
from functools import cache
from itertools import count
from typing import Final

from ..engine import Bundle, PolicyFault, Ruling, Undecided
from .answers import ruling
from .checks import Findings, bounded, inspect
from .interpreter import Interpreter, interpreter, plain_error

__all__ = ["SILENT", "RegorusEngine", "RegorusPolicy", "builtins"]

SILENT: Final = frozenset(
    {"http.send", "json.patch", "rand.intn", "regex.replace", "regex.template_match", "uuid.parse"}
)
"""Builtins that give undefined where they fail; found by calling each with wrong values."""

ASKING: Final = "lmg.engine.asks"

_SERIAL = count()


class _Interpreters(threading.local):
    """This thread's interpreters by the serial number of their policy.

    It outlives every policy: what it holds for another thread may only be freed by that thread.
    """

    def __init__(self) -> None:
        self.made: dict[int, tuple[RegorusPolicy, Interpreter]] = {}


_HERE = _Interpreters()


class RegorusEngine:
    """Compiles Rego sources."""

    name = "regorus"

    def load(self, bundle: Bundle, package: str = "lmg.authz") -> RegorusPolicy:
        """See :class:`lmg_opa.engine.Engine`."""
        findings = inspect(bundle, package, builtins=builtins(), silent=SILENT)
        policy = RegorusPolicy(bundle, package, findings)
        trial = policy.compiled()
        trial.set_input_json("{}")
        if not policy.answers_alone(trial):
            trial = policy.compiled()
            trial.set_input_json("{}")
        try:
            trial.eval_rule(policy.allow)
        except RuntimeError as error:
            # A policy may well fail on an empty input; what the compiler finds it finds here as well.
            if "unsafe" in str(error) or "could not find" in str(error):
                raise PolicyFault(plain_error(error)) from None
        return policy


@cache
def builtins() -> frozenset[str]:
    """What the installed interpreter can do, asked from itself."""
    asked = interpreter()
    asked.add_policy("ask.rego", "package ask\nnames := opa.runtime().builtins")
    names = asked.eval_rule("data.ask.names")
    assert isinstance(names, list)
    return frozenset(str(name) for name in names)


class RegorusPolicy:
    """One version of a policy, for any thread."""

    def __init__(self, bundle: Bundle, package: str, findings: Findings) -> None:
        self.revision = bundle.revision
        self.volatile = findings.volatile
        self.reads = findings.reads
        self.allow = f"data.{package}.allow"
        self._reasons = f"data.{package}.reasons" if "reasons" in findings.rules else ""
        self._obligations = f"data.{package}.obligations" if "obligations" in findings.rules else ""
        self._modules = tuple(sorted(findings.modules.items()))
        self._data = json.dumps(bundle.data, ensure_ascii=False, allow_nan=False)
        self._serial = next(_SERIAL)
        self.closed = False

    def decide(self, document: bytes) -> Ruling:
        """See :class:`lmg_opa.engine.Policy`."""
        try:
            text = bounded(document).decode()
        except UnicodeDecodeError:
            raise Undecided("error", "the input is not UTF-8") from None
        held = _HERE.made.get(self._serial)
        asked = held[1] if held is not None else self._keep()
        try:
            asked.set_input_json(text)
            allow = asked.eval_rule(self.allow)
            # Two rules cost less than three, and of a denial's obligations nobody would make use.
            more = self._obligations if allow is True else self._reasons
            rest = asked.eval_rule(more) if more else None
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001
            # A panic of the interpreter is a BaseException of no importable type; it must deny like any other error.
            _HERE.made.pop(self._serial, None)
            detail = plain_error(error)
            raise Undecided("conflict" if "conflict" in detail else "error", detail) from None
        return ruling(allow, rest, rest)

    def close(self) -> None:
        """What other threads hold for it they free when they make their next one."""
        self.closed = True
        _HERE.made.pop(self._serial, None)

    def answers_alone(self, trial: Interpreter) -> bool:
        """Whether its rules can be asked for by name. Those written key by key (``obligations["regions"] := …``) cannot: a
        module beside the policy then asks for them.
        """
        asks = [self._ask(trial, rule) for rule in (self._reasons, self._obligations) if rule]
        if not any(asks):
            return True
        lines = [f"{path.rpartition('.')[2]} := {path}" for path in asks if path]
        self._modules = (*self._modules, ("<engine>", f"package {ASKING}\n" + "\n".join(lines)))
        for path in asks:
            if path == self._reasons and path:
                self._reasons = f"data.{ASKING}.reasons"
            elif path:
                self._obligations = f"data.{ASKING}.obligations"
        return False

    @staticmethod
    def _ask(trial: Interpreter, rule: str) -> str:
        """``rule``, where the interpreter does not know it by that name."""
        try:
            trial.eval_rule(rule)
        except RuntimeError as error:
            return rule if "not a valid rule path" in str(error) else ""
        return ""

    def compiled(self) -> Interpreter:
        """A new one, for this thread alone."""
        made = interpreter()
        try:
            for file, source in self._modules:
                made.add_policy(file, source)
            made.add_data_json(self._data)
        except RuntimeError as error:
            raise PolicyFault(plain_error(error)) from None
        return made

    def _keep(self) -> Interpreter:
        if self.closed:
            raise Undecided("error", "the policy is closed")
        for serial, (policy, _) in list(_HERE.made.items()):
            if policy.closed:
                del _HERE.made[serial]
        made = self.compiled()
        _HERE.made[self._serial] = (self, made)
        return made

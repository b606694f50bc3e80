"""Rego in process, by the interpreter regorus (https://github.com/microsoft/regorus): the default engine.

A builtin that fails is an error in it, never undefined, but for the few in :data:`SILENT`, which no policy may call.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from ..engine import Bundle, PolicyFault
from .checks import inspect
from .interpreter import Interpreter, interpreter, plain_error
from .per_thread import PerThreadPolicy

__all__ = ["SILENT", "RegorusEngine", "RegorusPolicy", "builtins"]

SILENT: Final = frozenset(
    {"http.send", "json.patch", "rand.intn", "regex.replace", "regex.template_match", "uuid.parse"}
)
"""Builtins that give undefined where they fail; found by calling each with wrong values."""

ASKING: Final = "lmg.engine.asks"
"""The package of a module beside the policy that asks for what the interpreter knows by no name."""


class RegorusEngine:
    """Compiles Rego sources."""

    name = "regorus"

    def load(self, bundle: Bundle, package: str = "lmg.authz") -> RegorusPolicy:
        """See :class:`lmg_opa.engine.Engine`."""
        findings = inspect(bundle, package, builtins=builtins(), silent=SILENT)
        policy = RegorusPolicy(bundle, package, findings)
        trial = policy.compiled()
        trial.set_input_json("{}")
        policy.name_rules(trial)
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


class RegorusPolicy(PerThreadPolicy[Interpreter]):
    """One version of a policy, for any thread."""

    def name_rules(self, trial: Interpreter) -> None:
        """Finds the names to ask by. Rules written key by key (``obligations["regions"] := …``) have none: a module beside
        the policy asks for them.
        """
        nameless = [rule for rule in (self.reasons, self.obligations) if rule and not _knows(trial, rule)]
        if nameless:
            asks = "\n".join(f"{rule.rpartition('.')[2]} := {rule}" for rule in nameless)
            self.modules.append(("<engine>", f"package {ASKING}\n{asks}"))
        if self.reasons in nameless:
            self.reasons = f"data.{ASKING}.reasons"
        if self.obligations in nameless:
            self.obligations = f"data.{ASKING}.obligations"

    def answers(self, evaluator: Interpreter, document: str) -> tuple[object, object]:
        """Two rules cost less than three, and of a denial's obligations nobody would make use."""
        evaluator.set_input_json(document)
        allow = evaluator.eval_rule(self.allow)
        more = self.obligations if allow is True else self.reasons
        return allow, evaluator.eval_rule(more) if more else None

    def compiled(self) -> Interpreter:
        """See :meth:`PerThreadPolicy.compiled`."""
        made = interpreter()
        try:
            for file, source in self.modules:
                made.add_policy(file, source)
            made.add_data_json(self.data)
        except RuntimeError as error:
            raise PolicyFault(plain_error(error)) from None
        return made


def _knows(trial: Interpreter, rule: str) -> bool:
    try:
        trial.eval_rule(rule)
    except RuntimeError as error:
        return "not a valid rule path" not in str(error)
    return True

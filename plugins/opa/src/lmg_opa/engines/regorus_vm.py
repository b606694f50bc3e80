"""Rego in process, compiled for the virtual machine of regorus: several times faster than its interpreter, for fewer policies.

The machine takes every failure for undefined, as OPA does by default; so what may fail is refused where undefined would let
somebody through, as for Wasm. It does not know ``with`` and rules such as ``obligations["regions"] := …``: a policy that uses
them does not load.
"""

from __future__ import annotations

import json
from typing import Final, Protocol, cast

import regorus  # type: ignore[import-untyped]

from ..engine import Bundle, PolicyFault
from .checks import inspect
from .interpreter import plain_error
from .per_thread import PerThreadPolicy
from .regorus import SILENT, builtins

__all__ = ["RegorusVmEngine", "RegorusVmPolicy"]

UNDEFINED: Final = '"<undefined>"'
"""How the machine writes undefined. A policy that answers this very text answers nothing that a rule may answer."""


class Machine(Protocol):
    """What is used of ``regorus.Rvm``. An object of it belongs to the thread that made it."""

    def load_program(self, program: object) -> None: ...
    def set_data_json(self, data: str) -> None: ...
    def set_input_json(self, input: str) -> None: ...
    def execute_entry_point(self, name: str) -> str: ...


class RegorusVmEngine:
    """Compiles Rego sources for the virtual machine."""

    name = "regorus_vm"

    def load(self, bundle: Bundle, package: str = "lmg.authz") -> RegorusVmPolicy:
        """See :class:`lmg_opa.engine.Engine`."""
        findings = inspect(bundle, package, builtins=builtins(), silent=SILENT, swallows=True)
        policy = RegorusVmPolicy(bundle, package, findings)
        policy.compiled()
        return policy


class RegorusVmPolicy(PerThreadPolicy[Machine]):
    """One version of a policy, for any thread."""

    def answers(self, evaluator: Machine, document: str) -> tuple[object, object]:
        """See :meth:`PerThreadPolicy.answers`."""
        evaluator.set_input_json(document)
        allow = _value(evaluator.execute_entry_point(self.allow))
        more = self.obligations if allow is True else self.reasons
        return allow, _value(evaluator.execute_entry_point(more)) if more else None

    def compiled(self) -> Machine:
        """See :meth:`PerThreadPolicy.compiled`."""
        rules = [rule for rule in (self.allow, self.reasons, self.obligations) if rule]
        try:
            program = regorus.Program.compile_from_modules(self.data, self.modules, rules)
            machine = cast(Machine, regorus.Rvm())
            machine.load_program(program)
            machine.set_data_json(self.data)
        except RuntimeError as error:
            raise PolicyFault(plain_error(error)) from None
        return machine


def _value(answer: str) -> object:
    return None if answer == UNDEFINED else json.loads(answer)

"""Rego in process, compiled for the virtual machine of regorus: several times faster than its interpreter, for fewer policies.

The machine takes every failure for undefined, as OPA does by default; so what may fail is refused where undefined would let
somebody through, as for Wasm. It does not know ``with`` and rules such as ``obligations["regions"] := …``: a policy that uses
them does not load.
"""

from __future__ import annotations

import json
import threading
from itertools import count
from typing import Final, Protocol, cast

import regorus  # type: ignore[import-untyped]

from ..engine import Bundle, PolicyFault, Ruling, Undecided
from .answers import ruling
from .checks import Findings, bounded, inspect
from .interpreter import plain_error
from .regorus import SILENT, builtins

__all__ = ["RegorusVmEngine", "RegorusVmPolicy"]

UNDEFINED: Final = '"<undefined>"'
"""How the machine writes undefined. A policy that answers this very text answers nothing that a rule may answer."""

_SERIAL = count()


class Machine(Protocol):
    """What is used of ``regorus.Rvm``. An object of it belongs to the thread that made it."""

    def load_program(self, program: object) -> None: ...
    def set_data_json(self, data: str) -> None: ...
    def set_input_json(self, input: str) -> None: ...
    def execute_entry_point(self, name: str) -> str: ...


class _Machines(threading.local):
    """This thread's machines by the serial number of their policy; only the thread itself may free them."""

    def __init__(self) -> None:
        self.made: dict[int, tuple[RegorusVmPolicy, Machine]] = {}


_HERE = _Machines()


class RegorusVmEngine:
    """Compiles Rego sources for the virtual machine."""

    name = "regorus_vm"

    def load(self, bundle: Bundle, package: str = "lmg.authz") -> RegorusVmPolicy:
        """See :class:`lmg_opa.engine.Engine`."""
        findings = inspect(bundle, package, builtins=builtins(), silent=SILENT, swallows=True)
        policy = RegorusVmPolicy(bundle, package, findings)
        policy.compiled()
        return policy


class RegorusVmPolicy:
    """One version of a policy, for any thread."""

    def __init__(self, bundle: Bundle, package: str, findings: Findings) -> None:
        self.revision = bundle.revision
        self.volatile = findings.volatile
        self.reads = findings.reads
        self._allow = f"data.{package}.allow"
        self._reasons = f"data.{package}.reasons" if "reasons" in findings.rules else ""
        self._obligations = f"data.{package}.obligations" if "obligations" in findings.rules else ""
        self._modules = sorted(findings.modules.items())
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
        machine = held[1] if held is not None else self._keep()
        try:
            machine.set_input_json(text)
            allow = _value(machine.execute_entry_point(self._allow))
            more = self._obligations if allow is True else self._reasons
            rest = _value(machine.execute_entry_point(more)) if more else None
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001
            # A panic of the machine is a BaseException of no importable type; it must deny like any other error.
            _HERE.made.pop(self._serial, None)
            raise Undecided("error", plain_error(error)) from None
        return ruling(allow, rest, rest)

    def close(self) -> None:
        """What other threads hold for it they free when they make their next one."""
        self.closed = True
        _HERE.made.pop(self._serial, None)

    def compiled(self) -> Machine:
        """A new one, for this thread alone."""
        rules = [rule for rule in (self._allow, self._reasons, self._obligations) if rule]
        try:
            program = regorus.Program.compile_from_modules(self._data, self._modules, rules)
            machine = cast(Machine, regorus.Rvm())
            machine.load_program(program)
            machine.set_data_json(self._data)
        except RuntimeError as error:
            raise PolicyFault(plain_error(error)) from None
        return machine

    def _keep(self) -> Machine:
        if self.closed:
            raise Undecided("error", "the policy is closed")
        for serial, (policy, _) in list(_HERE.made.items()):
            if policy.closed:
                del _HERE.made[serial]
        machine = self.compiled()
        _HERE.made[self._serial] = (self, machine)
        return machine


def _value(answer: str) -> object:
    return None if answer == UNDEFINED else json.loads(answer)

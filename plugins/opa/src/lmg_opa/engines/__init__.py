"""The engines by name. Each is imported when it is asked for: Wasm is an extra."""

from __future__ import annotations

from lmg import ConfigError

from ..engine import Engine

__all__ = ["engine"]


def engine(name: str) -> Engine:
    """The engine ``name``: ``regorus``, ``regorus_vm`` or ``wasm``.

    Raises:
        ConfigError: no such engine, or its package is not installed.
    """
    try:
        if name == "regorus":
            from .regorus import RegorusEngine

            return RegorusEngine()
        if name == "regorus_vm":
            from .regorus_vm import RegorusVmEngine

            return RegorusVmEngine()
        if name == "wasm":
            from .wasm import WasmEngine

            return WasmEngine()
    except ModuleNotFoundError as missing:
        package = "'lmg-opa[wasm]'" if name == "wasm" else "gordon-to-regorus"
        raise ConfigError(f"the engine {name} is not installed", hint=f"pip install {package}") from missing
    raise ConfigError("unknown policy engine", hint="regorus, regorus_vm or wasm")

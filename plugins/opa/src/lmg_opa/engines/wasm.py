"""Policies compiled by ``opa build -t wasm``, run by wasmtime (``pip install 'lmg-opa[wasm]'``): OPA's own semantics.

The module must have the entry points ``<package>/allow``, and ``/reasons`` and ``/obligations`` where the policy has these
rules, and need no builtin of the host: a host's builtin is another implementation than OPA's. What was compiled is not
readable any more, so the bundle must hold the sources as well; the checks read those.

A builtin that fails is undefined in a compiled policy, and nothing can make it say so. The checks therefore refuse every
builtin that can fail where undefined could let somebody through.
"""

from __future__ import annotations

import json
from typing import Final

from opapywasm import UNDEFINED, OpaWasmPolicy, PolicyConfig
from opapywasm.errors import OpaWasmError

from ..engine import Bundle, PolicyFault, Ruling, Undecided
from .answers import ruling
from .checks import MAX_DOCUMENT_BYTES, Findings, inspect, whole_json

__all__ = ["BUILTINS", "WasmEngine", "WasmPolicy"]

MAX_MEMORY_PAGES: Final = 1024
MAX_RESULT_BYTES: Final = 256 * 1024
MAX_DATA_BYTES: Final = 32 * 1024 * 1024
MAX_EVALUATION_S: Final = 1.0
INSTANCES: Final = 4

BUILTINS: Final = frozenset(
    {
        "abs", "array.concat", "array.flatten", "array.reverse", "array.slice", "base64.decode",
        "base64.encode", "base64.is_valid", "base64url.decode", "base64url.encode", "bits.and", "bits.lsh",
        "bits.negate", "bits.or", "bits.rsh", "bits.xor", "ceil", "concat", "contains", "count", "endswith",
        "floor", "format_int", "glob.match", "graph.reachable", "indexof", "intersection", "is_array",
        "is_boolean", "is_null", "is_number", "is_object", "is_set", "is_string", "json.filter",
        "json.is_valid", "json.marshal", "json.remove", "json.unmarshal", "lower", "max", "min",
        "net.cidr_contains", "net.cidr_intersects", "numbers.range", "object.filter", "object.get",
        "object.keys", "object.remove", "object.union", "object.union_n", "product",
        "regex.find_all_string_submatch_n", "regex.is_valid", "regex.match", "replace", "round", "sort",
        "split", "startswith", "strings.replace_n", "strings.reverse", "substring", "sum", "to_number",
        "trim", "trim_left", "trim_prefix", "trim_right", "trim_space", "trim_suffix", "type_name", "union",
        "upper", "walk",
    }
)  # fmt: skip
"""What OPA compiles into the module itself; every other builtin is asked from the host (tests/engines asks OPA itself)."""


class WasmEngine:
    """Loads compiled policies."""

    name = "wasm"

    def load(self, bundle: Bundle, package: str = "lmg.authz") -> WasmPolicy:
        """See :class:`lmg_opa.engine.Engine`."""
        if bundle.wasm is None:
            raise PolicyFault("the bundle holds no policy.wasm (opa build -t wasm)")
        findings = inspect(bundle, package, builtins=BUILTINS, swallows=True)
        config = PolicyConfig(
            pool_size=INSTANCES,
            borrow_timeout_seconds=MAX_EVALUATION_S,
            max_input_bytes=MAX_DOCUMENT_BYTES,
            max_result_bytes=MAX_RESULT_BYTES,
            max_data_bytes=MAX_DATA_BYTES,
            # Its own check is json.loads, which lets NaN pass.
            parse_raw_json_input=False,
            max_memory_pages=MAX_MEMORY_PAGES,
            eval_timeout_seconds=MAX_EVALUATION_S,
        )
        try:
            module = OpaWasmPolicy.from_wasm_bytes(bundle.wasm, config)
        except OpaWasmError as error:
            raise PolicyFault(f"policy.wasm: {str(error)[:500]}") from None
        try:
            return _checked(module, bundle, package, findings)
        except (OpaWasmError, ValueError) as error:
            module.close()
            raise PolicyFault(f"data: {str(error)[:500]}") from None
        except PolicyFault:
            module.close()
            raise


def _checked(module: OpaWasmPolicy, bundle: Bundle, package: str, findings: Findings) -> WasmPolicy:
    if module.builtins:
        raise PolicyFault(f"policy.wasm needs builtins of the host: {', '.join(sorted(module.builtins))}")
    base = package.replace(".", "/")
    points = {
        rule: f"{base}/{rule}" for rule in ("allow", "reasons", "obligations") if rule in findings.rules
    }
    missing = sorted(set(points.values()) - set(module.entrypoints))
    if missing:
        raise PolicyFault(
            f"policy.wasm lacks entry points: opa build -t wasm {' '.join('-e ' + name for name in missing)}"
        )
    module.set_data(json.dumps(bundle.data, ensure_ascii=False, allow_nan=False).encode())
    entries: dict[str, int] = {rule: module.entrypoints[name] for rule, name in points.items()}
    return WasmPolicy(module, bundle, findings, entries)


class WasmPolicy:
    """One version of a compiled policy; a pool of instances serves the threads."""

    def __init__(
        self, module: OpaWasmPolicy, bundle: Bundle, findings: Findings, entries: dict[str, int]
    ) -> None:
        self.revision = bundle.revision
        self.volatile = findings.volatile
        self.reads = findings.reads
        self._module = module
        self._allow = entries["allow"]
        self._reasons = entries.get("reasons")
        self._obligations = entries.get("obligations")

    def decide(self, document: bytes) -> Ruling:
        """See :class:`lmg_opa.engine.Policy`."""
        try:
            # The module answers as for an empty input where the text is not JSON.
            whole_json(document)
            allow = self._ask(document, self._allow)
            rest = self._ask(document, self._obligations if allow is True else self._reasons)
            return ruling(allow, rest, rest)
        except OpaWasmError as error:
            raise Undecided("conflict" if "conflict" in str(error) else "error", str(error)[:500]) from None

    def _ask(self, document: bytes, entry: int | None) -> object:
        if entry is None:
            return None
        answer = self._module.evaluate(document, entry)
        return None if answer is UNDEFINED else answer

    def close(self) -> None:
        """Evaluations under way end first."""
        self._module.close()

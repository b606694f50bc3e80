"""The engines behind one face: a source and data go in, and what decides comes out."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType

import pytest

from lmg.jsontext import Json
from lmg_opa.engine import Bundle, PolicyFault, Ruling
from lmg_opa.engines import engine
from lmg_opa.engines.server import OpaServerPolicy

from .. import opa_tool as tool

Decide = Callable[[bytes], Ruling]
CALL_S = 30.0


@pytest.fixture(scope="session")
def opa_tool() -> ModuleType:
    return tool


class Judge:
    """``load`` compiles a policy in the engine ``name`` and gives what decides."""

    def __init__(self, name: str, folder: Path, tool: ModuleType, stack: ExitStack) -> None:
        self.name, self._folder, self._tool, self._stack = name, folder, tool, stack
        self._count = 0

    def load(self, source: str, data: Mapping[str, Json] | None = None) -> Decide:
        self._count += 1
        folder = self._folder / str(self._count)
        if self.name == "server":
            return self._serve(folder, source, data)
        wasm = None
        if self.name == "wasm":
            # What the checks refuse needs no compiler to be refused.
            try:
                engine("wasm").load(Bundle("0", {"policy.rego": source}, wasm=b"no module"))
            except PolicyFault as fault:
                if not str(fault).startswith("policy.wasm"):
                    raise
            rules = [
                point
                for point in self._tool.ENTRY_POINTS
                if re.search(rf"^(default )?{point.rpartition('/')[2]}\b", source, re.MULTILINE)
            ]
            wasm = self._tool.compile_wasm(folder, {"policy.rego": source}, tuple(rules))
        policy = engine(self.name).load(Bundle(str(self._count), {"policy.rego": source}, data or {}, wasm))
        self._stack.callback(policy.close)
        return policy.decide

    def _serve(self, folder: Path, source: str, data: Mapping[str, Json] | None) -> Decide:
        server = self._stack.enter_context(self._tool.OpaServer(folder, {"policy.rego": source}, data))
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        policy = OpaServerPolicy(server.url)

        def decide(document: bytes) -> Ruling:
            return asyncio.run_coroutine_threadsafe(policy.decide(document, CALL_S), loop).result()

        def close() -> None:
            asyncio.run_coroutine_threadsafe(policy.close(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

        self._stack.callback(close)
        return decide


@pytest.fixture
def judges(tmp_path: Path, opa_tool: ModuleType) -> Iterator[Callable[[str], Judge]]:
    """A judge by the name of its engine."""
    with ExitStack() as stack:
        yield lambda name: Judge(name, tmp_path / name, opa_tool, stack)


@pytest.fixture(params=["regorus", "regorus_vm", "wasm", "server"])
def judge(request: pytest.FixtureRequest, tmp_path: Path, opa_tool: ModuleType) -> Iterator[Judge]:
    if request.param == "wasm":
        pytest.importorskip("opapywasm", reason="pip install 'lmg-opa[wasm]'")
    with ExitStack() as stack:
        yield Judge(str(request.param), tmp_path, opa_tool, stack)

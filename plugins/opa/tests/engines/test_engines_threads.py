"""An interpreter stays with its thread, and what a closed policy held is given back there."""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Callable

import pytest

from lmg_opa.engine import Bundle, Undecided
from lmg_opa.engines import engine

SOURCE = "package lmg.authz\n\nallow if input.n == data.n\n"


def in_thread(work: Callable[[], object]) -> None:
    failed: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert failed == []


def test_policy_loaded_in_one_thread_decides_in_others() -> None:
    loaded = []
    in_thread(lambda: loaded.append(engine("regorus").load(Bundle("1", {"p.rego": SOURCE}, {"n": 1}))))
    for _ in range(3):
        in_thread(lambda: loaded[0].decide(b'{"n": 1}'))
    assert loaded[0].decide(b'{"n": 1}').allow is True


# A thread that frees another's interpreter raises where nobody can catch it; pytest makes that a failure.
@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_policy_may_be_closed_and_forgotten_in_any_thread() -> None:
    asked, ended = threading.Barrier(2), threading.Event()
    policies = [engine("regorus").load(Bundle("1", {"p.rego": SOURCE}, {"n": 1}))]

    def keep() -> None:
        policies[0].decide(b'{"n": 1}')
        asked.wait(10)
        ended.wait(10)

    thread = threading.Thread(target=keep)
    thread.start()
    asked.wait(10)
    policies.pop().close()
    gc.collect()
    ended.set()
    thread.join()
    gc.collect()


def test_closed_policy_decides_nothing_and_leaves_nothing() -> None:
    from lmg_opa.engines.per_thread import _HERE

    held = len(_HERE.made)
    for version in range(20):
        policy = engine("regorus").load(Bundle(str(version), {"p.rego": SOURCE}, {"n": version}))
        with pytest.raises(Undecided) if version != 1 else contextlib.nullcontext():
            policy.decide(b'{"n": 1}')
        policy.close()
        with pytest.raises(Undecided):
            policy.decide(b'{"n": 1}')
    assert len(_HERE.made) <= held

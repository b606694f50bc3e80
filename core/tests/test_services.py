"""The embedded services, the metrics recorder, bounded queues and time limits."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lmg import Host, QueueFull, ServiceError, Target
from lmg.bounded import Deadline, within
from lmg.exchange import Receipt
from lmg.readonly import ReadOnlyHost
from lmg.services import Limit, Settle, Take
from lmg.services.embedded import FileLedger, FileSecrets, TargetTable
from lmg.services.file_counters import FileCounters
from lmg.services.memory_counters import MemoryCounters
from lmg.telemetry import OVERFLOW, Recorder
from lmg.testing import VirtualClock, check_counter_store

RECEIPT = Receipt(
    "req_1", 1.0, "acme", "ann", "chat", "openai.chat", "m", "p", 200, "complete", "", 1, 5, 2, 0, 0, False, None, False, None, 1.5,
)  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", ["memory", "file"])
async def test_the_embedded_counters_pass_the_checks_of_every_store(
    kind: str, seed: int, tmp_path: Path
) -> None:
    store: Any = MemoryCounters() if kind == "memory" else FileCounters(tmp_path / "counters")
    await check_counter_store(store, seed=seed)


WORKER = """
import asyncio, sys
from pathlib import Path
from lmg.services import Limit, Take
from lmg.services.file_counters import FileCounters

async def main():
    store = FileCounters(Path(sys.argv[1]))
    limit = Limit("k", 100, 1e9)
    granted = 0
    for _ in range(50):
        granted += (await store.take([Take(limit, 1, held=True)])).refused is None
    print(granted, flush=True)
    sys.stdin.read()

asyncio.run(main())
"""


async def test_workers_share_a_limit_and_a_killed_one_gives_back_what_it_held(tmp_path: Path) -> None:
    store = FileCounters(tmp_path / "counters")
    limit = Limit("k", 100, 1e9)
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(tmp_path / "counters")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for _ in range(4)
    ]
    try:
        granted = [int(worker.stdout.readline()) for worker in workers if worker.stdout]
        assert sum(granted) == 100 and (await store.levels([limit]))[0].remaining == 0
        assert (await store.take([Take(limit, 1)])).refused is not None
        for worker in workers:
            worker.kill()
            worker.wait()
        while (await store.take([Take(limit, 100)])).refused is not None:
            await asyncio.sleep(0.05)
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
        store.close()


async def test_a_counter_file_that_is_garbage_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "counters").mkdir()
    (tmp_path / "counters" / "data.mdb").write_bytes(b"no database" * 1000)
    await check_counter_store(FileCounters(tmp_path / "counters"))


async def test_a_full_counter_file_is_a_store_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lmg.services.file_counters.MAP_BYTES", 2**17)
    store = FileCounters(tmp_path / "counters")
    with pytest.raises(ServiceError, match="cannot be written"):
        for n in range(1000):
            await store.put(f"k{n}", b"x" * 1000, 3600.0)
    store.settle([Settle(Limit("k", 1, None), 1, 0)])
    assert await store.get(["k0"]) == [b"x" * 1000]


async def test_what_is_over_is_swept_from_the_counter_file(tmp_path: Path) -> None:
    store = FileCounters(tmp_path / "counters")
    for n in range(600):
        await store.put(f"k{n}", b"x", -1.0)
        await store.take([Take(Limit(f"b{n}", 1, 1e-9), 1)])
    for _ in range(6_000):
        await store.put("k", b"x", 60.0)
    with store._env.begin() as txn:
        assert txn.stat()["entries"] < 100


async def test_a_receipt_is_recorded_once_and_survives_the_process(tmp_path: Path) -> None:
    ledger = FileLedger(tmp_path / "ledger", batch_s=0.01)
    ledger.record(RECEIPT)
    ledger.record(replace(RECEIPT, tenant="somebody else"))
    ledger.record(replace(RECEIPT, exchange_id="req_2", at=2.0))
    assert [r.exchange_id for r in await ledger.recent()] == ["req_2", "req_1"]
    ledger.close()
    again = FileLedger(tmp_path / "ledger")
    assert (await again.recent())[1] == RECEIPT
    again.close()


def test_the_catalogue_serves_by_priority_and_only_what_is_there() -> None:
    first, second = Target("a", "m", "m", 1), Target("b", "m", "m2", 2)
    catalogue = TargetTable([second, first])
    assert catalogue.targets("m", "chat") == (first, second)
    assert catalogue.targets("m", "embeddings") == ()
    assert catalogue.targets("other", "chat") == ()
    assert catalogue.models() == (first,)


@pytest.mark.parametrize("name", ["../key", "/etc/passwd", ".hidden", "", "absent"])
def test_a_secret_is_a_file_of_its_folder_and_nothing_else(tmp_path: Path, name: str) -> None:
    (tmp_path / "key").write_text("s3cret\n")
    (tmp_path / ".hidden").write_text("no")
    secrets = FileSecrets(tmp_path)
    assert secrets.get("key").get_secret_value() == "s3cret"
    assert "s3cret" not in repr(secrets.get("key"))
    with pytest.raises(ServiceError):
        secrets.get(name)


def test_metrics_are_no_ops_until_exported_and_labels_are_bounded() -> None:
    recorder = Recorder()
    counter = recorder.counter("x_total", "help", ("tenant",), max_series=2)
    counter.inc(("a",))
    assert counter.series == {}
    recorder.enabled = True
    for tenant in ("a", "b", "c", "d"):
        counter.inc((tenant,))
    assert counter.series == {("a",): 1, ("b",): 1, (OVERFLOW,): 2}
    assert recorder.counter("x_total", "help", ("tenant",)) is counter
    with pytest.raises(ValueError, match="already"):
        recorder.gauge("x_total", "help")
    histogram = recorder.histogram("x_seconds", "help", buckets=(0.1, 1.0))
    for value in (0.1, 0.5, 5.0):
        histogram.observe(value)
    assert histogram.series[()] == [1, 1, 1, 5.6]


async def test_a_worker_counts_what_does_not_fit_and_outlives_a_bad_item() -> None:
    host = Host()
    done: list[int] = []

    async def handle(item: int) -> None:
        if item == 1:
            raise RuntimeError
        done.append(item)

    worker = host.worker("w", handle, size=3)
    assert [worker.offer(n) for n in range(5)] == [True, True, True, False, False]
    await worker.drain()
    assert (done, worker.dropped, worker.failed) == ([0, 2], 2, 1)
    await host.aclose()


async def test_a_worker_that_is_stopped_handles_what_is_queued_and_ends() -> None:
    host, done = Host(), []

    async def handle(item: int) -> None:
        await asyncio.sleep(0)
        done.append(item)

    worker = host.worker("w", handle, size=10)
    assert all(worker.offer(n) for n in range(10))
    await asyncio.gather(worker.stop(), worker.stop())
    assert (done, worker.dropped, worker_tasks()) == (list(range(10)), 0, [])
    assert not worker.offer(10)
    await worker.stop()
    await worker.drain()
    assert (done, worker.dropped) == (list(range(10)), 1)
    await host.aclose()


async def test_a_worker_that_is_stopped_waits_no_longer_than_told() -> None:
    host, begun, cancelled = Host(), asyncio.Event(), asyncio.Event()

    async def hangs(item: int) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    worker = host.worker("w", hangs, size=3)
    assert all(worker.offer(n) for n in range(3))
    await begun.wait()
    async with asyncio.timeout(2):
        await worker.stop(drain_s=0.01)
        await worker.drain()
    assert cancelled.is_set()
    assert (worker.dropped, worker.failed, worker_tasks()) == (3, 0, [])
    await host.aclose()


async def test_a_worker_without_its_host_stops_at_once() -> None:
    host = Host()
    worker = host.worker("w", lambda item: asyncio.sleep(60), size=3)
    assert worker.offer(1)
    assert worker.offer(2)
    await host.aclose()
    async with asyncio.timeout(2):
        await worker.stop()
    assert worker.dropped == 2


async def test_a_stop_that_is_cancelled_still_ends_the_worker() -> None:
    host, begun = Host(), asyncio.Event()

    async def hangs(item: int) -> None:
        begun.set()
        await asyncio.Event().wait()

    worker = host.worker("w", hangs, size=3)
    assert all(worker.offer(n) for n in range(3))
    await begun.wait()
    with pytest.raises(TimeoutError):
        await within(0.01, worker.stop(60.0))
    await worker.drain()
    assert (worker.dropped, worker_tasks()) == (3, [])
    await host.aclose()


async def test_a_worker_of_a_question_takes_everything_until_it_is_stopped() -> None:
    host = ReadOnlyHost(None, None, connect=False)
    worker = host.worker("w", lambda item: asyncio.sleep(60), size=1)
    assert [worker.offer(n) for n in range(3)] == [True, True, True]
    await worker.stop()
    assert (worker.offer(3), worker.dropped) == (False, 1)
    await host.aclose()


def worker_tasks() -> list[str]:
    """The names of workers' tasks that still run."""
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("worker:")]


async def test_background_tasks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host()
    monkeypatch.setattr(Host, "MAX_TASKS", 1)
    host.spawn(asyncio.sleep(60), name="one")
    with pytest.raises(QueueFull):
        host.spawn(asyncio.sleep(60), name="two")
    await host.aclose()


async def test_within_gives_the_result_and_cancels_what_is_late() -> None:
    async def quick() -> int:
        return 1

    async def waits() -> int:
        await asyncio.sleep(0)
        return 2

    cancelled = asyncio.Event()

    async def late() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def fails() -> None:
        await asyncio.sleep(0)
        raise KeyError

    assert await within(1, quick()) == 1
    assert await within(1, waits()) == 2
    with pytest.raises(TimeoutError):
        await within(0.01, late())
    assert cancelled.is_set()
    with pytest.raises(KeyError):
        await within(1, fails())


async def test_a_deadline_that_is_pushed_does_not_fire_and_a_foreign_cancel_passes() -> None:
    loop = asyncio.get_running_loop()
    with Deadline(loop, loop.time() + 0.03) as limit:
        for _ in range(4):
            limit.push(loop.time() + 0.03)
            await asyncio.sleep(0.015)
    with pytest.raises(TimeoutError), Deadline(loop, loop.time() + 0.01):
        await asyncio.sleep(60)

    async def guarded() -> None:
        with Deadline(loop, loop.time() + 60):
            await asyncio.sleep(60)

    task = asyncio.ensure_future(guarded())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_virtual_clock_wakes_in_order() -> None:
    clock = VirtualClock()
    order: list[int] = []

    async def sleeper(n: int) -> None:
        await clock.sleep(n)
        order.append(n)

    tasks = [asyncio.ensure_future(sleeper(n)) for n in (3, 1, 2)]
    await clock.advance(2)
    assert order == [1, 2]
    await clock.advance(1)
    await asyncio.gather(*tasks)
    assert order == [1, 2, 3]


def test_a_test_that_connects_beyond_loopback_fails(tmp_path: Path) -> None:
    import subprocess
    import sys

    source = tmp_path / "test_out.py"
    source.write_text("import socket\n\ndef test_out():\n    socket.socket().connect_ex(('192.0.2.1', 9))\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", source],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "may connect to loopback only" in done.stdout

"""Whatever is lost on the way and whenever: what is held is told as a whole, what was used is counted once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lmg.services import Limit, Settle, Take
from lmg_redis.holdings import BATCH, MAX_DUE, Batch, Holdings

WIDE = [Limit(f"k{n}", 10**9, 60.0) for n in range(3)]
SLOTS = Limit("slots", 10, None)


class Server:
    """What the scripts do with a holder and a numbered batch, in Python; ``line`` is what has not been read yet."""

    def __init__(self) -> None:
        self.held: dict[str, int] = {}
        self.spent: dict[str, int] = {}
        self.number = 0
        self.line: list[tuple[Batch, list[tuple[str, int, int]]]] = []
        self.again: set[int] = set()

    def greet(self, held: dict[str, int]) -> None:
        """Only what comes after this is heard."""
        self.held = dict(held)
        self.line.clear()

    def take(self, takes: list[Take]) -> None:
        for take in takes:
            self.held[take.limit.key] = self.held.get(take.limit.key, 0) + take.amount

    def send(self, batch: Batch) -> None:
        self.line.append((batch, [(due.limit.key, due.release, due.spend) for due in batch.dues]))

    def read(self) -> Batch:
        batch, dues = self.line.pop(0)
        if batch.number > self.number:
            self.number = batch.number
            for key, release, spend in dues:
                self.held[key] = max(0, self.held.get(key, 0) - release)
                self.spent[key] = self.spent.get(key, 0) + spend
        return batch


class World:
    """A process and its server. ``steps`` are drawn; the truth is kept beside them."""

    def __init__(self) -> None:
        self.ours, self.server = Holdings(), Server()
        self.held: dict[str, int] = {}
        self.used: dict[str, int] = {}
        self.up = False

    def connect(self) -> None:
        self.server.greet(self.ours.told())
        self.up = True
        self.server.again.clear()
        for batch in self.ours.unsure():
            self.server.send(batch)
            self.server.again.add(batch.number)

    def lose(self, *, delivered: int) -> None:
        """``delivered`` of what is on the line is still counted; no answer arrives."""
        while self.server.line and delivered:
            self.server.read()
            delivered -= 1
        self.up = False
        self.ours.lost()

    def take(self, n: int, amount: int) -> None:
        takes = [Take(WIDE[n], amount, held=True)]
        self.server.take(takes)
        self.ours.granted(takes)
        self.held[WIDE[n].key] = self.held.get(WIDE[n].key, 0) + amount

    def settle(self, n: int, amount: int, spend: int) -> None:
        key = WIDE[n].key
        release = min(amount, self.held.get(key, 0))
        self.held[key] = self.held.get(key, 0) - release
        self.used[key] = self.used.get(key, 0) + spend
        self.ours.settle([Settle(WIDE[n], release, spend)])

    def flush(self) -> None:
        if (batch := self.ours.batch()) is not None:
            self.server.send(batch)

    def answer(self, *, refused: bool) -> None:
        if not self.server.line:
            return
        # A server that has lost its scripts says so to all of one moment; what is sent again brings its script along.
        if refused and not any(batch.number in self.server.again for batch, _ in self.server.line):
            lost = [batch for batch, _ in self.server.line]
            self.server.line.clear()
            for batch in lost:
                self.ours.refused(batch)
        else:
            self.ours.arrived(self.server.read())


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.integers(0, 2), st.integers(1, 9)),
        st.tuples(st.just("settle"), st.integers(0, 2), st.integers(0, 9), st.integers(0, 9)),
        st.tuples(st.just("flush")),
        st.tuples(st.just("answer"), st.booleans()),
        st.tuples(st.just("lose"), st.integers(0, 3)),
        st.tuples(st.just("connect")),
    ),
    max_size=60,
)


def play(world: World, step: tuple[object, ...]) -> None:
    match step:
        case ("take", int(n), int(amount)) if world.up:
            world.take(n, amount)
        case ("settle", int(n), int(amount), int(spend)):
            world.settle(n, amount, spend)
        case ("flush",) if world.up:
            world.flush()
        case ("answer", bool(refused)) if world.up:
            world.answer(refused=refused)
        case ("lose", int(delivered)) if world.up:
            world.lose(delivered=delivered)
        case ("connect",) if not world.up:
            world.connect()


@given(STEPS)
def test_after_any_losses_the_server_holds_what_is_held_and_has_counted_all_use_once(
    steps: list[tuple[object, ...]],
) -> None:
    world = World()
    for step in steps:
        play(world, step)
    if not world.up:
        world.connect()
    while world.ours.due or world.server.line:
        world.flush()
        world.answer(refused=False)
    assert {key: n for key, n in world.server.held.items() if n} == {k: n for k, n in world.held.items() if n}
    assert {key: n for key, n in world.server.spent.items() if n} == {
        k: n for k, n in world.used.items() if n
    }
    assert not list(world.ours.unsure())


def test_settlements_of_a_limit_are_one() -> None:
    ours = Holdings()
    ours.told()
    ours.granted([Take(WIDE[0], 10, held=True)])
    for spend in (1, 2, 3):
        ours.settle([Settle(WIDE[0], 3, spend), Settle(SLOTS, 0, 5)])
    batch = ours.batch()
    assert batch is not None and ours.batch() is None
    assert [(due.limit, due.release, due.spend) for due in batch.dues] == [(WIDE[0], 9, 6)]
    assert ours.held == {WIDE[0].key: 1}


def test_nothing_is_kept_of_what_is_free() -> None:
    ours = Holdings()
    ours.told()
    for _ in range(3):
        ours.granted([Take(SLOTS, 1, held=True), Take(WIDE[0], 0, held=True), Take(WIDE[1], 5)])
    assert ours.held == {"slots": 3}
    ours.settle([Settle(SLOTS, 2, 0)])
    ours.settle([Settle(SLOTS, 7, 0)])
    assert ours.held == {}
    ours.lost()
    assert ours.due == 0


def test_large_backlogs_go_in_batches_and_have_a_bound() -> None:
    ours = Holdings()
    for n in range(MAX_DUE + 7):
        ours.settle([Settle(Limit(f"k{n}", 10, 60.0), 0, 1)])
    assert (ours.due, ours.dropped) == (MAX_DUE, 7)
    ours.told()
    ours.settle([Settle(Limit("held", 10, 60.0), 1, 1)])
    assert (ours.due, ours.dropped) == (MAX_DUE + 1, 7), "a release was dropped"
    sizes = []
    while (batch := ours.batch()) is not None:
        sizes.append(len(batch.dues))
    assert max(sizes) == BATCH and sum(sizes) == MAX_DUE + 1
    assert [batch.number for batch in ours.unsure()] == list(range(1, len(sizes) + 1))

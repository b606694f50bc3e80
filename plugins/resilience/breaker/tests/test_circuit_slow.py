"""The state machine and slowness: what is slow, what is stalled, and what is merely how it is."""

from __future__ import annotations

from lmg_breaker.circuit import FORGET_AFTER, SLOW_PROBES

from .conftest import InFlight, Noted


def slow_one(**settings: object) -> Noted:
    noted = Noted(slow_call_ms=1000, min_calls=4, adaptive_sensitivity=None, open_s=5, **settings)
    noted.succeed(2, latency_s=0.1)
    noted.succeed(2, latency_s=2.0)
    return noted


def test_too_many_slow_calls_open_it_softly() -> None:
    noted = slow_one()
    assert noted.told == [("open", "slow")]
    assert noted.circuit.soft


def test_a_slow_probe_does_not_close_what_slowness_has_opened() -> None:
    noted = slow_one()
    noted.succeed(1, 5.0, latency_s=2.0)
    assert noted.told[-1] == ("open", "slow")
    noted.succeed(1, noted.circuit.open_until, latency_s=0.5)
    assert noted.state == "closed"


def test_a_slow_probe_of_what_failures_have_opened_shows_that_it_answers_and_no_more() -> None:
    noted = Noted(slow_call_ms=1000, open_s=5)
    circuit = noted.opened()
    noted.succeed(1, 5.0, latency_s=2.0)
    assert noted.told[-1] == ("open", "slow")
    assert circuit.soft


def test_what_is_slow_and_then_fails_is_not_soft_any_more() -> None:
    noted = slow_one()
    circuit = noted.circuit
    for _ in range(5):
        circuit.failed(circuit.extra(), 1.0)
    assert noted.told[-1] == ("open", "consecutive")
    assert not circuit.soft


def test_a_target_that_stays_slow_is_taken_at_its_word() -> None:
    noted = Noted(min_calls=4, window_s=10, baseline_calls=100, open_s=5)
    for second in range(12):
        noted.succeed(20, float(second), latency_s=0.5)
    noted.succeed(4, 40.0, latency_s=5.0)
    assert noted.told == [("open", "unusually_slow")]
    circuit = noted.circuit
    for _ in range(FORGET_AFTER - 1):
        noted.succeed(SLOW_PROBES, circuit.open_until, latency_s=5.0)
        assert noted.told[-1] == ("open", "slow")
    noted.succeed(SLOW_PROBES, circuit.open_until, latency_s=5.0)
    assert noted.state == "closed"
    noted.succeed(200, 4000.0, latency_s=5.0)
    assert noted.state == "closed", "five seconds are what it takes now"


def test_one_probe_that_is_late_by_chance_decides_nothing() -> None:
    noted = Noted(min_calls=4, window_s=10, baseline_calls=100, open_s=5)
    for second in range(12):
        noted.succeed(20, float(second), latency_s=0.5)
    noted.opened(20.0)
    now = noted.circuit.open_until
    noted.succeed(1, now, latency_s=5.0)
    assert noted.state == "half_open"
    noted.succeed(1, now, latency_s=0.5)
    assert noted.state == "closed"


def test_the_operators_own_limit_is_never_forgiven() -> None:
    noted = slow_one(max_open_s=10)
    for _ in range(3 * FORGET_AFTER):
        noted.succeed(1, noted.circuit.open_until, latency_s=2.0)
        assert noted.state == "open"


def test_calls_that_wait_for_too_long_open_it_before_they_time_out() -> None:
    noted = Noted(slow_call_ms=1000, min_calls=4, adaptive_sensitivity=None)
    circuit = noted.circuit
    for n in range(6):
        circuit.waiting[InFlight(first_byte_at=0.1 if n < 2 else None, stream=n % 2 == 0)] = 0.0
    circuit.look(0.9)
    assert noted.state == "closed"
    circuit.look(1.1)
    assert noted.told == [("open", "stalled")]
    assert circuit.soft


def test_calls_that_wait_while_later_ones_are_answered_are_no_stall() -> None:
    noted = Noted(slow_call_ms=1000, min_calls=4, adaptive_sensitivity=None)
    circuit = noted.circuit
    for n in range(8):
        circuit.waiting[InFlight(first_byte_at=0.1 if n == 5 else None)] = 0.0
    circuit.look(2.0)
    assert noted.state == "closed", "a stream that began after five of them has its first event"
    noted.succeed(1, 2.5, latency_s=0.3)
    for _ in range(4):
        circuit.waiting[InFlight()] = 2.0
    circuit.look(3.4)
    assert noted.state == "closed", "an answer came in time less than a second ago"
    noted.succeed(1, 3.5, latency_s=1.4)
    circuit.look(3.6)
    assert noted.state == "open", "one that came too late does not count"

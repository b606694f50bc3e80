"""The state machine, transition by transition, on a clock that is a number."""

from __future__ import annotations

from random import Random

import pytest

from lmg_breaker.backoff import Backoff
from lmg_breaker.reasons import CREDENTIAL, RATE_LIMITED

from .conftest import InFlight, Noted

# Closed to open


def test_five_failures_in_a_row_open_it() -> None:
    noted = Noted()
    noted.fail(4)
    assert noted.state == "closed"
    noted.fail(1)
    assert noted.told == [("open", "consecutive")]


def test_a_success_begins_the_row_anew() -> None:
    noted = Noted(failure_rate=None)
    for _ in range(10):
        noted.fail(4)
        noted.succeed(1)
    assert noted.state == "closed"


def test_an_open_circuit_grants_nothing_until_its_time_is_over() -> None:
    circuit = Noted(open_s=5).opened()
    assert circuit.permit(4.999) is None
    assert circuit.permit(5.0) is not None


def test_an_announced_pause_is_kept_to_the_second() -> None:
    noted = Noted()
    noted.circuit.limited(noted.circuit.passing, 10.0, 42.0)
    assert noted.told == [("open", "rate_limited")]
    assert noted.circuit.permit(51.9) is None
    assert noted.circuit.permit(52.0) is not None


def test_an_announced_pause_is_bounded() -> None:
    noted = Noted(max_rate_limit_open_s=60)
    noted.circuit.limited(noted.circuit.passing, 0.0, 86_400.0)
    assert noted.circuit.open_until == 60


def test_a_429_that_says_nothing_opens_briefly_and_longer_each_time() -> None:
    noted = Noted(rate_limit_open_s=1)
    now, lengths = 0.0, []
    for _ in range(4):
        permit = noted.circuit.permit(now)
        assert permit is not None
        noted.circuit.limited(permit, now, None)
        lengths.append(noted.circuit.open_until - now)
        now = noted.circuit.open_until
    assert lengths == [1, 2, 4, 8]
    assert noted.told[0] == ("open", "throttled")


def test_a_429_is_no_failure() -> None:
    noted = Noted(open_s=5)
    noted.circuit.limited(noted.circuit.passing, 0.0, None)
    noted.succeed(1, now=1.0)
    noted.fail(5, now=2.0)
    assert noted.circuit.open_until - 2.0 == 5, "the open time of failures has not grown"


def test_429s_between_failures_do_not_hide_them() -> None:
    """Envoy's counter is reset by each 429: 503 four times and a 429, repeated, is never ejected."""
    noted = Noted(rate_limit_open_s=0.1)
    circuit, now = noted.circuit, 0.0
    noted.fail(4, now)
    circuit.limited(circuit.passing, now, None)
    assert noted.told == [("open", "throttled")]
    for _ in range(5):
        now = circuit.open_until
        permit = circuit.permit(now)
        assert permit is not None
        circuit.failed(permit, now)
        assert noted.state == "open"


def test_overload_that_is_announced_opens_at_once_and_longer_if_it_is_still_there() -> None:
    noted = Noted(open_s=5)
    circuit = noted.circuit
    circuit.overloaded(circuit.passing, 0.0, 2.0)
    assert (noted.told, circuit.open_until) == ([("open", "overloaded")], 2.0)
    permit = circuit.permit(2.0)
    assert permit is not None
    circuit.overloaded(permit, 2.0, 2.0)
    assert circuit.open_until == 7.0


def test_a_later_announcement_makes_it_longer_and_an_earlier_one_does_not() -> None:
    noted = Noted()
    before = noted.circuit.passing
    noted.opened()
    noted.circuit.limited(before, 1.0, 100.0)
    assert noted.circuit.open_until == 101.0
    assert noted.circuit.reason is RATE_LIMITED
    noted.circuit.limited(before, 2.0, 10.0)
    assert noted.circuit.open_until == 101.0


def test_a_refused_key_opens_at_once_and_403_after_three_without_a_success() -> None:
    noted = Noted(key=True, credential_open_s=30)
    circuit = noted.circuit
    circuit.refused(circuit.passing, 0.0, CREDENTIAL)
    assert (noted.told, circuit.open_until) == ([("open", "credential")], 30.0)

    noted = Noted(key=True, forbidden_to_open=3)
    noted.fail(2)
    noted.succeed(1)
    noted.fail(2)
    assert noted.state == "closed"
    noted.fail(1)
    assert noted.state == "open"


def test_a_key_that_is_still_refused_stays_away_for_longer() -> None:
    noted = Noted(key=True, credential_open_s=30, max_credential_open_s=100)
    circuit, now, lengths = noted.circuit, 0.0, []
    for _ in range(4):
        permit = circuit.permit(now)
        assert permit is not None
        circuit.refused(permit, now, CREDENTIAL)
        lengths.append(circuit.open_until - now)
        now = circuit.open_until
    assert lengths == [30, 60, 100, 100]


# Half-open


def test_half_open_lets_one_probe_through_at_a_time() -> None:
    circuit = Noted(open_s=5).opened()
    probe = circuit.permit(5.0)
    assert probe is not None
    assert [circuit.permit(5.0 + n) for n in range(10)] == [None] * 10


def test_enough_probes_close_it() -> None:
    noted = Noted(open_s=5, probes_to_close=3)
    circuit = noted.opened()
    for expected in ("half_open", "half_open", "closed"):
        probe = circuit.permit(5.0)
        assert probe is not None
        circuit.succeeded(probe, 5.0)
        assert noted.state == expected
    assert noted.told[1:] == [("half_open", "time"), ("closed", "probes")]


def test_a_failed_probe_opens_it_for_longer_up_to_the_most() -> None:
    noted = Noted(open_s=5, max_open_s=60)
    circuit, now, lengths = noted.opened(), 0.0, []
    for _ in range(6):
        lengths.append(circuit.open_until - now)
        now = circuit.open_until
        probe = circuit.permit(now)
        assert probe is not None
        circuit.failed(probe, now)
    assert lengths == [5, 10, 20, 40, 60, 60]
    assert noted.told[-1] == ("open", "probe_failed")


def test_a_failed_probe_undoes_those_before_it() -> None:
    noted = Noted(open_s=5, probes_to_close=2)
    circuit = noted.opened()
    noted.succeed(1, 5.0)
    noted.fail(1, 5.0)
    noted.succeed(1, circuit.open_until)
    assert noted.state == "half_open"


@pytest.mark.parametrize("ending", ["cancelled", "skipped"])
def test_a_probe_without_a_verdict_frees_its_permit(ending: str) -> None:
    noted = Noted(open_s=5)
    circuit = noted.opened()
    for _ in range(3):
        probe = circuit.permit(5.0)
        assert probe is not None
        circuit.freed(probe)
    assert noted.state == "half_open"
    assert circuit.permit(5.0) is not None


def test_the_callers_own_fault_is_good_enough_for_a_probe_and_no_evidence_otherwise() -> None:
    noted = Noted(open_s=5)
    circuit = noted.circuit
    noted.fail(4)
    circuit.alive(circuit.passing, 0.0)
    noted.fail(1)
    assert noted.state == "open", "a 400 between failures does not hide them"
    probe = circuit.permit(5.0)
    assert probe is not None
    circuit.alive(probe, 5.0)
    assert noted.state == "closed"


def test_a_429_to_a_probe_opens_it_by_the_mild_rule() -> None:
    noted = Noted(open_s=5, rate_limit_open_s=1)
    circuit = noted.opened()
    probe = circuit.permit(5.0)
    assert probe is not None
    circuit.limited(probe, 5.0, None)
    assert (noted.told[-1], circuit.open_until) == (("open", "throttled"), 6.0)


def test_an_overdue_probe_counts_as_failed_and_its_late_success_is_welcome() -> None:
    noted = Noted(open_s=5, probe_timeout_s=60)
    circuit = noted.opened()
    probe = circuit.permit(5.0)
    assert probe is not None
    circuit.look(64.9)
    assert noted.state == "half_open"
    circuit.look(65.0)
    assert (noted.told[-1], circuit.open_until) == (("open", "probe_overdue"), 75.0)
    circuit.succeeded(probe, 70.0, 65.0)
    assert noted.told[-1] == ("half_open", "answered")


def test_an_overdue_probe_says_nothing_about_a_key() -> None:
    noted = Noted(key=True, probe_timeout_s=60, credential_open_s=30)
    circuit = noted.circuit
    circuit.refused(circuit.passing, 0.0, CREDENTIAL)
    assert circuit.permit(30.0) is not None
    circuit.look(90.0)
    assert noted.state == "half_open"
    assert circuit.permit(90.0) is not None


def test_a_probe_whose_stream_has_begun_need_not_end() -> None:
    noted = Noted(open_s=5)
    circuit = noted.opened()
    call = InFlight(started=100.0)
    probe = circuit.permit(5.0, call)
    circuit.look(6.0)
    assert noted.state == "half_open"
    call.first_byte_at = 100.5
    assert circuit.permit(6.5) is circuit.passing
    assert noted.state == "closed"
    assert probe is not None
    for _ in range(4):
        circuit.failed(circuit.passing, 7.0)
    circuit.failed(probe, 7.0)
    assert noted.state == "open", "that its stream broke later counts as any call's"


# Late news


def test_what_began_before_it_opened_is_no_verdict_later() -> None:
    noted = Noted(open_s=5)
    circuit = noted.circuit
    old = circuit.passing
    noted.opened()
    circuit.succeeded(old, 1.0)
    assert noted.state == "open"
    noted.succeed(1, 5.0)
    assert noted.state == "closed"
    for _ in range(10):
        circuit.failed(old, 6.0)
    assert noted.state == "closed"


def test_a_call_of_a_panic_that_succeeds_ends_the_open_time() -> None:
    noted = Noted(open_s=100)
    circuit = noted.opened()
    circuit.failed(circuit.extra(), 1.0)
    assert (noted.state, circuit.open_until) == ("open", 100.0)
    circuit.succeeded(circuit.extra(), 2.0)
    assert noted.told[-1] == ("half_open", "answered")


# By hand


def test_what_is_forced_open_stays_so_whatever_happens() -> None:
    noted = Noted()
    circuit = noted.circuit
    old = circuit.passing
    circuit.force(0.0, 600.0)
    circuit.succeeded(circuit.extra(), 1.0)
    circuit.ease(1.0, "check")
    circuit.limited(old, 1.0, 10_000.0)
    assert (noted.told, circuit.open_until) == ([("open", "forced")], 600.0)
    assert circuit.permit(599.0) is None
    noted.succeed(1, 600.0)
    assert noted.state == "closed"


def test_a_reset_closes_and_forgets() -> None:
    noted = Noted(open_s=5)
    circuit = noted.opened()
    noted.fail(1, 5.0)
    assert circuit.opens == 2
    circuit.close(6.0, "reset", forget=True)
    assert (noted.told[-1], circuit.opens) == (("closed", "reset"), 0)
    noted.fail(4, 6.0)
    assert noted.state == "closed"


# Leases


def test_a_circuit_that_waits_for_a_lease_probes_on_its_own_account_after_a_while() -> None:
    noted = Noted(open_s=5)
    noted.circuit.hold_s = 2.0
    circuit = noted.opened()
    assert circuit.permit(6.9) is None
    assert circuit.permit(7.0) is not None


def test_a_lease_that_is_got_lets_the_probe_go_and_one_that_is_not_keeps_it() -> None:
    noted = Noted(open_s=5)
    noted.circuit.hold_s = 2.0
    circuit = noted.opened()
    circuit.keep(20.0)
    assert circuit.permit(19.0) is None
    circuit.release()
    assert circuit.permit(19.0) is not None


# Open times


def test_health_is_rewarded_with_shorter_open_times() -> None:
    noted = Noted(open_s=5, heal_s=60)
    circuit = noted.opened()
    for _ in range(2):
        noted.fail(1, circuit.open_until)
    assert circuit.opens == 3
    back = circuit.open_until
    noted.succeed(1, back)
    noted.fail(5, back + 125.0)
    assert circuit.opens == 2, "two of three forgotten, and one more"
    assert circuit.open_until - (back + 125.0) == 10


def test_open_times_are_spread() -> None:
    random = Random(1)
    times = [Backoff(10, 300, 60, 0.2).grow(random) for _ in range(200)]
    assert 8 <= min(times) < 8.5
    assert 11.5 < max(times) <= 12


def test_no_open_time_is_beyond_the_most() -> None:
    backoff, random = Backoff(1, 50, 60, 0.5), Random(1)
    assert all(backoff.grow(random) <= 50 for _ in range(1000))

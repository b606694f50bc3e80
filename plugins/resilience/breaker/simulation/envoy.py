"""Envoy's outlier detection, as the simulation's reference."""

from __future__ import annotations

from .world import Attempt

__all__ = ["EnvoyEjection"]


class EnvoyEjection:
    """Envoy's outlier detection by consecutive 5xx, with round robin over who is not ejected.

    As Envoy 1.40 does it: ejected after ``consecutive_5xx`` statuses of 500 and above in a row, anything else (a 429,
    too) begins the row anew; for ``base_s`` times the number of ejections that are remembered, at most
    ``max(max_s, base_s)``; only while (ejected + 1) / hosts is within ``max_ejection_percent``, or for the first one
    where ``always_eject_one_host``. A sweep every ``interval_s`` takes back those whose time is over, at full share,
    and forgets one ejection of each host that is not ejected. Below ``panic_threshold`` percent of healthy hosts all
    are used. Connect failures count as 503, timeouts as 504.

    Drive it with ``reply(now, host, status)`` in the order of time; ``choose(now)``, ``healthy(now)`` and
    ``is_ejected(now, host)`` say what follows.
    """

    def __init__(
        self,
        hosts: int,
        *,
        consecutive_5xx: int = 5,
        base_s: float = 30.0,
        max_s: float = 300.0,
        interval_s: float = 10.0,
        max_ejection_percent: float = 10.0,
        always_eject_one_host: bool = False,
        panic_threshold: float = 50.0,
        attempts: int = 1,
    ) -> None:
        self.attempts = attempts
        self.ejections = 0
        self.overflows = 0
        self._hosts = range(hosts)
        self._consecutive = consecutive_5xx
        self._base_s, self._longest_s, self._interval_s = base_s, max(max_s, base_s), interval_s
        self._max_percent, self._always_one = max_ejection_percent, always_eject_one_host
        self._panic = panic_threshold
        self._row = [0] * hosts
        self._remembered = [0] * hosts
        self._ejected_at: dict[int, float] = {}
        self._sweep_at = interval_s
        self._next = 0

    def advance(self, now: float) -> None:
        """Runs the sweeps that are due."""
        while self._sweep_at <= now:
            for host in self._hosts:
                ejected_at = self._ejected_at.get(host)
                if ejected_at is None:
                    self._remembered[host] = max(0, self._remembered[host] - 1)
                elif self._sweep_at - ejected_at >= min(
                    self._base_s * self._remembered[host], self._longest_s
                ):
                    del self._ejected_at[host]
            self._sweep_at += self._interval_s

    def is_ejected(self, now: float, host: int) -> bool:
        """Whether ``host`` is out at that time."""
        self.advance(now)
        return host in self._ejected_at

    def healthy(self, now: float) -> list[int]:
        """The hosts that are used: those that are not ejected, or all in a panic."""
        self.advance(now)
        healthy = [host for host in self._hosts if host not in self._ejected_at]
        return healthy if 100 * len(healthy) >= self._panic * len(self._hosts) else list(self._hosts)

    def choose(self, now: float, attempt: Attempt | None = None) -> int | None:
        """The next host in turn; of a request that has tried some, another one."""
        healthy, tried = self.healthy(now), attempt.request.tried if attempt is not None else ()
        for _ in healthy:
            self._next += 1
            host = healthy[self._next % len(healthy)]
            if host not in tried:
                return host
        return None

    def reply(self, now: float, attempt: Attempt | int, status: int) -> None:
        """What ``host`` (or the host of an attempt) has answered."""
        self.advance(now)
        host = attempt if isinstance(attempt, int) else attempt.target
        if status < 500:
            self._row[host] = 0
            return
        self._row[host] += 1
        if self._row[host] >= self._consecutive and host not in self._ejected_at:
            self._row[host] = 0
            self._eject(now, host)

    def _eject(self, now: float, host: int) -> None:
        out = len(self._ejected_at)
        within = 100 * (out + 1) <= self._max_percent * len(self._hosts)
        if not within and not (self._always_one and out == 0):
            self.overflows += 1
            return
        self.ejections += 1
        self._remembered[host] += 1
        self._ejected_at[host] = now

    def tick(self, now: float) -> None:
        """Nothing is due but the sweeps."""
        self.advance(now)

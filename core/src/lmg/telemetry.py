"""The metrics recorder: families with bounded labels, no-ops until a component exports them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Final, Literal, TypeVar

__all__ = ["OVERFLOW", "Counter", "Family", "Gauge", "Histogram", "Recorder"]

OVERFLOW: Final = "other"
"""The label value that takes what is beyond a family's bound."""

Labels = tuple[str, ...]
F = TypeVar("F", bound="Family")


class Family:
    """One metric family. At most ``max_series`` label sets exist; further ones fold into ``other``."""

    kind: Literal["counter", "gauge", "histogram"]

    def __init__(
        self, recorder: Recorder, name: str, help: str, labels: Sequence[str], max_series: int
    ) -> None:
        self.name, self.help, self.labels, self.max_series = name, help, tuple(labels), max_series
        self._recorder = recorder
        self._overflow = (OVERFLOW,) * len(self.labels)

    def _bounded(self, series: dict[Labels, object], labels: Labels) -> Labels:
        if labels in series or len(series) < self.max_series:
            return labels
        return self._overflow


class Counter(Family):
    """Only rises. ``inc`` is a dictionary update: 0.1 µs."""

    kind: Literal["counter", "gauge", "histogram"] = "counter"

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.series: dict[Labels, float] = {}

    def inc(self, labels: Labels = (), amount: float = 1) -> None:
        """Adds ``amount`` to the series of ``labels`` (values, in the family's order)."""
        if self._recorder.enabled:
            series = self.series
            if labels not in series:
                labels = self._bounded(series, labels)  # type: ignore[arg-type]
            series[labels] = series.get(labels, 0) + amount


class Gauge(Counter):
    """Rises and falls."""

    kind = "gauge"

    def set(self, value: float, labels: Labels = ()) -> None:
        """Sets the series of ``labels``."""
        if self._recorder.enabled:
            self.series[self._bounded(self.series, labels)] = value  # type: ignore[arg-type]


class Histogram(Family):
    """Cumulative buckets; ``series`` holds per label set the counts per bucket, then the sum."""

    kind = "histogram"

    def __init__(
        self,
        recorder: Recorder,
        name: str,
        help: str,
        labels: Sequence[str],
        max_series: int,
        buckets: Sequence[float],
    ) -> None:
        super().__init__(recorder, name, help, labels, max_series)
        self.buckets = tuple(sorted(buckets))
        self.series: dict[Labels, list[float]] = {}

    def observe(self, value: float, labels: Labels = ()) -> None:
        """Counts ``value`` into its bucket (``le`` is inclusive)."""
        if self._recorder.enabled:
            counts = self.series.get(labels)
            if counts is None:
                labels = self._bounded(self.series, labels)  # type: ignore[arg-type]
                counts = self.series.setdefault(labels, [0.0] * (len(self.buckets) + 2))
            counts[bisect_left(self.buckets, value)] += 1
            counts[-1] += value


class Recorder:
    """All families of a process. Asking twice for the same name gives the same family."""

    def __init__(self) -> None:
        self.enabled = False
        self._families: dict[str, Family] = {}

    def counter(self, name: str, help: str, labels: Sequence[str] = (), *, max_series: int = 1000) -> Counter:
        """A counter; its name ends in ``_total`` (Prometheus naming)."""
        return self._family(Counter(self, name, help, labels, max_series))

    def gauge(self, name: str, help: str, labels: Sequence[str] = (), *, max_series: int = 1000) -> Gauge:
        """A gauge."""
        return self._family(Gauge(self, name, help, labels, max_series))

    def histogram(
        self,
        name: str,
        help: str,
        labels: Sequence[str] = (),
        *,
        buckets: Sequence[float],
        max_series: int = 1000,
    ) -> Histogram:
        """A histogram; its name ends in its unit (``_seconds``, ``_bytes``)."""
        return self._family(Histogram(self, name, help, labels, max_series, buckets))

    def _family(self, family: F) -> F:
        there = self._families.setdefault(family.name, family)
        if type(there) is not type(family) or there.labels != family.labels:
            raise ValueError(f"metric {family.name} is already a {there.kind} with labels {there.labels}")
        return there

    def families(self) -> Iterator[Family]:
        """Every family, in the order of declaration: what an exporter walks."""
        return iter(list(self._families.values()))

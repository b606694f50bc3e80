"""Limits, leases and sums that all replicas share: the service `redis`."""

from .plugin import RedisCounters

__all__ = ["RedisCounters"]

"""Limits, leases and sums that all replicas share."""

"""Limits on requests, tokens and concurrency that hold."""

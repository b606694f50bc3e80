"""Refuses early what would be late."""

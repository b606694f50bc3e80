"""Streams that break off go on elsewhere."""

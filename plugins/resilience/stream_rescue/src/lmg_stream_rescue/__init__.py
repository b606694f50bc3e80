"""Streams that break off go on elsewhere: the component `stream_rescue`."""

from .config import StreamRescueConfig
from .plugin import StreamRescue

__all__ = ["StreamRescue", "StreamRescueConfig"]

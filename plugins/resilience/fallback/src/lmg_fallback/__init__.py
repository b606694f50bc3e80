"""Another model when one fails: the component `fallback`."""

from .plugin import Fallback

__all__ = ["Fallback"]

"""A new model for a growing share of users: measured against the old one, promoted or rolled back by itself."""

from .config import CanaryConfig
from .plugin import Canary

__all__ = ["Canary", "CanaryConfig"]

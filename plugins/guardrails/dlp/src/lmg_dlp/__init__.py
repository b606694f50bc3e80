"""Secrets and confidential data do not leave."""

from .build import build
from .canaries import make_canary
from .plugin import Dlp

__all__ = ["Dlp", "build", "make_canary"]

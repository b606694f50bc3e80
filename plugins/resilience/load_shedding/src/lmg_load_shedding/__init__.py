"""Refuses early what would be late: the component `load_shedding`."""

from .config import LoadSheddingConfig
from .plugin import LoadShedding

__all__ = ["LoadShedding", "LoadSheddingConfig"]

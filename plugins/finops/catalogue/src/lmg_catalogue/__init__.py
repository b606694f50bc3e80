"""What models can do and what they cost: the service `catalogue`."""

from .plugin import ModelCatalogue

__all__ = ["ModelCatalogue"]

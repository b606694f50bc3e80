"""Personal data is masked on its way out and restored on its way back."""

from .plugin import PiiFilter

__all__ = ["PiiFilter"]

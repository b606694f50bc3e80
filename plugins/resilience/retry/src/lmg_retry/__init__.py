"""Once more, within a budget: the component `retry`."""

from .plugin import RetryBudget

__all__ = ["RetryBudget"]

"""One risk score from all signals: thresholds, approval by a second person, and memory of who probes."""

from .config import RiskConfig
from .plugin import Risk

__all__ = ["Risk", "RiskConfig"]

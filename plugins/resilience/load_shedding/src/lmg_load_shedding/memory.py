"""How much memory this process takes up."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

__all__ = ["STATM", "resident_mb"]

STATM: Final = Path("/proc/self/statm")
"""Source: proc(5), ``/proc/pid/statm``: the second number is the resident set, in pages."""


def resident_mb() -> float:
    """The resident set in mebibytes; reading it waits for nothing.

    Raises:
        OSError: this system has no such file.
    """
    return int(STATM.read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

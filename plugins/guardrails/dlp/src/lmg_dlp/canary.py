"""Makes a canary for a tenant's prompts: ``python -m lmg_dlp.canary``."""

from __future__ import annotations

import sys

from .canaries import make_canary

if __name__ == "__main__":
    sys.stdout.write(f"{make_canary()}\n")

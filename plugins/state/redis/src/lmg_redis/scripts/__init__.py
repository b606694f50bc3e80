"""What runs within the server, and how it is called: by digest where the server knows it, else by its text."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Final

from ..connection import Argument, pack

__all__ = ["BEAT", "HOLD", "REMOVE", "STEP", "TALLY", "Script"]


class Script:
    """A Lua script. ``EVAL`` also teaches the server its digest, so that nobody needs the permission for ``SCRIPT``."""

    def __init__(self, *names: str) -> None:
        self.text = "\n".join((files(__name__) / f"{name}.lua").read_text() for name in names)
        # The protocol's own digest of a script, no safeguard.
        self.digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def packed(self, known: set[str], keys: list[bytes], arguments: list[Argument]) -> bytes:
        """The command that runs it."""
        if self.digest in known:
            return pack(("EVALSHA", self.digest, len(keys), *keys, *arguments))
        return pack(("EVAL", self.text, len(keys), *keys, *arguments))


STEP: Final = Script("bucket", "step")
HOLD: Final = Script("hold")
BEAT: Final = Script("beat")
TALLY: Final = Script("tally")
REMOVE: Final = Script("remove")

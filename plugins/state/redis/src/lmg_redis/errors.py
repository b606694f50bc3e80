"""Why the store did not answer, in words for the operator and a kind for the metric.

ServiceError
└── StoreError    a call failed; ``kind`` is its label in ``lmg_store_errors_total``
"""

from __future__ import annotations

import re
from typing import Final, Literal

from hiredis import ReplyError

from lmg import ServiceError

__all__ = ["Kind", "StoreError", "code_of", "refusal_of"]

Kind = Literal["timeout", "lost", "forgotten", "down", "full", "connect", "auth", "reply", "dropped"]

_CODE: Final = re.compile(r"[A-Z]{2,32}")
_REASONS: Final[dict[str, tuple[Kind, str]]] = {
    "WRONGPASS": ("auth", "the user or password is wrong"),
    "NOAUTH": ("auth", "the server asks for a password"),
    "NOPERM": (
        "auth",
        "the user may not run what is needed, or not on these keys: see the ACL in the README",
    ),
    "DENIED": ("auth", "the server is in protected mode"),
    "LOADING": ("reply", "the server is loading its data"),
    "READONLY": ("reply", "the server is a replica"),
    "MASTERDOWN": ("reply", "the server is a replica without its primary"),
    "NOREPLICAS": ("reply", "the server has too few replicas to write"),
    "MISCONF": ("reply", "the server cannot save and therefore does not write"),
    "OOM": ("reply", "the server is out of memory"),
    "BUSY": ("reply", "a script keeps the server busy"),
    "CLUSTERDOWN": ("reply", "the cluster is down"),
    "MOVED": (
        "reply",
        "the server is one node of a cluster and another has our keys: connect to a proxy of the cluster, or to one server",
    ),
    "WRONGTYPE": ("reply", "a key under our prefix is somebody else's"),
}
# Redis before 7 wraps what a command within a script answered: the code stands further in.
_WRAPPED: Final = re.compile(r"[-\s](READONLY|OOM|MISCONF|NOREPLICAS|NOPERM|WRONGTYPE)\b")
_DENIED: Final = ("can't run this command", "ACL failure")


class StoreError(ServiceError):
    """A call did not get what it asked for; the text names no key and no secret."""

    def __init__(self, kind: Kind, reason: str) -> None:
        super().__init__(f"redis: {reason}")
        self.kind = kind
        self.reason = reason


def code_of(reply: ReplyError) -> str:
    """The first word of an error reply: all of it that is surely nobody's text."""
    text = str(reply)
    code = text.partition(" ")[0]
    if code == "ERR":
        if wrapped := _WRAPPED.search(text):
            return wrapped[1]
        if any(words in text for words in _DENIED):
            return "NOPERM"
        if "AUTH" in text:
            return "NOPASS"
        if "max number of clients" in text:
            return "MAXCLIENTS"
    return code if _CODE.fullmatch(code) else "ERR"


def refusal_of(reply: ReplyError) -> StoreError:
    """What an error reply means."""
    code = code_of(reply)
    kind, reason = _REASONS.get(code, ("reply", "the server refused a command"))
    if code == "NOPASS":
        kind, reason = "auth", "the server knows no password for this user"
    elif code == "MAXCLIENTS":
        kind, reason = "reply", "the server has too many clients"
    return StoreError(kind, f"{reason} ({code})")

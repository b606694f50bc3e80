"""The kit that our own plugins, and yours, are made and tested with.

`Harness` runs a real gateway on loopback; `ScriptedUpstream` is an upstream that does exactly what it is told;
`VirtualClock` stands still until told; `lmg.testing.conformance` holds checks that take a factory and beat on
any component.
"""

from .clock import VirtualClock
from .conformance import (
    check_cancellation,
    check_component,
    check_failure_matrix,
    check_lifecycle,
    check_secrets,
    check_shadow,
)
from .counters import check_counter_store
from .gateway import ChatAnswer, Harness, RawClient
from .trace import Trace
from .upstream import Cut, Received, Script, ScriptedUpstream, Wait, chat_body, chat_events, sse

__all__ = [
    "ChatAnswer",
    "Cut",
    "Harness",
    "RawClient",
    "Received",
    "Script",
    "ScriptedUpstream",
    "Trace",
    "VirtualClock",
    "Wait",
    "chat_body",
    "chat_events",
    "check_cancellation",
    "check_component",
    "check_counter_store",
    "check_failure_matrix",
    "check_lifecycle",
    "check_secrets",
    "check_shadow",
    "sse",
]

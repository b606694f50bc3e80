"""Finds values in text and puts others in their place, in whole texts and in streams, with the same result.

The promise: the pieces that leave a stream, put together, are what the whole text would have become, however the text
was cut. A *detector* finds values that lie within one *run*: an unbroken stretch of its alphabet. What may still become
part of a value waits, from the earliest run that is open; the rest leaves at once. Nothing else is held back.

>>> emails = Patterns("A-Za-z0-9._%+@-", [Rule("email", r"[\\w.%+-]+@[\\w-]+(?:\\.[\\w-]+)+")], max_length=320)
>>> redactor = Redactor([emails], lambda found: f"[{found.name}]")
>>> redactor.whole("write to ada@acme.example today")
'write to [email] today'
>>> stream = redactor.stream()
>>> [stream.feed("write to ada@ac"), stream.feed("me.example today"), stream.finish()]
['write to ', '[email] ', 'today']
"""

from .detectors import Detector, Found, KnownValues, Patterns, Rule
from .stream import Redactor, TextStream

__all__ = ["Detector", "Found", "KnownValues", "Patterns", "Redactor", "Rule", "TextStream"]

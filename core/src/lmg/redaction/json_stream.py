"""Redaction inside JSON that comes in pieces: what is replaced is the text that a string means, and JSON is what leaves.

A tool's arguments are JSON: a value may stand in them with escapes (``\\u0040`` for ``@``), in a string or as a number. What is
not replaced keeps the bytes that it came with.
"""

from __future__ import annotations

import json
import re
from typing import Final

from .stream import Left, Redactor

__all__ = ["JsonStream"]

_PLAIN: Final = re.compile(r'[^"\\]+')
_SPACE: Final = re.compile(r"\s+")
_MARKS: Final = re.compile(r"[\[\]{},:]+")
_TOKEN: Final = re.compile(r'[^\s\[\]{},:"]+')
_LITERAL: Final = re.compile(
    r"-?[0-9]*\.?[0-9]*(?:[eE][+-]?[0-9]*)?|t(?:r(?:u(?:e)?)?)?|f(?:a(?:l(?:s(?:e)?)?)?)?|n(?:u(?:l(?:l)?)?)?"
)
_ESCAPES: Final = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
MAX_TOKEN: Final = 400


class JsonStream:
    """One JSON text on its way. What is no JSON is treated as plain text from there on: nothing passes unseen."""

    __slots__ = ("_escape", "_plain", "_raw", "_redactor", "_string", "_surrogate", "_text", "_token")

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._text = redactor.stream()
        self._string = False
        self._plain = False
        self._raw: list[str] = []
        """How each character that the string's stream holds was written."""
        self._escape = ""
        self._surrogate = ""
        """The first half of a pair (as it was written) whose second has not come."""
        self._token = ""

    def feed(self, piece: str) -> str:
        """What leaves after ``piece`` has come."""
        out: list[str] = []
        at, end = 0, len(piece)
        while at < end:
            if self._plain:
                out.append(self._text.feed(piece[at:]))
                break
            at = self._in_string(piece, at, out) if self._string else self._between(piece, at, out)
        return "".join(out)

    def finish(self) -> str:
        """What leaves when no more comes; of a string that was not closed, what it holds."""
        out: list[str] = []
        if self._plain:
            return self._text.finish()
        if self._string:
            self._close_string(out)
        else:
            self._close_token(out)
        return "".join(out)

    # -- strings --------------------------------------------------------------------------------
    def _in_string(self, piece: str, at: int, out: list[str]) -> int:
        if self._escape:
            return self._escaped(piece, at, out)
        if piece[at] == '"':
            self._close_string(out)
            self._string = False
            out.append('"')
            return at + 1
        if piece[at] == "\\":
            self._escape = "\\"
            return at + 1
        run = _PLAIN.match(piece, at)
        assert run is not None
        text = run.group()
        self._flush_surrogate(out)
        self._raw += text
        self._leave(self._text.step(text), out)
        return run.end()

    def _escaped(self, piece: str, at: int, out: list[str]) -> int:
        escape = self._escape = self._escape + piece[at]
        if escape[1] == "u":
            if len(escape) < 6:
                return at + 1
            try:
                self._meant(chr(int(escape[2:], 16)), escape, out)
            except ValueError:
                self._meant("\ufffd", escape, out)
        else:
            self._meant(_ESCAPES.get(escape[1], escape[1]), escape, out)
        self._escape = ""
        return at + 1

    def _meant(self, character: str, written: str, out: list[str]) -> None:
        """One escaped character; the halves of a surrogate pair are one."""
        if self._surrogate:
            first, second = int(self._surrogate[2:], 16), ord(character)
            if 0xDC00 <= second <= 0xDFFF:
                both, self._surrogate = self._surrogate + written, ""
                return self._put(chr(0x10000 + ((first - 0xD800) << 10) + second - 0xDC00), both, out)
            self._flush_surrogate(out)
        if "\ud800" <= character <= "\udbff":
            self._surrogate = written
            return None
        return self._put(character, written, out)

    def _flush_surrogate(self, out: list[str]) -> None:
        if self._surrogate:
            alone, self._surrogate = self._surrogate, ""
            self._put("\ufffd", alone, out)

    def _put(self, character: str, written: str, out: list[str]) -> None:
        self._raw.append(written)
        self._leave(self._text.step(character), out)

    def _close_string(self, out: list[str]) -> None:
        self._flush_surrogate(out)
        self._leave(self._text.step("", last=True), out)
        if self._escape:  # it was cut off
            out.append(self._escape)
            self._escape = ""
        self._text = self._redactor.stream()

    def _leave(self, parts: list[Left], out: list[str]) -> None:
        raw, at = self._raw, 0
        for came, text, replaced in parts:
            if replaced:
                out.append(json.dumps(text, ensure_ascii=False)[1:-1])
            else:
                out += raw[at : at + came]
            at += came
        if at:
            self._raw = raw[at:]

    # -- between strings ------------------------------------------------------------------------
    def _between(self, piece: str, at: int, out: list[str]) -> int:
        marks = _MARKS.match(piece, at)
        if marks is not None:
            self._close_token(out)
            out.append(marks.group())
            return marks.end()
        space = _SPACE.match(piece, at)
        if space is not None:
            if self._token:  # what follows tells whether that was a number, or the first word of a text
                self._token += space.group()
            else:
                out.append(space.group())
            return space.end()
        if piece[at] == '"' and not self._token:
            self._string = True
            out.append('"')
            return at + 1
        token = _TOKEN.match(piece, at)
        text = token.group() if token is not None else piece[at]
        self._token += text
        if len(self._token) > MAX_TOKEN or _LITERAL.fullmatch(self._token) is None:
            self._plain = True
            held, self._token = self._token, ""
            out.append(self._text.feed(held))
        return at + len(text)

    def _close_token(self, out: list[str]) -> None:
        """A number that is a value becomes a string: what replaces it is no number."""
        token, self._token = self._token, ""
        number = token.rstrip()
        if number:
            found = self._redactor.find(number) if len(number) > 3 else []
            out.append(json.dumps(self._redactor.whole(number), ensure_ascii=False) if found else number)
            out.append(token[len(number) :])

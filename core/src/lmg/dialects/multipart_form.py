"""Multipart forms, taken apart strictly: a body that two parsers could read in two ways is refused.

Source: RFC 7578 (multipart/form-data), RFC 2046 §5.1 (boundaries).
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from ..errors import Refusal

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

__all__ = ["FormPart", "MultipartForm", "parse_form", "quoted_boundary"]

MAX_PARTS: Final = 256
MAX_PART_HEADERS: Final = 8
MAX_HEADER_BYTES: Final = 4096

_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_VALUE: Final = rb"(?:\"[^\"\\]*\"|" + _TOKEN + rb")"
_PARAMETERS: Final = rb"((?:[ \t]*;[ \t]*[A-Za-z*]+=" + _VALUE + rb")*)"
_CONTENT_TYPE: Final = re.compile(rb"multipart/form-data" + _PARAMETERS, re.IGNORECASE)
_DISPOSITION: Final = re.compile(rb"form-data" + _PARAMETERS, re.IGNORECASE)
_PARAMETER: Final = re.compile(rb";[ \t]*([A-Za-z*]+)=(" + _VALUE + rb")")
_BOUNDARY: Final = re.compile(rb"(?!-+\Z)[0-9A-Za-z'()+_,./:=?-]{1,70}")
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}(?:\[[A-Za-z0-9_.-]{0,64}\])*")
_HEADER_VALUE: Final = re.compile(rb"[\t\x20-\x7e\x80-\xff]+")
_CHARSET: Final = re.compile(rb"charset[ \t]*=[ \t]*\"?([^\"; \t]*)", re.IGNORECASE)
_UTF8: Final = frozenset({b"utf-8", b"utf8", b"us-ascii", b"ascii"})
_PLAIN_ENCODINGS: Final = frozenset({b"binary", b"8bit", b"7bit"})

# What the parser would log quotes the body.
_SILENT: Final = logging.getLogger("lmg.multipart.silent")
_SILENT.disabled = True


@dataclass(frozen=True, slots=True)
class FormPart:
    """One part of a form; offsets are into the body. ``text`` is None where it is a file.

    ``begin`` is where the delimiter before it stands, ``start`` and ``end`` bound its content, ``length`` the value
    of its own ``Content-Length`` header, where it has one.
    """

    name: str
    begin: int
    start: int
    end: int
    text: str | None
    filename: str = ""
    media_type: str = ""
    length: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class MultipartForm:
    """A whole form; ``close`` is where its closing delimiter stands."""

    raw: bytes
    boundary: bytes
    parts: tuple[FormPart, ...]
    close: int


def quoted_boundary(boundary: bytes) -> bytes:
    """``boundary`` as a parameter of a Content-Type."""
    return boundary if re.fullmatch(_TOKEN, boundary) else b'"' + boundary + b'"'


def parse_form(raw: bytes, content_type: bytes) -> MultipartForm:
    """Takes ``raw`` apart, whose header said ``content_type``.

    Refused are a missing or doubtful boundary, anything before the first or behind the last delimiter, the boundary
    anywhere else in the body, nested multiparts, encoded parts, field names given twice (but for ``name[]``), and more
    than 256 parts.

    Raises:
        Refusal: 400, with the field in ``param`` where it is one field's fault.
    """
    boundary = _boundary(content_type)
    found = _Collector(raw)
    parser = MultipartParser(
        boundary, found.callbacks(), max_header_count=MAX_PART_HEADERS, max_header_size=MAX_HEADER_BYTES
    )
    parser.logger = _SILENT
    try:
        parser.write(raw)
    except FormParserError:
        raise _bad("The body is not a valid multipart form.") from None
    if not found.ended:
        raise _bad("The multipart form has no closing boundary.")
    delimiter = b"--" + boundary
    parts: list[FormPart] = []
    at = 0
    for part in found.parts:
        if not raw.startswith(delimiter + b"\r\n", at):
            raise _bad("The multipart form has a part that does not begin at its boundary.")
        parts.append(_part(raw, at, part))
        at = parts[-1].end + 2
    rest = raw[at : at + len(delimiter) + 4]
    if rest not in (delimiter + b"--", delimiter + b"--\r\n") or at + len(rest) != len(raw):
        raise _bad("The multipart form does not end at its closing boundary.")
    # Parsers differ in what may surround a boundary that is not quite one: there must be none.
    if raw.count(delimiter) != len(parts) + 1:
        raise _bad("The multipart form holds its boundary where none is due.")
    _check_names(parts)
    return MultipartForm(raw, boundary, tuple(parts), at)


def _boundary(content_type: bytes) -> bytes:
    match = _CONTENT_TYPE.fullmatch(content_type.strip())
    parameters = _parameters(match[1]) if match is not None else None
    if parameters is None or not set(parameters) <= {b"boundary", b"charset"}:
        raise _bad("The Content-Type must be 'multipart/form-data; boundary=…' and no more.")
    if parameters.get(b"charset", b"utf-8").lower() not in _UTF8:
        raise _bad("The multipart form must be sent as UTF-8.")
    boundary = parameters.get(b"boundary", b"")
    if not _BOUNDARY.fullmatch(boundary):
        raise _bad("The Content-Type has no boundary, or one that is not safe to use.")
    return boundary


def _parameters(text: bytes) -> dict[bytes, bytes] | None:
    """The parameters of a header, or None where one is given twice."""
    out: dict[bytes, bytes] = {}
    for name, value in _PARAMETER.findall(text):
        name = name.lower()
        if name in out:
            return None
        out[name] = value[1:-1] if value.startswith(b'"') else value
    return out


class _Found:
    """A part on its way: its headers with the place of each value, and its content."""

    __slots__ = ("content", "headers")

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, int, int]] = []
        self.content: tuple[int, int] | None = None


class _Collector:
    """Notes what the parser finds by its place: the body is given to it whole, so places are offsets into it."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._field = b""
        self._value = (0, 0)
        self.parts: list[_Found] = []
        self.ended = False

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._part_begin,
            "on_header_begin": self._header_begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_part_data": self._part_data,
            "on_end": self._end,
        }

    def _part_begin(self) -> None:
        if len(self.parts) == MAX_PARTS:
            raise _bad(f"The multipart form has more than {MAX_PARTS} parts.")
        self.parts.append(_Found())

    def _header_begin(self) -> None:
        self._value = (0, 0)

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._field = data[start:end].lower()

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value = (start, end)

    def _header_end(self) -> None:
        start, end = self._value
        if not _HEADER_VALUE.fullmatch(self._raw, start, end):
            raise _bad("The multipart form has a part with a header that is empty or not plain text.")
        self.parts[-1].headers.append((self._field, start, end))

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        before = self.parts[-1].content
        self.parts[-1].content = (start if before is None else before[0], end)

    def _end(self) -> None:
        self.ended = True


def _part(raw: bytes, begin: int, found: _Found) -> FormPart:
    headers: dict[bytes, tuple[int, int]] = {}
    for field, first, last in found.headers:
        if field in headers and field.startswith(b"content-"):
            raise _bad("The multipart form has a part with a header given twice.")
        headers[field] = (first, last)

    def header(name: bytes) -> bytes:
        first, last = headers.get(name, (0, 0))
        return raw[first:last].strip()

    name, filename = _disposition(header(b"content-disposition"))
    start = found.headers[-1][2] + 4
    end = start if found.content is None else found.content[1]
    if (found.content is not None and found.content[0] != start) or raw[end : end + 2] != b"\r\n":
        raise _bad("The multipart form has a part that does not end at its boundary.")
    media_type = header(b"content-type")
    if media_type.lower().startswith((b"multipart/", b"message/")):
        raise _bad(f"'{name}' is a form within the form, which is not taken.", name)
    if header(b"content-transfer-encoding").lower() not in (b"", *_PLAIN_ENCODINGS):
        raise _bad(f"'{name}' must be sent without a transfer encoding.", name)
    stated = header(b"content-length")
    if stated and stated != b"%d" % (end - start):
        raise _bad(f"'{name}' states another length than it has.", name)
    text: str | None = None
    if filename is None:
        text = _text(raw[start:end], media_type, name)
    return FormPart(
        name, begin, start, end, text, filename or "", media_type.decode("latin-1"),
        headers.get(b"content-length"),
    )  # fmt: skip


def _disposition(value: bytes) -> tuple[str, str | None]:
    """The field's name, and the file's, where it is one."""
    match = _DISPOSITION.fullmatch(value)
    parameters = _parameters(match[1]) if match is not None else None
    if parameters is None or not set(parameters) <= {b"name", b"filename", b"filename*"}:
        raise _bad("The multipart form has a part whose Content-Disposition is missing or doubtful.")
    name = parameters.get(b"name", b"").decode("latin-1")
    if not _NAME.fullmatch(name) or name == "_charset_":
        raise _bad("The multipart form has a part without a plain field name.")
    filename = parameters.get(b"filename")
    # Without a plain name, or with an empty one, some parsers take a file for a text.
    if filename == b"" or (filename is None and b"filename*" in parameters):
        raise _bad(f"'{name}' is a file without a plain file name.", name)
    return name, filename.decode("utf-8", "replace") if filename is not None else None


def _text(content: bytes, media_type: bytes, name: str) -> str:
    if any(charset.lower() not in _UTF8 for charset in _CHARSET.findall(media_type)):
        raise _bad(f"'{name}' must be sent as UTF-8.", name)
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise _bad(f"'{name}' is not valid UTF-8: a file needs a file name.", name) from None


def _check_names(parts: list[FormPart]) -> None:
    """No field twice, in whichever spelling: servers differ in which of two they take."""
    names: set[str] = set()
    bases: dict[str, str] = {}
    for part in parts:
        name, base = part.name, part.name.partition("[")[0]
        before = bases.setdefault(base.lower(), name)
        # Only members of one object or array share what stands before their brackets.
        alike = before == name or ("[" in before and name.startswith(before.partition("[")[0] + "["))
        if not alike or (name in names and not name.endswith("[]")):
            raise _bad(f"'{name}' is given more than once.", name)
        names.add(name)


def _bad(message: str, param: str | None = None) -> Refusal:
    return Refusal(400, "invalid_form", message, param=param)

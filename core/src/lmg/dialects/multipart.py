"""A multipart form as a document: read as JSON, edited by value, and spliced into the original bytes.

What no component changed leaves the gateway byte for byte as it came, with the boundary that the client chose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import orjson

from ..errors import Refusal
from ..jsontext import REMOVED, Json, JsonPath, JsonText
from .multipart_form import FormPart, MultipartForm, parse_form, quoted_boundary

__all__ = ["FORM", "MultipartText", "Upload"]

FORM: Final = b"multipart/form-data"


class Upload(dict[str, Json]):
    """What stands in a form's value for a file: its ``filename``, ``content_type`` and ``size``, never its content."""


@dataclass(frozen=True, slots=True)
class _Field:
    """One field as it will leave: a part as it came, a part with another text, or (without ``part``) a new one."""

    name: str
    part: FormPart | None
    text: str | None
    changed: bool = False


class MultipartText(JsonText):
    """An immutable form with the interface of ``JsonText``.

    ``value`` is an object of the fields: texts are strings, files are ``Upload``s, and fields named ``x[]`` are lists.
    Texts can be set, added and removed; a file can be removed, but not replaced.
    """

    __slots__ = ("_fields", "_form")

    def __init__(self, form: MultipartForm, fields: Sequence[_Field] | None = None) -> None:
        self._form = form
        self._fields = (
            tuple(fields)
            if fields is not None
            else tuple(_Field(part.name, part, part.text) for part in form.parts)
        )
        super().__init__(form.raw, _value(self._fields))

    @classmethod
    def read(cls, raw: bytes, content_type: bytes) -> MultipartText:
        """Reads ``raw`` strictly (see ``parse_form``)."""
        return cls(parse_form(raw, content_type))

    @property
    def content_type(self) -> bytes:
        """What the form must be sent as."""
        return FORM + b"; boundary=" + quoted_boundary(self._form.boundary)

    @property
    def edited(self) -> bool:
        return len(self._fields) != len(self._form.parts) or any(field.changed for field in self._fields)

    def _edit(self, path: JsonPath, value: object) -> MultipartText:
        """The form with ``value`` at ``path``.

        Raises:
            KeyError: there is no such place in a form.
            ValueError: the place holds a file.
        """
        name = path[0] if path else None
        if not isinstance(name, str) or len(path) > 2:
            raise KeyError(f"a form has no place {path}")
        fields = list(self._fields)
        places = [n for n, field in enumerate(fields) if field.name == name]
        if len(path) == 2:
            at = path[1]
            if not isinstance(at, int) or not name.endswith("[]"):
                raise KeyError(f"a form has no place {path}")
            fields[places[at]] = _changed(fields[places[at]], value)
        elif value is REMOVED or isinstance(value, list) or name.endswith("[]"):
            added = value if isinstance(value, list) else [] if value is REMOVED else [value]
            fields = [field for field in fields if field.name != name]
            fields += [_Field(name, None, _text(item), True) for item in added]
        elif places:
            fields[places[0]] = _changed(fields[places[0]], value)
        else:
            fields.append(_Field(name, None, _text(value), True))
        return MultipartText(self._form, fields)

    def render(self) -> bytes:
        """The form's bytes: the original ones, with each edit spliced in.

        Raises:
            Refusal: 400, the boundary stands in a text that was changed.
        """
        if not self.edited:
            return self.raw
        form = self._form
        raw = memoryview(form.raw)
        delimiter = b"--" + form.boundary
        ends = {part.begin: following for part, following in zip(form.parts, _following(form), strict=True)}
        out: list[bytes | memoryview] = []
        for field in self._fields:
            part, text = field.part, (field.text or "").encode()
            if field.changed and delimiter in text:
                raise Refusal(
                    400, "invalid_form", "The form's boundary stands in a text that the gateway has changed."
                )
            if part is None:
                name = field.name.encode()
                out += (
                    delimiter,
                    b'\r\nContent-Disposition: form-data; name="',
                    name,
                    b'"\r\n\r\n',
                    text,
                    b"\r\n",
                )
            elif not field.changed:
                out.append(raw[part.begin : ends[part.begin]])
            else:
                mark = part.begin
                if part.length is not None:
                    out += (raw[mark : part.length[0]], b"%d" % len(text))
                    mark = part.length[1]
                out += (raw[mark : part.start], text, raw[part.end : ends[part.begin]])
        out.append(raw[form.close :])
        return b"".join(out)


def _following(form: MultipartForm) -> list[int]:
    """Where the delimiter behind each part stands."""
    return [*(part.begin for part in form.parts[1:]), form.close]


def _changed(field: _Field, value: object) -> _Field:
    if field.text is None:
        raise ValueError(f"'{field.name}' is a file and cannot be replaced")
    return replace(field, text=_text(value), changed=True)


def _text(value: object) -> str:
    """A value as forms write it."""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _value(fields: Sequence[_Field]) -> Json:
    out: dict[str, Json] = {}
    for field in fields:
        part = field.part
        item: Json = field.text
        if field.text is None and part is not None:
            item = Upload(filename=part.filename, content_type=part.media_type, size=part.end - part.start)
        if field.name.endswith("[]"):
            items = out.setdefault(field.name, [])
            assert isinstance(items, list)
            items.append(item)
        else:
            out[field.name] = item
    return out

"""JSON that keeps its bytes: a strict read, edits as values, and a splice into the original text.

Fast parsers turn integers over 64 bits into floats and let duplicate keys pass, so a body is scanned
for both once. Whatever no component changed leaves the gateway byte for byte as it came.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import ClassVar, Final

import orjson

from .errors import MeshError

__all__ = ["REMOVED", "Json", "JsonPath", "JsonText", "JsonTextError", "strict_loads"]

Json = dict[str, "Json"] | list["Json"] | str | int | float | bool | None
JsonPath = tuple[str | int, ...]

MAX_DEPTH: Final = 128
MANY_VALUES: Final = 20_000
BYTES_PER_VALUE: Final = 16
_STRING: Final = re.compile(rb'"[^"]*+"')
_UNCOUNTED: Final = bytes(set(range(256)) - set(b'"{['))
_WS: Final = re.compile(r"[ \t\n\r]*")
_DECODER: Final = json.JSONDecoder()


class JsonTextError(MeshError):
    """The text is not JSON that the gateway forwards: ``code`` is stable, the message is safe."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class _Removed:
    __slots__ = ()

    def __repr__(self) -> str:
        return "REMOVED"


REMOVED: Final = _Removed()
"""The value of an edit that takes a member away."""


def strict_loads(raw: bytes, *, max_depth: int = MAX_DEPTH) -> Json:
    """The value of ``raw``, refused where parsers are known to disagree (RFC 8259 §4, §6, §8.2).

    Duplicate member names, NaN, numbers beyond a double, lone surrogates, invalid UTF-8 and deep
    nesting are errors. Integers beyond 64 bits are legal here: their digits survive in the bytes.

    Raises:
        JsonTextError: with a message that quotes nothing of the text.
    """
    allowed = MANY_VALUES + len(raw) // BYTES_PER_VALUE
    # An empty object takes memory for thirty times its bytes, and so does a small one.
    if raw.count(b"{") + raw.count(b"[") > allowed and _containers(raw) > allowed:
        raise JsonTextError("json_too_many_values", "The body has too many objects and arrays for its size.")
    try:
        value: Json = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise JsonTextError(
            "invalid_json", f"The body is not valid JSON: {error.msg} (line {error.lineno})."
        ) from None
    # What is written again exactly as it came has lost nothing, so it had no member name twice; brackets bound its depth.
    if raw.count(b"{") + raw.count(b"[") <= max_depth and orjson.dumps(value) == raw:
        return value
    strings = 0
    level: list[Json] = [value]
    depth = 0
    while level:
        depth += 1
        if depth > max_depth:
            raise JsonTextError("json_too_deep", f"The body is nested more than {max_depth} levels deep.")
        below: list[Json] = []
        for item in level:
            kind = type(item)
            if kind is dict:
                strings += len(item)  # type: ignore[arg-type]
                below.extend(item.values())  # type: ignore[union-attr]
            elif kind is list:
                below.extend(item)  # type: ignore[arg-type]
            elif kind is str:
                strings += 1
        level = below
    quotes = raw.count(b'"')
    if b"\\" in raw:
        # Backslashes stand only inside strings, so pairs can be taken out from the left.
        quotes -= raw.replace(b"\\\\", b"").count(b'\\"')
    # A parser that kept the last of two equal names lost the strings of the first.
    if quotes != 2 * strings:
        raise JsonTextError("duplicate_key", "The body has an object with the same member name twice.")
    return value


def _containers(raw: bytes) -> int:
    """How many objects and arrays ``raw`` begins, outside its strings."""
    if b"\\" in raw:
        raw = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    # Two quotes side by side change nothing about what stands inside a string and what does not.
    marks = raw.translate(None, _UNCOUNTED).replace(b'""', b"")
    marks = _STRING.sub(b"", marks)
    return len(marks) - marks.count(b'"')


class JsonText:
    """An immutable JSON document: the bytes as they came, the value, and the edits made since.

    ``value`` must not be changed in place; ``set`` and ``remove`` give a new document and leave this
    one as it was, which is how edits are staged, dropped and scoped to one attempt.
    """

    __slots__ = ("_added", "_edits", "raw", "value")
    replayable: ClassVar[bool] = True
    """Whether a whole answer of this kind can be told as events."""

    @property
    def content_type(self) -> bytes:
        """What the document is sent as."""
        return b"application/json"

    def __init__(
        self,
        raw: bytes,
        value: Json,
        edits: Mapping[JsonPath, object] | None = None,
        added: frozenset[JsonPath] = frozenset(),
    ) -> None:
        self.raw = raw
        self.value = value
        self._edits: Mapping[JsonPath, object] = edits or {}
        self._added = added  # top-level members that ``raw`` does not have

    @classmethod
    def parse(cls, raw: bytes, *, max_depth: int = MAX_DEPTH) -> JsonText:
        """Reads ``raw`` strictly (see ``strict_loads``)."""
        return cls(raw, strict_loads(raw, max_depth=max_depth))

    @classmethod
    def of(cls, value: Json) -> JsonText:
        """The document that ``value`` is, in its plainest form."""
        return cls(_dump(value).encode(), value)

    @property
    def edited(self) -> bool:
        """Whether ``render`` differs from ``raw``."""
        return bool(self._edits)

    def get(self, *path: str | int) -> Json:
        """The value at ``path``, or None where there is none."""
        value = self.value
        for key in path:
            if isinstance(key, str):
                if type(value) is not dict:
                    return None
                value = value.get(key)
            else:
                if type(value) is not list or not -len(value) <= key < len(value):
                    return None
                value = value[key]
        return value

    def set(self, path: JsonPath, value: Json) -> JsonText:
        """A document with ``value`` at ``path``; missing object members are added at the end."""
        return self._edit(path, value)

    def remove(self, path: JsonPath) -> JsonText:
        """A document without the member at ``path``; the same document where there is none."""
        parent = self.get(*path[:-1])
        if type(parent) is not dict or path[-1] not in parent:
            return self
        return self._edit(path, REMOVED)

    def _edit(self, path: JsonPath, value: object) -> JsonText:
        if not path:
            raise ValueError("an edit needs a path; a whole document is a new JsonText")
        path = self._counted(path)
        edits = dict(self._edits)
        changed = _with(self.value, path, value)
        # An edit inside something already replaced or removed goes into the replacement.
        for n in range(len(path) - 1, 0, -1):
            above = path[:n]
            if above in edits:
                removed = edits[above] is REMOVED
                edits[above] = _with({} if removed else edits[above], path[n:], value)
                return JsonText(self.raw, changed, edits, self._added)
        added = self._added
        if len(path) == 1 and path not in edits and type(self.value) is dict and path[0] not in self.value:
            added |= {path}
        for other in [p for p in edits if len(p) > len(path) and p[: len(path)] == path]:
            del edits[other]
        edits[path] = value
        return JsonText(self.raw, changed, edits, added)

    def _counted(self, path: JsonPath) -> JsonPath:
        """``path`` with items that are counted from the end counted from the start."""
        if not any(type(key) is int and key < 0 for key in path):
            return path
        out: list[str | int] = []
        for key in path:
            above = self.get(*out)
            out.append(key + len(above) if isinstance(key, int) and key < 0 and type(above) is list else key)
        return tuple(out)

    def render(self) -> bytes:
        """The document's bytes: the original ones with each edit spliced in."""
        if not self._edits:
            return self.raw
        edits = dict(self._edits)
        raw = self.raw
        appended: list[bytes] = []
        # New top-level members need no search: they go before the closing brace.
        for path in [p for p in edits if p in self._added]:
            new = edits.pop(path)
            if new is not REMOVED:
                appended.append(orjson.dumps(path[0]) + b":" + _dump(new).encode())
        if edits:
            raw = _splice(raw.decode(), edits).encode()
        if appended:
            body = raw.rstrip()[:-1].rstrip()
            comma = b"" if body.endswith(b"{") else b","
            raw = body + comma + b",".join(appended) + b"}"
        return raw


def _with(value: object, path: JsonPath, new: object) -> Json:
    """A copy of ``value`` along ``path`` only; everything beside it is shared."""
    key, rest = path[0], path[1:]
    if isinstance(key, str):
        if type(value) is not dict:
            raise KeyError(f"no object at {key!r}")
        copy = dict(value)
        if rest:
            copy[key] = _with(copy.get(key, {}), rest, new)
        elif new is REMOVED:
            copy.pop(key, None)
        else:
            copy[key] = new
        return copy
    if type(value) is not list:
        raise KeyError(f"no array at {key!r}")
    items = list(value)
    items[key] = _with(items[key], rest, new) if rest else new
    return items


def _tree(edits: Mapping[JsonPath, object]) -> dict[str | int, object]:
    """Edits as nested dictionaries whose leaves are one-tuples."""
    root: dict[str | int, object] = {}
    for path, value in edits.items():
        node = root
        for key in path[:-1]:
            node = node.setdefault(key, {})  # type: ignore[assignment]
        node[path[-1]] = (value,)
    return root


def _splice(text: str, edits: Mapping[JsonPath, object]) -> str:
    out: list[str] = []
    done = _Splicer(text, out).value(_WS.match(text, 0).end(), _tree(edits), 0)  # type: ignore[union-attr]
    out.append(text[done:])
    return "".join(out)


class _Splicer:
    """Walks the text once; ``mark`` is how far it has been copied out."""

    def __init__(self, text: str, out: list[str]) -> None:
        self.text, self.out = text, out

    def value(self, at: int, edits: object, mark: int) -> int:
        """Handles the value that starts at ``at``; returns how far the text has been copied out."""
        if isinstance(edits, tuple):
            self.out.append(self.text[mark:at])
            self.out.append(_dump(edits[0]))
            return self.skip(at)
        assert isinstance(edits, dict)
        if self.text[at] == "{":
            return self._object(at, edits, mark)
        return self._array(at, edits, mark)

    def skip(self, at: int) -> int:
        if self.text[at] == '"':
            return int(scanstring(self.text, at + 1, False)[1])
        return _DECODER.raw_decode(self.text, at)[1]

    def space(self, at: int) -> int:
        return _WS.match(self.text, at).end()  # type: ignore[union-attr]

    def _object(self, at: int, edits: dict[str | int, object], mark: int) -> int:
        text, out = self.text, self.out
        left = dict(edits)
        kept = 0
        at = self.space(at + 1)
        start = at
        while text[at] != "}":
            key, colon = scanstring(text, at + 1, False)
            begin = self.space(self.space(colon) + 1)
            edit = left.pop(key, None)
            if edit is None:
                at = self.skip(begin)
                kept += 1
            elif isinstance(edit, tuple) and edit[0] is REMOVED:
                end = self.space(self.skip(begin))
                if text[end] == ",":
                    out.append(text[mark:start])
                    mark = start = at = self.space(end + 1)
                    continue
                # The last member: the comma before it goes too, where something stands before it.
                head = text[mark:start].rstrip()
                out.append(head[:-1] if kept and head.endswith(",") else head)
                if kept and not head:
                    _drop_comma(out)
                mark = at = end
                break
            else:
                kept += 1
                mark = self.value(begin, edit, mark)
                at = mark
            at = self.space(at)
            if text[at] == ",":
                at = start = self.space(at + 1)
        new = {k: v for k, v in left.items() if not (isinstance(v, tuple) and v[0] is REMOVED)}
        if new:
            out.append(text[mark:at].rstrip())
            for key, edit in new.items():
                out.append((", " if kept else "") + json.dumps(key) + ": " + _dump(_value_of(edit)))
                kept += 1
            mark = at
        out.append(text[mark : at + 1])
        return at + 1

    def _array(self, at: int, edits: dict[str | int, object], mark: int) -> int:
        text = self.text
        at = self.space(at + 1)
        index = 0
        while text[at] != "]":
            edit = edits.get(index)
            if edit is None:
                at = self.skip(at)
            else:
                at = mark = self.value(at, edit, mark)
            at = self.space(at)
            if text[at] == ",":
                at = self.space(at + 1)
            index += 1
        self.out.append(text[mark : at + 1])
        return at + 1


def _drop_comma(out: list[str]) -> None:
    while out and not out[-1].strip():
        out.pop()
    if out and out[-1].rstrip().endswith(","):
        out[-1] = out[-1].rstrip()[:-1]


def _value_of(edit: object) -> object:
    """The value that a subtree of edits stands for where the text has nothing yet."""
    if isinstance(edit, tuple):
        return edit[0]
    assert isinstance(edit, dict)
    return {str(k): _value_of(v) for k, v in edit.items() if v != (REMOVED,)}


def _dump(value: object) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # an integer beyond 64 bits
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))

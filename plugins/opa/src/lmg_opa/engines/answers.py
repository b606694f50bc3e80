"""A ruling of what an engine answered, each rule asked for by itself: what is not of its type is no answer."""

from __future__ import annotations

from lmg.jsontext import Json

from ..engine import Ruling, Undecided

__all__ = ["ruling"]


def ruling(allow: object, reasons: object, obligations: object) -> Ruling:
    """A ruling of three answers; None is undefined. Of ``reasons`` and ``obligations`` only the one that counts is read.

    Raises:
        Undecided: an answer is not of its type.
    """
    if allow is None:
        raise Undecided("undefined", "allow is undefined")
    if allow is True:
        if obligations is None:
            return Ruling(True)
        if not isinstance(obligations, dict):
            raise Undecided("malformed", "obligations is not an object")
        return Ruling(True, obligations=_plain_object(obligations))
    if allow is not False:
        raise Undecided("malformed", "allow is not a boolean")
    if reasons is None:
        return Ruling(False)
    if not isinstance(reasons, list | set) or not all(isinstance(code, str) for code in reasons):
        raise Undecided("malformed", "reasons is not a set of strings")
    return Ruling(False, tuple(sorted(reasons)))


def _plain_object(value: dict[object, object]) -> dict[str, Json]:
    plain = _plain(value)
    assert isinstance(plain, dict)
    return plain


def _plain(value: object) -> Json:
    """JSON as it would be written: sets are sorted lists. A key that is no string could stand there twice."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise Undecided("malformed", "obligations has a key that is not a string")
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return [_plain(item) for item in sorted(value, key=lambda item: (type(item).__name__, item))]
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    raise Undecided("malformed", "obligations holds what JSON does not")

"""Secrets that only their surroundings tell: ``password = "…"``, ``api_key: …``, ``Authorization: Bearer …``, ``my key is …``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from lmg.redaction import Found

from .checks import entropy, looks_made_up, mixed
from .openers import trie

__all__ = ["ASSIGNMENTS", "Assignments"]

_API_KEYS: Final = ("apikey", "api_key", "api-key", "api key")
_PASSWORDS: Final = (
    "pass", "pwd", "kennwort", "contrase", "senha", "mot de passe", "密码", "口令", "пароль", "パスワード",
)  # fmt: skip
_KEYS: Final = (
    "secret", "token", "key", *_API_KEYS, "credential", "authorization", "bearer", "密钥", "令牌", "clave", "chave", "clé",
)  # fmt: skip
_EQUALS: Final = "is|ist|es|est|é|lautet|это"
_WORD: Final = rf" (?!(?:{_EQUALS})\b)[A-Za-z]{{1,12}}"
_PIECES: Final = (
    ("[A-Za-zñ0-9_-]{0,24}+", "[A-Za-zñ0-9_-]{0,24}+"),
    (r"[\"'\])}`*]{0,3}+", r"[\"'\])}`*]{0,3}+"),
    (rf"(?:{_WORD}(?=[\s:=])){{0,3}}+", rf"(?:{_WORD}){{0,3}}+"),  # … for the database is
    ("[ \t]{0,8}+", "[ \t]{0,8}+"),
    (rf"(?P<sep>(?>[:=]?=|:|\uff1a|=>|->|(?:{_EQUALS})(?=[\s:])|是|为|は|))", r"(?:[:=]?=|:|\uff1a|=>|->?|is?t?|es?t?|é|l[aute]{0,5}|э[то]{0,2}|是|为|は)?"),
    (":?[ \t]{0,8}+", ":?[ \t]{0,8}+"),
    (r"[\\]?[\"'`*(]{0,3}+", r"[\\]?[\"'`*(]{0,3}+"),
    ("(?>(?:bearer|basic|token|ssws) )?", "(?:be?a?r?e?r?|ba?s?i?c?|to?k?e?n?|ss?w?s?)? ?"),
)  # fmt: skip
"""What stands between the keyword and the value, in order; beside each, every beginning of it."""

_STOP: Final = re.compile(r"[\s\"'`\\<>,;]")
_SCHEMES: Final = ("bearer", "authorization")
MIN_VALUE: Final = 6
MAX_VALUE: Final = 1200
_LIMIT: Final = 1300
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_NO_KEY: Final = re.compile(r"sha[0-9]+[-:]|AAAA|ssh-|pk_|cus_|ORD-|data:|[a-z0-9+]{2,24}://|[./~]")
_SIGN: Final = re.compile(r"[!@#$%^&*]")
_HEX: Final = re.compile(r"[0-9a-fA-F]{32,}")
_CODE: Final = re.compile(r"[$%@{\[(&#]|[A-Za-z_][\w.]*[(\[]|[A-Z][A-Z_]+$|[a-z_]+(?:\.[a-z_]+)+$")
_ASCII_LOWER: Final = {n: n + 32 for n in range(65, 91)}


class Assignments:
    """A keyword, a sign or word of equality, and a value that is no word, no placeholder and no reference.

    What is found begins with the keyword, so that a stream that is cut between keyword and value hides it all the same;
    ``split`` tells where the value begins.
    """

    name = "assigned_secret"
    max_length = _LIMIT

    def __init__(self) -> None:
        words = (*_PASSWORDS, *_KEYS)
        self._scan = re.compile(trie(words))
        self._beginnings = {word[:n] for word in words for n in range(1, len(word))}
        self._firsts = {word[0] for word in words}
        self._longest = max(map(len, words))
        head = "(?:" + "|".join(map(re.escape, words)) + ")"
        self._intro = re.compile(head + "".join(whole for whole, _ in _PIECES), re.IGNORECASE)
        self._open = re.compile(rf"{head}{''.join(begun for _, begun in _PIECES)}\Z", re.IGNORECASE)

    def last_run(self, text: str) -> int:
        """Where the earliest keyword begins whose value may not be complete yet."""
        end = len(text)
        low = _lower(text)
        at = max(0, end - _LIMIT)
        stop = _STOP.search(text[: at - 1 : -1] if at else text[::-1])
        tail = end - stop.start() if stop is not None else at  # no value goes on that begins before
        begins = end
        while (opener := self._scan.search(low, at)) is not None:
            at = opener.start()
            intro = self._intro.match(text, at)
            if self._open.match(text, at) is not None or (
                intro is not None and tail <= intro.end() and end - intro.end() <= MAX_VALUE
            ):
                begins = at
                break
            at += 1
        for at in range(max(0, end - self._longest), begins):
            if low[at] in self._firsts and low[at:] in self._beginnings:
                return at
        return begins

    def run_end(self, text: str, start: int) -> int:
        return start  # values are bounded, so no run is ever too long

    def lives(self, text: str, start: int) -> bool:
        return True

    def find(self, text: str, start: int, end: int) -> Iterator[Found]:
        low = _lower(text)
        at = start
        value_begin = value_end = -1  # where the last value was looked for, and what ended it
        while (opener := self._scan.search(low, at)) is not None and opener.start() < end:
            at = opener.start()
            intro = self._intro.match(text, at)
            if intro is not None:
                if not value_begin <= intro.end() < value_end:
                    value_begin = intro.end()
                    stopped = _STOP.search(text, value_begin)
                    value_end = stopped.start() if stopped is not None else len(text)
                length = value_end - intro.end()
                # A sign or a word says that it is the value; on a command line (`--password …`) a space does.
                told = intro["sep"] or opener.group() in _SCHEMES or text[max(0, at - 1) : at] == "-"
                if MIN_VALUE <= length <= MAX_VALUE:
                    value = text[intro.end() : value_end].rstrip(".:)]}*|?")
                    told = told or (mixed(value) and _SIGN.search(value) is not None)
                    kind = _kind(low[at : intro.end()], opener.group(), value) if told else ""
                    if kind:
                        yield Found(at, intro.end() + len(value), kind, text[at : intro.end() + len(value)])
            at += 1

    def split(self, found: str) -> tuple[str, str]:
        """What stands before the value, and what is the secret (and what may follow it)."""
        intro = self._intro.match(found)
        return ("", found) if intro is None else (found[: intro.end()], found[intro.end() :])


def _lower(text: str) -> str:
    low = text.lower()
    return low if len(low) == len(text) else text.translate(_ASCII_LOWER)


def _kind(before: str, keyword: str, value: str) -> str:
    """The kind of the value that the keyword introduces, or nothing where it is no secret."""
    if len(value) < MIN_VALUE or looks_made_up(value) or _CODE.match(value):
        return ""
    password = keyword in _PASSWORDS
    if password:
        return "password" if _hard_to_guess(value) else ""
    if "basic " in before and len(value) >= 12 and not value.isalpha():
        return "basic_auth"
    if (
        keyword in ("secret", "credential")
        and 10 <= len(value) < 16
        and mixed(value)
        and not _NO_KEY.match(value)
    ):
        return "assigned_secret"
    digits = sum(one.isdigit() for one in value)
    if len(value) < 16 or not digits or digits == len(value) or _NO_KEY.match(value):
        return ""
    if _UUID.fullmatch(value):  # an identifier, but for where it is said to be more
        return "assigned_secret" if keyword == "secret" or keyword in _API_KEYS else ""
    if keyword in ("key", "clave", "chave", "clé") and not (mixed(value) or _HEX.fullmatch(value)):
        return ""
    if entropy(value) < 3.0:
        return ""
    return "bearer_token" if keyword in _SCHEMES else "assigned_secret"


def _hard_to_guess(value: str) -> bool:
    """Whether it is made like a password: letters and digits, or letters of both cases and signs."""
    letters = [one for one in value if one.isalpha()]
    if any(one.isdigit() for one in value):
        return bool(letters)
    signs = any(not one.isalnum() and one not in "-_./" for one in value)
    return signs and len({one.isupper() for one in letters}) == 2


ASSIGNMENTS: Final = Assignments()

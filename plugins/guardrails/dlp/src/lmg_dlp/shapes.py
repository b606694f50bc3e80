"""Kinds of tokens without a beginning of their own: told by their shape."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from lmg.redaction import Found, Patterns, Rule

from .checks import entropy, looks_made_up, mixed

__all__ = ["SHAPES", "TELEGRAM", "Shapes"]

_PUBLIC: Final = (
    "acct", "asst", "batch", "call", "card", "ch", "chatcmpl", "cmpl", "cs", "cus", "evt", "file", "fc", "ft", "gen", "id", "in", "item",
    "msg", "ord", "pi", "pk", "pm", "price", "prod", "req", "resp", "rs", "run", "seti", "sha1", "sha256", "sha384", "sha512", "step", "sub",
    "thread", "toolu", "trace", "tx", "usr", "user", "vs", "webpack", "ws", "chunk", "main", "index", "app", "vendor", "css", "js", "pmc",
    "foo", "bar", "sk",
)  # fmt: skip
"""Beginnings of identifiers that are no secrets: of objects of APIs, of digests, of built files."""


class Shapes(Patterns):
    """Rules for whole runs of at least ``shortest`` characters; ``may`` matches whatever may still become one."""

    def __init__(self, alphabet: str, rules: list[Rule], *, shortest: int, max_length: int, may: str) -> None:
        super().__init__(alphabet, rules, max_length=max_length)
        self._whole = [(rule, re.compile(rule.pattern)) for rule in rules]
        self._enough = re.compile(
            f"(?<![{alphabet}])[{alphabet}]{{{shortest},{max_length}}}+(?![{alphabet}])"
        )
        self._may = re.compile(rf"(?:{may})\Z")

    def lives(self, text: str, start: int) -> bool:
        return len(text) - start <= self.max_length and self._may.match(text, start) is not None

    def find(self, text: str, start: int, end: int) -> Iterator[Found]:
        for run in self._enough.finditer(text, start, end):
            value = run.group()
            stripped = value.rstrip(".-:")  # the end of a sentence is no part of it
            for rule, pattern in self._whole:
                if pattern.fullmatch(stripped) and (rule.check is None or rule.check(stripped)):
                    yield Found(run.start(), run.start() + len(stripped), rule.name, stripped)
                    break


def _unknown_vendor(token: str) -> bool:
    head, _, _ = token.replace("-", "_").partition("_")
    last = re.split("[_-]", token)[-1]
    return head not in _PUBLIC and mixed(last) and entropy(last) >= 3.7 and not looks_made_up(token)


def _real(token: str) -> bool:
    return not looks_made_up(token)


SHAPES: Final = Shapes(
    "A-Za-z0-9_.~-",
    [
        Rule("mailchimp_key", r"[0-9a-f]{32}-us[0-9]{1,2}"),
        Rule("discord_token", r"[MNO][A-Za-z0-9_-]{23,25}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,38}", mixed),
        Rule("azure_client_secret", r"[A-Za-z0-9_~.-]{3}[0-9]Q~[A-Za-z0-9_~.-]{31,34}", _real),
        Rule("terraform_token", r"[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_=-]{60,70}", _real),
        Rule("azure_devops_token", r"[A-Za-z0-9]{76}AZDO[A-Za-z0-9]{4}", _real),
        Rule("unknown_token", r"[a-z][a-z0-9]{1,11}[_-](?:[a-z0-9]{2,8}[_-]){0,2}[A-Za-z0-9]{24,80}", _unknown_vendor),
    ],
    shortest=28,
    max_length=120,
    may=r"[0-9a-f]{0,32}|[0-9a-f]{32}-(?:u(?:s[0-9]{0,2})?)?[.:-]?|[MNO][A-Za-z0-9_-]{0,25}(?:\.[A-Za-z0-9_-]{0,6}(?:\.[A-Za-z0-9_-]{0,40}[.:]?)?)?|"
    r"[A-Za-z0-9_~.-]{0,4}|[A-Za-z0-9_~.-]{3}[0-9]Q(?:~[A-Za-z0-9_~.-]{0,36})?|[A-Za-z0-9]{0,14}|[A-Za-z0-9]{14}\.[a-z0-9]{0,7}(?:\..{0,72})?|"
    r"[A-Za-z0-9]{0,84}[.:-]?|[a-z][a-z0-9]{0,11}(?:[_-][a-z0-9]{0,8}){0,2}[A-Za-z0-9]{0,80}[.:-]?|"
    r"[a-z][a-z0-9]{0,11}(?:[_-][a-z0-9]{0,8}){0,2}[_-][A-Za-z0-9]{0,80}[.:-]?",
)  # fmt: skip
"""Each stands alone between characters that are none of its own."""


TELEGRAM: Final = Shapes(
    "A-Za-z0-9_:-",
    [Rule("telegram_token", r"[0-9]{8,10}:[A-Za-z0-9_-]{35}", mixed)],
    shortest=44,
    max_length=64,
    may=r"[0-9]{1,10}(?::[A-Za-z0-9_-]{0,35}[:-]?)?",
)
"""Of its own, for the colon, at which other tokens end."""

"""Addresses: with a password in them, and as channels through which an answer carries data out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final
from urllib.parse import unquote_plus, urlsplit

from lmg.records import fits
from lmg.redaction import Found

from .checks import decoded, entropy, looks_made_up, mixed
from .tokens import TOKENS

__all__ = ["EXFILTRATION", "SUSPICIOUS", "Links"]

EXFILTRATION: Final = "exfiltration"
"""An image, which is fetched without anybody's doing, or a link, that carries data which can be told to be data."""
SUSPICIOUS: Final = "suspicious_link"
"""A link, which somebody would have to follow, with something at random in it."""

_SCHEMES: Final = (
    "https", "http", "wss", "ws", "ftps", "ftp", "sftp", "ssh", "git", "postgresql", "postgres", "mysql", "mariadb", "mongodb", "rediss",
    "redis", "amqps", "amqp", "mssql", "sqlserver", "oracle", "clickhouse", "cockroachdb", "snowflake", "neo4j", "bolt", "couchbase", "couchdb",
    "ldaps", "ldap", "smtps", "smtp", "imaps", "imap", "mqtts", "mqtt", "kafka", "nats", "jdbc", "db2", "elasticsearch", "memcached", "s3",
)  # fmt: skip
_NAMES: Final = "|".join(_SCHEMES)
_START: Final = re.compile(r"://|!\[|\]\(\s{0,4}//|<img\b", re.IGNORECASE)
_SCHEME: Final = re.compile(
    rf"\b(?:{_NAMES})(?:\+[a-z0-9_]{{1,12}})?(?::[a-z0-9]{{2,12}})?\Z", re.IGNORECASE | re.ASCII
)
_WIDEST_SCHEME: Final = 40
_OUTSIDE: Final = re.compile(r"[\s\"'<>`\\|{}^)\]]")
_HOST6: Final = re.compile(r"\[[0-9A-Fa-f:.%]{2,50}(?:\]|\Z)")
_HALF: Final = re.compile(
    rf"(?:(?:\b(?:{_NAMES})(?:\+[a-z0-9_]{{0,12}})?(?::(?:[a-z0-9]{{0,12}}:?)?/?)?)|!|\](?:\(\s{{0,4}}/?)?|<(?:i(?:mg?)?)?)\Z",
    re.IGNORECASE | re.ASCII,
)
_IMAGE: Final = re.compile(r"!\[[^\[\]\n]{0,200}+\](?:\(\s{0,4}<?(?P<url>[^\s()<>]{0,2000})|\[)?")
_IMAGE_OPEN: Final = re.compile(r"!\[[^\[\]\n]{0,200}+(?:\](?:\(\s{0,4}<?(?:[^\s()<>]{0,2000})?)?)?\Z")
_TAG: Final = re.compile(r"<img\b[^<>]{0,2000}>?", re.IGNORECASE)
_SRC: Final = re.compile(r"src\s*+=\s*+[\"']?\s*+([^\s\"'>]+)", re.IGNORECASE)
_EMAIL: Final = re.compile(r"[A-Za-z0-9._+-]{2,}@[A-Za-z0-9-]+\.[A-Za-z]{2,}")
_ACCOUNT: Final = re.compile(
    r"[0-9](?:[ -]?[0-9]){12,18}|[0-9]{3}-[0-9]{2}-[0-9]{4}|[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}"
)
_PACKED: Final = re.compile(r"[A-Za-z0-9+/=_-]+")
_HEX: Final = re.compile(r"[0-9a-fA-F]+")
_FILE: Final = re.compile(r"\.[a-z0-9]{2,5}\Z", re.IGNORECASE)
_CREDENTIAL: Final = re.compile(
    r"[a-z0-9+:]+://(?P<user>[^/?#@\s:]{0,128}):(?P<password>[^/?#@\s]{1,200})@[^\s]", re.IGNORECASE
)
_FETCHED: Final = re.compile(r"(?:(?:https?|wss?|ftps?):)?//", re.IGNORECASE)
_HOOK: Final = re.compile(
    r"https://(?:hooks\.slack\.com/(?:services|workflows|triggers)/[A-Z0-9]{6,}/[\w/-]{12,}|(?:ptb\.|canary\.)?discord(?:app)?\.com/api/webhooks/\d+/[\w-]{40,}|"
    r"[\w.-]+\.webhook\.office\.com/webhookb2/[\w@/-]{30,}|api\.telegram\.org/bot\d{8,10}:[\w-]{35})"
)
_SIGNED: Final = re.compile(r"[?&](?:sig|X-Amz-Signature|X-Goog-Signature|Signature)=[A-Za-z0-9%+/=_-]{30,}")
_NESTED: Final = "=&/?#%._-+~@"
"""Before an address that stands within another one; `=` also before one that is assigned."""
_NO_PASSWORD: Final = frozenset({
    "password", "pass", "passwd", "pwd", "pw", "p", "secret", "token", "user", "root", "postgres", "admin", "test", "guest",
})  # fmt: skip
"""What stands for a password in documentation."""
_WEB: Final = re.compile(r"(?:https?|wss?|ftps?|sftp|ssh|git)\b", re.IGNORECASE)


class Links:
    """What is found begins where the address, or the image that holds it, begins.

    ``guard`` looks for data on its way out, to hosts that ``allowed`` (patterns with ``*``) does not name; without it only
    addresses that are secrets themselves are found.
    """

    name = EXFILTRATION
    max_length = 2300

    def __init__(self, *, guard: bool = False, allowed: Sequence[str] = (), data_chars: int = 24) -> None:
        self._guard = guard
        self._allowed = tuple(one.lower() for one in allowed)
        self._data_chars = data_chars

    def last_run(self, text: str) -> int:
        """Where the earliest address begins that has not ended."""
        end = len(text)
        at = max(0, end - self.max_length - 1)
        while (start := _START.search(text, at)) is not None:
            begin = _begin(text, start)
            if begin >= 0 and self._open(text, start, begin):
                return begin
            at = start.start() + 1
        return _half(text)

    def run_end(self, text: str, start: int) -> int:
        outside = _OUTSIDE.search(text, start)
        return outside.start() if outside is not None else len(text)

    def lives(self, text: str, start: int) -> bool:
        return True

    def find(self, text: str, start: int, end: int) -> Iterator[Found]:
        at, channelled = start, -1
        while (opener := _START.search(text, at)) is not None:
            at = opener.start() + 1
            begin = _begin(text, opener)
            if begin < start:
                continue
            if begin >= end:
                return
            found = self._judge(text, opener, begin, channelled)
            if found is not None:
                if found.name == EXFILTRATION:
                    channelled = found.end
                yield found

    def _open(self, text: str, opener: re.Match[str], begin: int) -> bool:
        if opener.group() == "![":
            return _IMAGE_OPEN.match(text, begin) is not None
        if opener.group()[0] == "<":
            tag = _TAG.match(text, begin)
            return tag is not None and tag.end() == len(text) and not tag.group().endswith(">")
        return (
            len(text) - begin <= self.max_length
            and _OUTSIDE.search(text, _behind_host6(text, opener)) is None
        )

    def _judge(self, text: str, opener: re.Match[str], begin: int, channelled: int) -> Found | None:
        """What begins at ``begin``. An address within one that is a channel, up to ``channelled``, is not asked whether it is one."""
        form = opener.group()[0]
        if form in "!<":
            match = (_IMAGE if form == "!" else _TAG).match(text, begin)
            if match is None or not self._guard:
                return None
            url = match["url"] if form == "!" else "".join(_SRC.findall(match.group())[:1])
            kind = self._channel(url, image=True) if url else ""
            return Found(begin, match.end(), kind, match.group()) if kind else None
        outside = _OUTSIDE.search(text, _behind_host6(text, opener), begin + self.max_length)
        stop = outside.start() if outside is not None else min(len(text), begin + self.max_length)
        whole = text[begin:stop]
        relative = form == "]"  # `](//host/…`: a link or an image without a scheme
        url = whole[whole.index("//") :] if relative else whole.rstrip(".,;:!?*_")
        inner = begin > 0 and text[begin - 1] in _NESTED
        kind = "" if relative else _secret(url, inner=inner)
        if not kind and self._guard and not inner and stop > channelled:
            kind = self._channel(url, image=relative)
        return (
            Found(begin, begin + len(whole if relative else url), kind, whole if relative else url)
            if kind
            else None
        )

    # -- channels -----------------------------------------------------------------------------------
    def _channel(self, url: str, *, image: bool) -> str:
        """What ``url`` is as a channel: whether it tells its host something that the answer, and not the host, has made."""
        if _FETCHED.match(url) is None:
            return ""
        try:
            parts = urlsplit(url if "//" in url else f"//{url}")
            host = (parts.hostname or "").lower()
        except ValueError:
            return SUSPICIOUS  # no address that can be read is none that can be trusted
        if not host or any(fits(pattern, host) for pattern in self._allowed):
            return ""
        path = [unquote_plus(one) for one in parts.path.split("/")]
        # A host's name is read as it was written: small letters would be another text in base64.
        labels = parts.netloc.rpartition("@")[2].split(":")[0].split(".")[:-2]
        said = [*labels, *map(unquote_plus, (*_values(parts.query), *_values(parts.fragment)))]
        if any(_tells(one) for one in (*said, *path)):
            return EXFILTRATION
        asked = len(parts.query) + len(parts.fragment)
        if image:
            random = any(self._random(one) or _spoken(one, 4) for one in (*said, *path))
            return EXFILTRATION if random or asked > 2 * self._data_chars else ""
        if any(_spoken(one, 12) for one in said):
            return EXFILTRATION
        # In the path of a link something at random is a document's name more often than not.
        return SUSPICIOUS if asked > 200 or any(map(self._random, said)) else ""

    def _random(self, said: str) -> bool:
        """Whether it looks like packed data. The name of a file ends in one of a kind, and words have no such spread."""
        if len(said) < self._data_chars or _FILE.search(said):
            return False
        if _HEX.fullmatch(said):
            return len(said) not in (32, 40, 64)  # digests, as the names of files that are kept for ever
        return _PACKED.fullmatch(said) is not None and mixed(said) and entropy(said) >= 4.0


def _tells(said: str) -> bool:
    """Whether it says something that is nobody's identifier: an address, an account, a secret, an encoded text."""
    if len(said) < 8:
        return False
    if (
        _EMAIL.search(said)
        or _ACCOUNT.fullmatch(said)
        or next(iter(TOKENS.find(said, 0, len(said))), None) is not None
    ):
        return True
    return bool(decoded(said))


def _spoken(said: str, words: int) -> bool:
    return len(said) >= 16 and len(said.split()) >= words


_ALNUM: Final = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_RUN: Final = _ALNUM + "+_:/"
_SIGNS: Final = ("!", "]", "(", "<")
_BEGINNINGS: Final = frozenset(one[:n] for one in _SCHEMES for n in range(1, len(one) + 1))


def _half(text: str) -> int:
    """Where the beginning of what opens an address begins, at the end of ``text``; its length where there is none."""
    end, tail = len(text), len(text.rstrip(_RUN))
    word = text[tail:]
    if word.isalnum() and text[max(0, tail - 1) : tail] != "<":  # the common case: a word
        return tail if word.lower() in _BEGINNINGS else end
    if tail == end and text[-1:] not in _SIGNS and "](" not in text[-8:]:
        return end
    half = _HALF.search(text, max(0, end - _WIDEST_SCHEME))
    while (
        half is not None
        and half.start()
        and half.group()[0] not in "!]<"
        and _wordlike(text[half.start() - 1])
    ):
        half = _HALF.search(text, half.start() + 1)
    begins = half.start() if half is not None else end
    last = len(text.rstrip(_ALNUM))
    if last < begins and text[last:].lower() in _BEGINNINGS and text[max(0, last - 1) : last] != "_":
        return last
    return begins


def _begin(text: str, opener: re.Match[str]) -> int:
    """Where the address begins that ``opener`` stands in; -1 for none."""
    if opener.group() != "://":
        return opener.start()
    before = max(0, opener.start() - _WIDEST_SCHEME)
    scheme = _SCHEME.search(text, before, opener.start())
    return scheme.start() if scheme is not None else -1


def _behind_host6(text: str, opener: re.Match[str]) -> int:
    """Where the characters of an address go on behind a host that is an IPv6 address, whose brackets would end it."""
    host = _HOST6.match(text, opener.end())
    return host.end() if host is not None else opener.end()


def _wordlike(character: str) -> bool:
    return character == "_" or (character.isascii() and character.isalnum())


def _values(query: str) -> list[str]:
    return [value for pair in query.split("&") for value in pair.partition("=")[::2]]


def _secret(url: str, *, inner: bool) -> str:
    """The kind of secret that ``url`` is, or nothing."""
    if _HOOK.match(url):
        return "webhook_url"
    match = _CREDENTIAL.match(url)
    if match is not None:
        password = match["password"]
        if (
            password.lower() not in _NO_PASSWORD
            and password != match["user"]
            and not looks_made_up(password)
            and password[0] not in "$%<[({*"
        ):
            return "basic_auth_url" if _WEB.match(url) else "database_url"
    return "signed_url" if not inner and _SIGNED.search(url) else ""

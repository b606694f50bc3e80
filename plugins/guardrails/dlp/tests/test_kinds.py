"""Which texts are secrets, and which only look like ones."""

from __future__ import annotations

import re
import time
import zlib
from pathlib import Path

import pytest

from lmg.redaction import Found, Redactor
from lmg_dlp.checks import decoded, entropy, github_checksum, looks_made_up
from lmg_dlp.findings import Findings, Policy
from lmg_dlp.hidden import INVISIBLE
from lmg_dlp.kinds import SECRET_DETECTORS, SECRET_KINDS, probability
from lmg_dlp.links import Links

from .texts import NOT_SECRETS, SECRETS

DETECTORS = (*SECRET_DETECTORS, Links())
POLICY = Policy("request", DETECTORS, {}, "[{kind}]", first=[INVISIBLE])
README = Path(__file__).resolve().parents[1] / "README.md"
CONTEXTS = [
    "{}",
    "My key is {}, why do I get 401?",
    "export VALUE={}\npython run.py",
    'client = Client("{}")',
    "config.yaml:\n  entry: {}\n  retries: 3",
    "<p>{}</p>",
    "「{}」",
]


def redacted(text: str) -> tuple[str, dict[str, int]]:
    findings = Findings(POLICY, "acme", lambda kind, action: None)
    return findings.whole(text), findings.kinds


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("kind", list(SECRETS))
def test_a_secret_is_found_wherever_it_stands(kind: str, context: str) -> None:
    if "\n" in SECRETS[kind] and context.startswith(("client", "<p>")):
        context = CONTEXTS[0]
    text, kinds = redacted(context.format(SECRETS[kind]))
    assert kinds == {kind: 1}
    assert SECRETS[kind] not in text


@pytest.mark.parametrize("text", NOT_SECRETS)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redacted(text) == (text, {})


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("DB_PASSWORD=QVPpeo9DSOi!JnY next", "DB_PASSWORD=[password] next"),
        ('"password": "s3cr3t-Horse"', '"password": "[password]"'),
        ("mysql --password hunter42x db", "mysql --password [password] db"),
        ("Passwort: 6KkXld3ycJtR!RRY", "Passwort: [password]"),
        ("la contraseña es Kx83hdu2!", "la contraseña es [password]"),
        ("mot de passe : Zx83hdu2!", "mot de passe : [password]"),
        (
            "the password for our database is Kx83hdu2, and so on",
            "the password for our database is [password], and so on",
        ),
        ("machine a login b password Kx83!hdu2", "machine a login b password [password]"),
        ("密码是Kx83hdu2", "密码是[password]"),
        ("{'Authorization': 'Bearer " + "a1B2c3D4" * 4 + "'}", "{'Authorization': 'Bearer [bearer_token]'}"),
        ("api_key: " + SECRETS["github_token"], "api_key: [github_token]"),
        ("curl " + SECRETS["basic_auth_url"] + " -v", "curl [basic_auth_url] -v"),
        ("HEROKU_API_KEY=1a57dcb2-b058-40c3-8555-7e83ab3c4b27", "HEROKU_API_KEY=[assigned_secret]"),
        (
            "idempotency-key: 1a57dcb2-b058-40c3-8555-7e83ab3c4b27",
            "idempotency-key: 1a57dcb2-b058-40c3-8555-7e83ab3c4b27",
        ),
        ("client secret: Ab3dEf6hIj", "client secret: [assigned_secret]"),
        ("redis://:k3y-of-mine@cache:6379/0", "[database_url]"),
    ],
)
def test_the_words_around_a_secret_stay(text: str, becomes: str) -> None:
    assert redacted(text)[0] == becomes


def test_a_private_key_is_found_in_one_line_of_json() -> None:
    pem = SECRETS["private_key"].replace("\n", "\\n")
    text, kinds = redacted('{"type": "service_account", "private_key": "' + pem + '\\n", "id": 1}')
    assert kinds == {"private_key": 1}
    assert text == '{"type": "service_account", "private_key": "[private_key]\\n", "id": 1}'


def test_a_private_key_that_does_not_end_goes_with_what_may_be_of_it() -> None:
    begin = SECRETS["private_key"].split("-----END")[0]
    assert redacted(f"{begin * 40}; done")[0] == "[private_key]; done"


def test_the_check_sum_of_a_token_makes_it_certain() -> None:
    body = "abcdefghijklmnopqrstuvwxyz1234"
    number, digits = zlib.crc32(body.encode()), ""
    while number:
        number, rest = divmod(number, 62)
        digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"[rest] + digits
    token = "gh" + "p_" + body + digits.rjust(6, "0")
    assert github_checksum(token) and not github_checksum(SECRETS["github_token"])
    assert probability("github_token", token) == 1.0 > probability("github_token", SECRETS["github_token"])


@pytest.mark.parametrize(
    ("text", "becomes", "kind"),
    [
        ("a\U000e0068\U000e0069b", "ab", "hidden_text"),
        ("pass\u200bword", "password", "invisible"),
        ("abc\u202edcba", "abcdcba", "invisible"),
        ("to\u200d\u200c\u200d\u200c\u200dday", "today", "invisible"),
    ],
)
def test_what_nobody_sees_is_taken_out(text: str, becomes: str, kind: str) -> None:
    said, kinds = redacted(text)
    assert said == becomes and set(kinds) == {kind}


@pytest.mark.parametrize("sign", ["\u200b", "\u200d", "\u00ad", "\U000e0041", "\u2060"])
def test_a_secret_that_is_split_by_what_nobody_sees_is_found(sign: str) -> None:
    token = SECRETS["github_token"]
    text, kinds = redacted(f"use {token[:2]}{sign}{token[2:20]}{sign}{token[20:]}")
    assert text == "use [github_token]"
    assert kinds["github_token"] == 1


@pytest.mark.parametrize(
    "text",
    [
        "👩\u200d💻 and ❤\ufe0f",
        "\u0645\u06cc\u200c\u062e\u0648",
        "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    ],
)
def test_emoji_and_scripts_keep_their_joiners(text: str) -> None:
    assert redacted(text) == (text, {})


def test_readme_names_every_kind() -> None:
    assert len(SECRET_KINDS) >= 40
    named = set(re.findall(r"`([a-z0-9_]+)`", README.read_text()))
    assert sorted(SECRET_KINDS - named) == []


@pytest.mark.parametrize(
    "text",
    [
        "sk-", "eyJ-", "eyJa.", "key", "key=", "pass is ", "-----BEGIN PRIVATE KEY-----\n", "http://", "x=https://", "![", "<img ", "glpat-", "a1", "a-",
        "\u200b", "\U000e0041", "](//a", 'secret "', "token: abcdefgh1234567890 ", "[a](https://x.example/?q=abcdefghij) ", "-----BEGIN PRIVATE KEY-----\n" + "A" * 64,
    ],
)  # fmt: skip
def test_no_text_takes_long(text: str) -> None:
    redactor = Redactor((*DETECTORS, INVISIBLE, Links(guard=True)), lambda one: "")
    long = (text * 100_000)[:100_000]
    started = time.process_time()
    redactor.find(long)
    assert time.process_time() - started < 5.0  # measured: at most 0.4 s; what is quadratic takes minutes


def test_checks() -> None:
    assert entropy("") == 0 and entropy("aaaa") == 0 and entropy("abcd") == 2
    assert looks_made_up("YOUR_API_KEY") and looks_made_up("${TOKEN}") and not looks_made_up("k3y9Qz")
    assert decoded("aGVsbG8gd29ybGQgYWdhaW4=") == "hello world again"
    assert decoded("68656c6c6f20776f726c64") == "hello world"
    assert decoded("internationalization") == "" and decoded("short") == ""
    assert Found(0, 1, "a", "b").name == "a"

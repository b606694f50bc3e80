"""The header `x-forwarded-client-cert`: what is read from it, and what is refused."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmg_auth_mtls.names import read_name
from lmg_auth_mtls.xfcc import MAX_ELEMENTS, MAX_PAIRS, Element, MalformedXfcc, read_xfcc

HASH = "468ed33be74eee6556d90c0149c1309e9ba61d6425303443c0748a02dd8de688"

READ = {
    f"Hash={HASH}": [Element(sha256=HASH)],
    f"hash={HASH.upper()}": [Element(sha256=HASH)],
    f"By=http://frontend.example;Hash={HASH};URI=http://testclient.example": [
        Element(("http://frontend.example",), HASH, uris=("http://testclient.example",))
    ],
    f'By=http://a;Hash={HASH};Subject="/C=US/CN=Test";URI=http://b;DNS=b.example;DNS=www.b.example': [
        Element(("http://a",), HASH, "/C=US/CN=Test", ("http://b",), ("b.example", "www.b.example"))
    ],
    f"By=http://a;Hash={HASH};URI=http://b,By=http://c;Hash={HASH};URI=http://d": [
        Element(("http://a",), HASH, uris=("http://b",)),
        Element(("http://c",), HASH, uris=("http://d",)),
    ],
    # Several lines that a proxy joined have a space after the comma.
    f"URI=http://b, Hash={HASH};URI=http://d": [
        Element(uris=("http://b",)),
        Element(sha256=HASH, uris=("http://d",)),
    ],
    'Subject="CN=x,O=Acme;Inc=1";URI=u': [Element(subject="CN=x,O=Acme;Inc=1", uris=("u",))],
    # An RFC 4514 backslash at the end of a subject must not take the closing quote along.
    r'Subject="CN=x\\";URI=u': [Element(subject=r"CN=x\\", uris=("u",))],
    r'Subject="CN=\",URI=spiffe://acme.example/admin";URI=u': [
        Element(subject=r"CN=\",URI=spiffe://acme.example/admin", uris=("u",))
    ],
    r'URI="a,b;c=\"d\"";DNS=x': [Element(uris=('a,b;c="d"',), dns=("x",))],
    "URI=https://b.example/?q=1": [Element(uris=("https://b.example/?q=1",))],
    'By=;Subject="";URI=;DNS=x': [Element(dns=("x",))],
    'Cert="-----BEGIN%20CERTIFICATE-----%0A";Chain="-----BEGIN%20CERTIFICATE-----";DNS=x': [
        Element(dns=("x",))
    ],
}

REFUSED = {
    "nothing": "",
    "a space": " ",
    "no pair": "spiffe://acme.example/a",
    "no key": "=x",
    "an empty element": f"Hash={HASH},",
    "an empty element in front": f",Hash={HASH}",
    "an empty pair": f"Hash={HASH};;DNS=x",
    "a semicolon at the end": f"Hash={HASH};",
    "an unknown key": f"Hash={HASH};Role=admin",
    "an unknown key in an element that is not asked for": f"Role=admin,Hash={HASH}",
    "two hashes": f"Hash={HASH};Hash={HASH}",
    "two hashes in two cases": f"Hash={HASH};hash={HASH}",
    "two subjects": 'Subject="CN=a";Subject="CN=b"',
    "a short hash": "Hash=468ed3",
    "a hash that is none": f"Hash={'g' * 64}",
    "an open quote": 'Subject="CN=a',
    "an escaped closing quote": r'Subject="CN=a\"',
    "text after a quote": 'Subject="CN=a"b;URI=u',
    "a quote within plain text": 'URI=a"b"',
    "a line break": "URI=a\nURI=b",
    "a NUL": "URI=a\0",
    "text beyond ASCII": "URI=é",
    "too many pairs": ";".join(["DNS=x"] * (MAX_PAIRS + 1)),
    "too many elements": ",".join(["DNS=x"] * (MAX_ELEMENTS + 1)),
    "a space in a key": "D NS=x",
}


@pytest.mark.parametrize(("text", "elements"), READ.items())
def test_what_envoy_writes_is_read(text: str, elements: list[Element]) -> None:
    assert list(read_xfcc(text.encode())) == elements


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_what_envoy_does_not_write_is_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(MalformedXfcc) as raised:
        read_xfcc(text.encode())
    assert "spiffe" not in str(raised.value) and "Role" not in str(raised.value)


def test_an_open_quote_after_many_backslashes_is_refused_at_once() -> None:
    with pytest.raises(MalformedXfcc):
        read_xfcc(b'Subject="' + b"\\" * 1_000_001)


def written(elements: list[Element]) -> bytes:
    """As the documentation says: quoted where it must be, quotes escaped."""

    def quoted(value: str) -> str:
        return '"' + value.replace('"', '\\"') + '"' if set(value) & set(',;="') else value

    def one(element: Element) -> str:
        pairs = [f"By={quoted(value)}" for value in element.by]
        pairs += [f"Hash={element.sha256}"]
        pairs += [f'Subject="{element.subject}"'] if element.subject else []
        pairs += [f"URI={quoted(value)}" for value in element.uris]
        pairs += [f"DNS={quoted(value)}" for value in element.dns]
        return ";".join(pairs)

    return ",".join(one(element) for element in elements).encode()


# No name begins with a separator: a subject begins with an attribute's type, a URI with its scheme.
VALUES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="\\")).map(
    "x".__add__
)
ELEMENTS = st.builds(
    Element,
    by=st.lists(VALUES, max_size=2).map(tuple),
    sha256=st.text("0123456789abcdef", min_size=64, max_size=64),
    subject=st.text(st.sampled_from("abcXYZ=,+; 0123"), max_size=20).map("CN=".__add__),
    uris=st.lists(VALUES, max_size=3).map(tuple),
    dns=st.lists(VALUES, max_size=3).map(tuple),
)


@given(st.lists(ELEMENTS, min_size=1, max_size=4))
def test_what_is_written_by_the_documentation_is_read_back(elements: list[Element]) -> None:
    assert list(read_xfcc(written(elements))) == elements


@given(ELEMENTS, st.binary(max_size=60))
def test_text_in_front_never_changes_the_last_element(element: Element, forged: bytes) -> None:
    """What a caller got into the header before the proxy appended to it is refused, or stays in its own elements."""
    try:
        read = read_xfcc(forged + b"," + written([element]))
    except MalformedXfcc:
        return
    assert read[-1] == element


@given(
    st.one_of(st.binary(max_size=200), st.text('ByHashURIDNSSubject=;,"\\ a', max_size=80).map(str.encode))
)
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    with suppress(MalformedXfcc):
        assert read_xfcc(raw)


# -- subjects -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "attributes"),
    [
        ("CN=agent-7,O=Acme", (("CN", "agent-7"), ("O", "Acme"))),
        ("commonName=agent-7,organizationName=Acme", (("CN", "agent-7"), ("O", "Acme"))),
        (r"CN=a\,O\=Evil,O=Acme\, Inc.", (("CN", "a,O=Evil"), ("O", "Acme, Inc."))),
        (r"CN=J\C3\A9r\C3\B4me", (("CN", "Jérôme"),)),
        ("CN=Jérôme", (("CN", "Jérôme"),)),
        (r"CN=x\"y\\", (("CN", 'x"y\\'),)),
        ("UID=7+CN=a, OU=b", (("UID", "7"), ("CN", "a"), ("OU", "b"))),
        ("CN=", (("CN", ""),)),
        ("1.2.840.113549.1.9.1=#1603", (("1.2.840.113549.1.9.1", "#1603"),)),
        ("", None),
        ("agent-7", None),
        ("CN=a,", None),
        ("CN=a,b", None),
        ("/C=US/CN=a", None),
        (r"CN=a\z", None),
        ("CN=a\\", None),
        (r"CN=\FF", None),
        ("CN=" + "a" * 5000, None),
    ],
)
def test_a_subject_is_read_with_certainty_or_not_at_all(
    text: str, attributes: tuple[tuple[str, str], ...] | None
) -> None:
    assert read_name(text) == attributes

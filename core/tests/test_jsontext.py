"""JSON that keeps its bytes: what is refused, and edits that touch nothing beside them."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmg.jsontext import JsonText, JsonTextError, strict_loads

# -- reading ----------------------------------------------------------------------------------------

DUPLICATES = [
    b'{"a":1,"a":2}',
    b'{"a":1,"a":1}',
    b'{"a":"x","b":1,"a":"y"}',
    b'{"a":1,"\\u0061":2}',
    b'{"\\u0061":1,"\\u0061":2}',
    b'{"\\"":1,"\\u0022":2}',
    b'{"\\\\":1,"\\u005c":2}',
    b'{"":1,"":2}',
    b'[[{"x":[{"a":{"b":1,"b":2}}]}]]',
    b'{"a":{"a":"\\\\\\""},"a":{}}',
    b'{"a":{"b":"c"},"a":{"b":"c"}}',
    b'{"model":"cheap","messages":[],"model":"dear"}',
    b'{"a":[],"a":"\\"\\"\\""}',
    '{"ä":1,"\\u00e4":2}'.encode(),
    '{"😀":1,"\\ud83d\\ude00":2}'.encode(),
]


@pytest.mark.parametrize("raw", DUPLICATES)
def test_a_member_name_that_comes_twice_is_refused_however_it_is_spelled(raw: bytes) -> None:
    with pytest.raises(JsonTextError) as caught:
        strict_loads(raw)
    assert caught.value.code == "duplicate_key"


HOSTILE = {
    "NaN": b'{"a":NaN}',
    "Infinity": b'{"a":Infinity}',
    "minus Infinity": b'{"a":-Infinity}',
    "1e999": b'{"a":1e999}',
    "-1e999": b'{"a":[-1e999]}',
    "an integer of 100,000 digits": b'{"a":' + b"1" * 100_000 + b"}",
    "two million arrays": b"[" * 2_000_000,
    "two million whole arrays": b"[" * 2_000_000 + b"]" * 2_000_000,
    "two million objects": b'{"a":' * 2_000_000,
    "two million whole objects": b'{"a":' * 2_000_000 + b"1" + b"}" * 2_000_000,
    "129 levels": b"[" * 129 + b"]" * 129,
    "a lone high surrogate": b'{"a":"\\ud800"}',
    "a lone low surrogate": b'{"a":"\\udc00"}',
    "surrogates the wrong way round": b'{"a":"\\udc00\\ud800"}',
    "a lone surrogate as a name": b'{"\\ud800":1}',
    "a surrogate in UTF-8": b'{"a":"\xed\xa0\x80"}',
    "invalid UTF-8": b'{"a":"\xff"}',
    "overlong UTF-8": b'{"a":"\xc0\xaf"}',
    "half a letter": b'{"a":"\xe2\x82"}',
    "a byte order mark": b'\xef\xbb\xbf{"a":1}',
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "nothing": b"",
    "spaces": b"  ",
    "two values": b"{}{}",
    "a trailing comma": b'{"a":1,}',
    "a comment": b'{"a":1/**/}',
    "single quotes": b"{'a':1}",
    "a control character": b'{"a":"\x01"}',
    "a zero byte after the value": b"{}\x00",
    "a leading zero": b'{"a":01}',
    "a plus": b'{"a":+1}',
    "a vertical tab as space": b'{"a":\x0b1}',
    "a bad escape": b'{"a":"\\x41"}',
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_parsers_read_differently_is_refused_at_once_and_not_quoted(what: str) -> None:
    started = time.process_time()
    with pytest.raises(JsonTextError) as caught:
        strict_loads(HOSTILE[what])
    assert time.process_time() - started < 1.0
    assert len(str(caught.value)) < 200
    assert caught.value.code in {"invalid_json", "json_too_deep", "json_too_many_values"}


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":"\\"","b":"\\\\","c":"\\\\\\"","d\\"":"a\\\\\\\\"}',
        b'{"a":"\\u0022\\u005c","b":"\\u005c\\u0022"}',
        b'{"a":{"a":1},"b":{"a":[{"a":2},{"a":3}]}}',
        b'{"a":"\\"a\\":1","b":"{\\"a\\":1,\\"a\\":2}"}',
        b'{"a":123456789012345678901234567890,"b":-1e-999,"c":1.10,"d":1E300}',
        b"[" * 128 + b"]" * 128,
        b'"\\ud83d\\ude00"',
        b'{"":""}',
    ],
)
def test_legal_text_is_not_taken_for_hostile(raw: bytes) -> None:
    assert (
        strict_loads(raw) == pytest.approx(json.loads(raw))
        if raw[:1] == b"n"
        else strict_loads(raw) is not None
    )


@pytest.mark.parametrize("item", [b"{}", b"[]", b'{"a":1}', b'{"a":{"b":[]}}'])
def test_a_document_that_would_cost_memory_for_many_times_its_bytes_is_refused(item: bytes) -> None:
    with pytest.raises(JsonTextError) as caught:
        strict_loads(b"[" + b",".join([item] * 100_000) + b"]")
    assert caught.value.code == "json_too_many_values"


def test_brackets_in_texts_are_not_counted() -> None:
    text = json.dumps([{"content": '{"a":[{}]}\\"[[[{{{' * 20_000}, '"[' * 50_000]).encode()
    assert strict_loads(text) == json.loads(text)
    assert strict_loads(b"[" + b",".join([b"[]"] * 10_000) + b"]")


def test_wide_documents_take_time_in_proportion() -> None:
    raw = (
        b'{"messages":['
        + b",".join([b'{"role":"user","content":"a \\"quoted\\" word\\\\"}'] * 50_000)
        + b"]}"
    )
    started = time.process_time()
    strict_loads(raw)
    assert time.process_time() - started < 1.0


# -- editing ----------------------------------------------------------------------------------------

SPACE = st.text(" \t\n\r", max_size=3)
NAMES = st.sampled_from(["a", "b", "model", "stream_options", "", 'q"', "ä", "😀", "\\", "a\nb"])
STRINGS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ["{", "}", '"a":1', ",", "[\\", "]"]
)
NUMBERS = st.sampled_from(
    [
        "0",
        "-0",
        "1.0",
        "1.10",
        "1E5",
        "1e-9",
        "123456789012345678901234567890",
        "18446744073709551616",
        "0.1000",
    ]
)


def spelled(text: str, draw: Any) -> str:
    """``text`` as a JSON string, in one of the ways to write it."""
    way = draw(st.sampled_from(["plain", "ascii", "escaped"]))
    if way == "escaped":
        units = text.encode("utf-16-be", "surrogatepass")
        return '"' + "".join(f"\\u{units[n]:02x}{units[n + 1]:02x}" for n in range(0, len(units), 2)) + '"'
    return json.dumps(text, ensure_ascii=way == "ascii")


@st.composite
def values(draw: Any, depth: int = 3) -> str:
    """The text of a JSON value with odd spaces, digits and escapes."""
    kinds = ["string", "number", "word", *(["object", "array"] * 2 if depth else [])]
    kind = draw(st.sampled_from(kinds))
    if kind == "string":
        return spelled(draw(STRINGS), draw)
    if kind == "number":
        return draw(NUMBERS)
    if kind == "word":
        return draw(st.sampled_from(["true", "false", "null"]))
    if kind == "array":
        items = [draw(SPACE) + draw(values(depth - 1)) + draw(SPACE) for _ in range(draw(st.integers(0, 3)))]
        return "[" + ",".join(items) + (draw(SPACE) if not items else "") + "]"
    return draw(objects(depth))


@st.composite
def objects(draw: Any, depth: int = 3) -> str:
    names = draw(st.lists(NAMES, max_size=4, unique=True))
    members = [
        draw(SPACE)
        + spelled(name, draw)
        + draw(SPACE)
        + ":"
        + draw(SPACE)
        + draw(values(depth - 1))
        + draw(SPACE)
        for name in names
    ]
    return "{" + ",".join(members) + (draw(SPACE) if not members else "") + "}"


class Digits(str):
    """A number as it is written."""


def digits(raw: bytes) -> Any:
    """The value of ``raw`` with numbers as they are written; a name that comes twice fails the test."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len({name for name, _ in pairs}) == len(pairs), raw
        return dict(pairs)

    return json.loads(raw, parse_int=Digits, parse_float=Digits, object_pairs_hook=unique)


NEW = st.recursive(
    st.none() | st.booleans() | st.text('aä"\\\n', max_size=4) | st.just("new"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=2),
    max_leaves=4,
)


def paths(value: Any, above: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Every path that an edit may name, members that are not there yet included."""
    found: list[tuple[str | int, ...]] = [above] if above else []
    if isinstance(value, dict):
        for key, item in value.items():
            found += paths(item, (*above, key))
        found += [(*above, name) for name in ("new", "a", 'q"', "ä") if name not in value]
    elif isinstance(value, list):
        for n, item in enumerate(value):
            found += paths(item, (*above, n))
    return found


def applied(value: Any, path: tuple[Any, ...], new: Any, *, remove: bool) -> Any:
    if not path:
        return new
    if isinstance(value, list):
        return [
            applied(item, path[1:], new, remove=remove) if n == path[0] else item
            for n, item in enumerate(value)
        ]
    out = dict(value)
    if remove and len(path) == 1:
        out.pop(path[0], None)
    else:
        out[path[0]] = applied(out.get(path[0]), path[1:], new, remove=remove)
    return out


@settings(max_examples=200, deadline=None)
@given(SPACE, objects(), SPACE, st.data())
def test_edits_give_what_editing_the_value_gives_and_keep_every_digit(
    before: str, text: str, after: str, data: st.DataObject
) -> None:
    raw = (before + text + after).encode()
    document = JsonText.parse(raw)
    assert document.render() == raw
    expected = digits(raw)
    for _ in range(data.draw(st.integers(1, 5))):
        choice = paths(expected)
        if not choice:
            break
        path = data.draw(st.sampled_from(choice))
        remove = isinstance(path[-1], str) and data.draw(st.booleans())
        new = data.draw(NEW)
        older, was = document, document.render()
        document = document.remove(path) if remove else document.set(path, new)
        expected = applied(expected, path, new, remove=remove)
        assert older.render() == was, "an edit changed the document that it was made from"
    assert digits(document.render()) == expected
    parsed = json.loads(document.render())
    assert same(document.value, parsed)


def same(a: Any, b: Any) -> bool:
    """Equal, with numbers as doubles: what a fast parser makes of more digits."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, (int, float)) and not isinstance(a, bool):
        return math.isclose(a, b)
    return bool(a == b)


@st.composite
def members(draw: Any) -> list[tuple[str, str]]:
    names = draw(st.lists(NAMES, min_size=1, max_size=6, unique=True))
    return [(name, spelled(name, draw) + draw(SPACE) + ":" + draw(SPACE) + draw(values(2))) for name in names]


@settings(max_examples=120, deadline=None)
@given(members(), st.data())
def test_bytes_beside_the_edited_members_stay_as_they_were(
    found: list[tuple[str, str]], data: st.DataObject
) -> None:
    spaces = [data.draw(SPACE) for _ in range(2 * len(found))]
    parts = [spaces[2 * n] + text + spaces[2 * n + 1] for n, (_, text) in enumerate(found)]
    document = JsonText.parse(("{" + ",".join(parts) + "}").encode())
    touched = data.draw(
        st.sets(st.sampled_from([name for name, _ in found] + ["new", "newer"]), min_size=1, max_size=3)
    )
    for name in sorted(touched):
        if data.draw(st.booleans()):
            document = document.set((name,), data.draw(NEW))
        else:
            document = document.remove((name,))
    rendered = document.render().decode()
    at = 0
    for name, text in found:
        if name not in touched:
            at = rendered.find(text, at)
            assert at >= 0, f"{text!r} is not in {rendered!r}, or not in its place"
            at += len(text)


def test_bytes_beside_a_deep_edit_stay_exactly_as_they_were() -> None:
    raw = b' { "a" : [ 1.10 , { "b" :  "x\\u0041" , "big":123456789012345678901234567890 } ,\n2 ] , "c":null }\n'
    assert JsonText.parse(raw).set(("a", 1, "b"), "y").render() == raw.replace(b'"x\\u0041"', b'"y"')
    assert JsonText.parse(raw).set(("c",), 5).render() == raw.replace(b"null", b"5")


def test_a_member_whose_name_is_spelled_with_escapes_is_replaced_and_not_doubled() -> None:
    raw = b'{"\\u006dodel":"dear","messages":[]}'
    assert digits(JsonText.parse(raw).set(("model",), "cheap").render()) == {"model": "cheap", "messages": []}
    raw = b'{"q\\"":1}'
    assert digits(JsonText.parse(raw).set(('q"',), 2).render()) == {'q"': Digits("2")}


def test_a_deep_edit_makes_the_objects_on_its_way() -> None:
    document = JsonText.parse(b'{"z":0}').set(("a", "b", "c"), 1)
    assert json.loads(document.render()) == document.value == {"z": 0, "a": {"b": {"c": 1}}}
    document = document.set(("a", "b", "d"), 2).set(("a", "e"), 3).remove(("a", "b", "c"))
    assert json.loads(document.render()) == document.value == {"z": 0, "a": {"b": {"d": 2}, "e": 3}}


def test_what_was_removed_can_be_put_back_at_any_depth() -> None:
    document = JsonText.parse(b'{"a":{"x":1},"b":2}').remove(("a",)).set(("a", "y"), 3)
    assert json.loads(document.render()) == document.value == {"a": {"y": 3}, "b": 2}


def test_an_item_counted_from_the_end_is_the_one_that_is_replaced() -> None:
    document = JsonText.parse(b"[[1,2,3]]").set((-1, -1), 4)
    assert json.loads(document.render()) == document.value == [[1, 2, 4]]


def test_integers_beyond_64_bits_can_be_set() -> None:
    assert JsonText.parse(b'{"a":1}').set(("a",), 2**70).render() == b'{"a":%d}' % 2**70


def test_an_edit_without_a_path_or_through_a_plain_value_is_an_error_at_once() -> None:
    document = JsonText.parse(b'{"a":"text"}')
    with pytest.raises(ValueError, match="path"):
        document.set((), 1)
    with pytest.raises(KeyError):
        document.set(("a", "b"), 1)
    with pytest.raises(KeyError):
        document.set(("a", 0), 1)


def test_removing_what_is_not_there_changes_nothing() -> None:
    document = JsonText.parse(b'{"a":{"b":1}}')
    assert document.remove(("x",)) is document
    assert document.remove(("a", "x")) is document
    assert document.remove(("x", "y")) is document
    assert document.remove(("a", "b")).render() == b'{"a":{}}'


def test_edits_of_a_large_document_take_time_in_proportion() -> None:
    raw = (
        b'{"messages":[' + b",".join([b'{"role":"user","content":"some words"}'] * 20_000) + b'],"model":"m"}'
    )
    document = JsonText.parse(raw)
    started = time.process_time()
    for _ in range(3):
        assert (
            document.set(("model",), "n")
            .set(("stream_options",), {"include_usage": True})
            .render()
            .count(b"words")
            == 20_000
        )
    assert time.process_time() - started < 1.0

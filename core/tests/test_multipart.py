"""Multipart forms: taken apart strictly, edited by value, and written with every other byte as it came."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmg import Refusal
from lmg.dialects.multipart import MultipartText, Upload
from lmg.dialects.multipart_form import MAX_PARTS

BOUNDARY = b"----form-7MA4YWxkTrZu0gW"
TYPE = b"multipart/form-data; boundary=" + BOUNDARY


@dataclass(frozen=True)
class Part:
    """One part as a test writes it."""

    name: str
    content: bytes
    filename: str | None = None
    more: tuple[bytes, ...] = ()

    @property
    def head(self) -> bytes:
        shown = f'; filename="{self.filename}"' if self.filename is not None else ""
        lines = [f'Content-Disposition: form-data; name="{self.name}"{shown}'.encode(), *self.more]
        return b"--" + BOUNDARY + b"\r\n" + b"\r\n".join(lines) + b"\r\n\r\n"


def form(*parts: Part) -> bytes:
    return b"".join(part.head + part.content + b"\r\n" for part in parts) + b"--" + BOUNDARY + b"--\r\n"


def read(*parts: Part) -> MultipartText:
    return MultipartText.read(form(*parts), TYPE)


SOUND = Part("file", b"RIFF\x00\xff\r\n--not-it\r\n\x00", "a.wav", (b"Content-Type: audio/wav",))

# -- reading --------------------------------------------------------------------------------------


def test_fields_are_texts_files_are_placeholders_and_brackets_are_lists() -> None:
    body = read(
        Part("model", b"whisper-1"), SOUND, Part("include[]", b"logprobs"), Part("prompt", "grüße\r\n€".encode()),
        Part("keywords[]", b"a"), Part("keywords[]", b"b"), Part("empty", b""), Part("strategy[type]", b"vad"),
        Part("strategy[threshold]", b"0.5"),
    )  # fmt: skip
    assert body.value == {
        "model": "whisper-1", "file": {"filename": "a.wav", "content_type": "audio/wav", "size": len(SOUND.content)},
        "include[]": ["logprobs"], "prompt": "grüße\r\n€", "keywords[]": ["a", "b"], "empty": "", "strategy[type]": "vad",
        "strategy[threshold]": "0.5",
    }  # fmt: skip
    assert isinstance(body.get("file"), Upload)
    assert body.get("keywords[]", 1) == "b"
    assert body.get("missing") is None
    assert not body.edited
    assert body.render() is body.raw


def test_the_boundary_goes_upstream_in_the_plainest_form_that_carries_it() -> None:
    assert read(SOUND).content_type == TYPE
    for boundary in (b"a/b=c", b"x:y"):
        raw = form(SOUND).replace(BOUNDARY, boundary)
        quoted = b'Multipart/Form-Data ; charset=UTF-8; Boundary="' + boundary + b'"'
        assert MultipartText.read(raw, quoted).content_type == (
            b'multipart/form-data; boundary="' + boundary + b'"'
        )


def test_headers_that_mean_nothing_pass_and_the_length_is_kept_true() -> None:
    body = read(
        Part(
            "prompt",
            b"hello",
            more=(b"X-Trace: 1", b"Content-Length: 5", b"Content-Transfer-Encoding: binary"),
        )
    )
    assert body.set(("prompt",), "grüße").render() == form(
        Part(
            "prompt",
            "grüße".encode(),
            more=(b"X-Trace: 1", b"Content-Length: 7", b"Content-Transfer-Encoding: binary"),
        )
    )


GOOD = form(Part("model", b"m"), SOUND)
D = b"--" + BOUNDARY
HEAD = b'Content-Disposition: form-data; name="'


def part(head: bytes, content: bytes = b"x") -> bytes:
    return D + b"\r\n" + head + b"\r\n\r\n" + content + b"\r\n" + D + b"--\r\n"


@pytest.mark.parametrize(
    "content_type",
    [
        b"", b"multipart/form-data", b"multipart/form-data; boundary=", b'multipart/form-data; boundary=""',
        b"multipart/form-data; boundary=a; boundary=b", b"multipart/form-data; boundary=" + b"a" * 71,
        b"multipart/form-data; boundary=a b", b"multipart/form-data; boundary=----", b"multipart/mixed; boundary=a",
        b"multipart/form-data; boundary*=utf-8''a", b"multipart/form-data; boundary=a, multipart/form-data; boundary=b",
        b"multipart/form-data; charset=utf-16; boundary=" + BOUNDARY, TYPE + b"; x=y", TYPE + b"\r\nx: y",
    ],
)  # fmt: skip
def test_a_boundary_that_is_missing_or_doubtful_is_refused(content_type: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        MultipartText.read(GOOD, content_type)
    assert (caught.value.status, caught.value.code) == (400, "invalid_form")


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"preamble\r\n" + GOOD, id="a preamble"),
        pytest.param(b"\r\n" + GOOD, id="a line before the first boundary"),
        pytest.param(GOOD + b"epilogue", id="an epilogue"),
        pytest.param(GOOD + b"\r\n", id="a line behind the last boundary"),
        pytest.param(GOOD + GOOD, id="a second form behind the first"),
        pytest.param(GOOD[:-6], id="cut in the closing boundary"),
        pytest.param(GOOD[:-40], id="cut in a part"),
        pytest.param(GOOD.replace(b"\r\n", b"\n"), id="bare line feeds"),
        pytest.param(GOOD.replace(D + b"\r\n", D + b" \r\n"), id="blanks behind a boundary"),
        pytest.param(GOOD.replace(b"\r\n" + D, b"\n" + D), id="a boundary behind a bare line feed"),
        pytest.param(GOOD.replace(b"m\r\n", b"m\r\n" + D + b"x\r\n"), id="a boundary that goes on"),
        pytest.param(GOOD.replace(b"m\r\n", b"m" + D + b"\r\n"), id="a boundary within a line"),
        pytest.param(
            GOOD.replace(b"m\r\n", b"m\r\n" + D + b"\t\r\n" + HEAD + b'y"\r\n\r\n1\r\n'),
            id="a padded boundary",
        ),
        pytest.param(part(b"X-Only: header"), id="no disposition"),
        pytest.param(D + b"\r\n\r\nx\r\n" + D + b"--\r\n", id="no header"),
        pytest.param(part(b'Content-Disposition: attachment; name="a"'), id="another disposition"),
        pytest.param(part(b"Content-Disposition: form-data"), id="no name"),
        pytest.param(part(HEAD + b'"'), id="an empty name"),
        pytest.param(part(HEAD + b'a"; name="b"'), id="two names"),
        pytest.param(part(HEAD + b'a"\r\n' + HEAD + b'b"'), id="two dispositions"),
        pytest.param(
            part(b"Content-Disposition: form-data; name*=utf-8''model; name=\"a\""),
            id="a name in two spellings",
        ),
        pytest.param(part(HEAD + b'a\\"b"'), id="an escaped quote in a name"),
        pytest.param(part(HEAD + b'a"; filename="x\\"; name=\\"b"'), id="an escaped quote in a file name"),
        pytest.param(part(HEAD + b'a"; filename=""'), id="an empty file name"),
        pytest.param(
            part(HEAD + b"a\"; filename*=utf-8''x.txt"), id="a file name in the other spelling alone"
        ),
        pytest.param(part(HEAD + b'a b"'), id="a blank in a name"),
        pytest.param(part(HEAD + b'a%22"'), id="a percent sign in a name"),
        pytest.param(part(HEAD + b'_charset_"', b"utf-16"), id="a field that sets the charset of the others"),
        pytest.param(
            part(HEAD + b'a"\r\nContent-Type: multipart/mixed; boundary=b'), id="a form within the form"
        ),
        pytest.param(part(HEAD + b'a"\r\nContent-Type: text/plain; charset=utf-16le'), id="another charset"),
        pytest.param(
            part(HEAD + b'a"\r\nContent-Type: text/plain\r\nContent-Type: text/html'), id="two types"
        ),
        pytest.param(part(HEAD + b'a"\r\nContent-Transfer-Encoding: base64'), id="a transfer encoding"),
        pytest.param(part(HEAD + b'a"\r\nContent-Length: 9'), id="another length"),
        pytest.param(part(HEAD + b'a"\r\n folded: x'), id="a folded header"),
        pytest.param(part(HEAD + b'a"\nX: y'), id="a bare line feed in a header"),
        pytest.param(part(HEAD + b'a"\r\nX: \x00'), id="a zero byte in a header"),
        pytest.param(part(HEAD + b'a"\r\nX:'), id="an empty header"),
        pytest.param(part(HEAD + b'a"', b"\xff\xfe"), id="a text that is not UTF-8"),
        pytest.param(part(HEAD + b'a"\r\nX: ' + b"y" * 5000), id="a giant header"),
        pytest.param(part(HEAD + b'a"' + b"\r\nX: y" * 9), id="many headers"),
        pytest.param(form(Part("a", b"1"), Part("a", b"2")), id="a field twice"),
        pytest.param(form(Part("a", b"1"), Part("A", b"2")), id="a field twice but for its case"),
        pytest.param(form(Part("a", b"1"), Part("a[]", b"2")), id="a field and a list of its name"),
        pytest.param(form(Part("a[]", b"1"), Part("a", b"2")), id="a list and a field of its name"),
        pytest.param(form(Part("a[b]", b"1"), Part("a[b]", b"2")), id="a member twice"),
        pytest.param(
            form(*(Part(f"f{n}", b"") for n in range(MAX_PARTS + 1))), id="more parts than are taken"
        ),
    ],
)
def test_a_form_that_two_parsers_could_read_in_two_ways_is_refused(raw: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        MultipartText.read(raw, TYPE)
    assert (caught.value.status, caught.value.code) == (400, "invalid_form")


def test_nothing_of_a_bad_form_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for raw in (GOOD[:-8], b"secret" + GOOD, GOOD.replace(b"Content", b"s\x00cret")):
        with pytest.raises(Refusal):
            MultipartText.read(raw, TYPE)
    assert caplog.text == ""


def test_the_most_parts_that_are_taken_are_taken() -> None:
    body = read(*(Part(f"f{n}", b"") for n in range(MAX_PARTS)))
    assert len(body.value) == MAX_PARTS  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "filler",
    [
        b"\r\n" * 2_000_000,
        b"\r\n--" * 1_000_000,
        b"\r" * 4_000_000,
        (b"\r\n" + D[:-1]) * 150_000,
        b"-" * 4_000_000,
    ],
)
def test_reading_takes_time_in_proportion_to_the_body(filler: bytes) -> None:
    raw = form(Part("model", b"m"), Part("file", filler, "a.wav"))
    started = time.perf_counter()
    body = MultipartText.read(raw, TYPE)
    assert time.perf_counter() - started < 2.0
    upload: Any = body.get("file")
    assert upload["size"] == len(filler)


# -- writing --------------------------------------------------------------------------------------


def test_a_new_field_comes_last_and_a_removed_one_takes_its_part_with_it() -> None:
    prompt, model = Part("prompt", b"p"), Part("model", b"m")
    body = read(prompt, SOUND, model)
    assert body.set(("stream",), True).render() == form(prompt, SOUND, model, Part("stream", b"true"))
    assert body.remove(("prompt",)).render() == form(SOUND, model)
    assert body.remove(("file",)).render() == form(prompt, model)
    assert body.remove(("missing",)) is body
    assert body.remove(("prompt",)).remove(("file",)).remove(("model",)).render() == D + b"--\r\n"
    added = body.remove(("prompt",)).set(("prompt",), "q")
    assert added.render() == form(SOUND, model, Part("prompt", b"q"))
    assert added.value == {"file": body.get("file"), "model": "m", "prompt": "q"}
    assert body.render() == body.raw, "documents are immutable"


def test_lists_are_edited_by_item_or_whole() -> None:
    a, b, model = Part("words[]", b"a"), Part("words[]", b"b"), Part("model", b"m")
    body = read(a, model, b)
    assert body.set(("words[]", 1), "c").render() == form(a, model, Part("words[]", b"c"))
    whole = body.set(("words[]",), ["x", "y", "z"])
    assert whole.render() == form(model, *(Part("words[]", word) for word in (b"x", b"y", b"z")))
    assert whole.get("words[]") == ["x", "y", "z"]
    assert body.remove(("words[]",)).render() == form(model)


def test_a_file_is_never_replaced() -> None:
    with pytest.raises(ValueError, match="file"):
        read(SOUND).set(("file",), "text")


@pytest.mark.parametrize("path", [(), ("a", "b"), ("a", 0), (0,), ("a[]", 0, 0), ("a[]", "x")])
def test_a_place_that_no_form_has_is_an_error(path: Any) -> None:
    with pytest.raises(KeyError):
        read(Part("a", b"1")).set(path, "x")


def test_a_text_that_holds_the_boundary_is_refused_rather_than_sent() -> None:
    body = read(Part("prompt", b"p"), SOUND)
    for edited in (body.set(("prompt",), f"x\r\n{D.decode()}\r\n"), body.set(("new",), D.decode())):
        with pytest.raises(Refusal) as caught:
            edited.render()
        assert caught.value.status == 400


NAMES = st.text("abcXYZ019_.-", min_size=1, max_size=8)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=40)
FILES = st.binary(max_size=60) | st.lists(st.sampled_from([b"\r\n", b"--", b"\r", D[:10], b"\x00"])).map(
    b"".join
)


@st.composite
def forms(draw: st.DrawFn) -> list[Part]:
    parts: list[Part] = []
    for name in draw(st.lists(NAMES, min_size=1, max_size=6, unique_by=str.lower)):
        kind = draw(st.sampled_from(["text", "file", "list"]))
        if kind == "file":
            parts.append(Part(name, draw(FILES), draw(st.sampled_from(["a.wav", "ü €.png", "x;y=z.mp3"]))))
        elif kind == "list":
            parts += [Part(f"{name}[]", draw(TEXTS).encode()) for _ in range(draw(st.integers(1, 3)))]
        else:
            parts.append(Part(name, draw(TEXTS).encode()))
    return draw(st.permutations(parts))


@settings(max_examples=300, deadline=None)
@given(forms(), TEXTS, st.data())
def test_editing_a_field_changes_its_bytes_and_no_others(
    parts: list[Part], text: str, data: st.DataObject
) -> None:
    raw = form(*parts)
    body = MultipartText.read(raw, TYPE)
    assert body.render() == raw
    chosen = data.draw(st.sampled_from(range(len(parts))))
    part = parts[chosen]
    place = sum(1 for other in parts[:chosen] if other.name == part.name)
    path = (part.name, place) if part.name.endswith("[]") else (part.name,)
    if part.filename is not None:
        with pytest.raises(ValueError, match="file"):
            body.set(path, text)
        return
    edited = body.set(path, text)
    before, after = form(*parts[:chosen])[: -len(D) - 4], raw[len(form(*parts[: chosen + 1])) - len(D) - 4 :]
    assert edited.render() == before + part.head + text.encode() + b"\r\n" + after
    assert MultipartText.read(edited.render(), TYPE).value == edited.value
    assert edited.get(*path) == text


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(range(len(GOOD))), st.sampled_from(range(len(GOOD))))
def test_any_bytes_are_read_or_refused(noise: bytes, first: int, last: int) -> None:
    raw = GOOD[: min(first, last)] + noise + GOOD[max(first, last) :]
    try:
        body = MultipartText.read(raw, TYPE)
    except Refusal as refusal:
        assert refusal.status == 400
    else:
        assert body.render() == raw
        assert raw.count(D) == len(body._form.parts) + 1

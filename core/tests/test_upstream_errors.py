"""What each error of an upstream is to the client: one table, one row a status, in every dialect of chat."""

from __future__ import annotations

from typing import Any

import pytest

from lmg.dialects.registry import DIALECTS
from lmg.dialects.wire import Codec, classify
from lmg.testing import Cut, Harness, Wait

KEPT = "kept"
ROWS: list[tuple[int, int, str]] = [
    # the upstream's status, the client's, and the code: the upstream's own where it is kept
    (400, 400, KEPT),
    (401, 502, "upstream_credential"),
    (402, 502, "upstream_credential"),
    (403, 403, KEPT),
    (404, 404, KEPT),
    (408, 408, KEPT),
    (409, 409, KEPT),
    (413, 413, KEPT),
    (418, 418, KEPT),
    (422, 422, KEPT),
    (429, 429, KEPT),
    (500, 502, "some_code"),
    (501, 502, "some_code"),
    (502, 502, KEPT),
    (503, 503, KEPT),
    (504, 504, KEPT),
    (520, 502, "some_code"),
    (529, 503, "some_code"),
    (302, 502, "some_code"),
]
CHAT = {path.decode(): dialect for path, dialect in DIALECTS.items() if isinstance(dialect, Codec)}
ERROR = {"error": {"message": "It failed.", "type": "some_type", "param": "messages", "code": "some_code"}}
REQUESTS: dict[str, dict[str, Any]] = {
    "openai.chat": {"model": "test-model", "messages": [{"role": "user", "content": "x"}]},
    "anthropic.messages": {
        "model": "test-model",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "x"}],
    },
    "openai.responses": {"model": "test-model", "input": "x"},
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("status", "mapped", "code"), ROWS)
@pytest.mark.parametrize("path", CHAT)
async def test_each_status_of_an_upstream(
    path: str, status: int, mapped: int, code: str, stream: bool
) -> None:
    dialect = CHAT[path]
    async with Harness() as gateway:
        gateway.upstream.reply(
            ERROR, status=status, headers=[("retry-after", "7"), ("location", "http://10.0.0.1/x")]
        )
        answer = await gateway.request({**REQUESTS[dialect.name], "stream": stream}, path=path)
    if status == 529 and 529 in dialect.kept_statuses:
        mapped = 529
    assert answer.status == mapped
    error = answer.json["error"]
    if dialect.name != "anthropic.messages":
        assert error["code"] == ("some_code" if code == KEPT else code)
        if code == KEPT:
            assert (error["message"], error["type"], error["param"]) == (
                "It failed.",
                "some_type",
                "messages",
            )
    if code != "upstream_credential":
        assert answer.headers["retry-after"] == "7"
    assert "location" not in answer.headers


@pytest.mark.parametrize("path", CHAT)
async def test_time_outs_are_504_and_unreachable_models_502(path: str) -> None:
    body = REQUESTS[CHAT[path].name]
    settings = {"timeout_ms": 100}
    async with Harness(provider=settings) as gateway:
        gateway.upstream.raw(Wait(5))
        assert (await gateway.request(body, path=path)).status == 504
        gateway.upstream.raw(Cut("rst"))
        assert (await gateway.request(body, path=path)).status == 502


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        (400, "This model's maximum context length is 8192 tokens.", "context_length"),
        (400, '{"code": "context_length_exceeded"}', "context_length"),
        (400, "prompt is too long: 210000 tokens > 200000 maximum", "context_length"),
        (
            400,
            "The input token count (2000000) exceeds the maximum number of tokens allowed",
            "context_length",
        ),
        (400, "Input is too long for requested model.", "context_length"),
        (413, "the request exceeds the available context size: exceed_context_size_error", "context_length"),
        (
            400,
            '{"code": "content_filter", "innererror": {"code": "ResponsibleAIPolicyViolation"}}',
            "content_filter",
        ),
        (400, "Output blocked by content filtering policy", "content_filter"),
        (403, "PROHIBITED_CONTENT", "content_filter"),
        (400, "messages: field required", ""),
        (500, "maximum context length", ""),
        (429, "content_filter", ""),
    ],
)
def test_context_length_and_content_filter_errors_are_classes_of_their_own(
    status: int, text: str, kind: str
) -> None:
    assert classify(status, text.encode()) == kind


@pytest.mark.parametrize("text", ["maximum context length is 8192", "content_filter"])
async def test_their_code_has_one_name_in_every_provider(text: str) -> None:
    async with Harness() as gateway:
        gateway.upstream.reply({"error": {"message": text}}, status=400)
        answer = await gateway.chat()
    expected = "content_filter" if text == "content_filter" else "context_length_exceeded"
    assert (answer.status, answer.error["code"], answer.error["message"]) == (400, expected, text)


async def test_secrets_hosts_and_addresses_are_removed() -> None:
    text = "Key sk-abcdef123456 refused by 10.1.2.3:8000 (http://models.internal/v1), see /etc/mesh/key.pem"
    async with Harness() as gateway:
        gateway.upstream.reply({"error": {"message": text, "code": "sk-abcdef123456"}}, status=400)
        answer = await gateway.chat()
    for secret in ("sk-abc", "10.1.2.3", "models.internal", "/etc/mesh"):
        assert secret not in answer.raw.decode()

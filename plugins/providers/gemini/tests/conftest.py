"""A gateway before a Gemini API that reads every request as strictly as Google's own SDK writes it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from typing import Any

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what the SDK's own dependencies warn of
    from google import genai
    from google.genai import _common, models, types

from lmg.testing import Harness, Received
from lmg_gemini import Gemini

KEY = "AIzaSy0123456789abcdefghijklmnopqrstuvw"
MODEL = "gemini-3.1-pro-preview"
_CLIENT = genai.Client(api_key="unused", http_options={"base_url": "http://127.0.0.1:9"})
_CONFIG = {"systemInstruction", "tools", "toolConfig", "safetySettings", "serviceTier", "store"}
_FREE = {"args", "response", "parametersJsonSchema", "responseJsonSchema"}


def read_request(body: dict[str, Any]) -> Any:
    """The request as the SDK's types have it. What they do not know, what the Gemini API (rather than the vendor's
    other one) does not take, and what the SDK would write differently is an error.
    """
    assert set(body) <= _CONFIG | {"contents", "generationConfig"}, set(body)
    assert "_" not in "".join(_names(body)), "the reference writes names in camel case"
    contents = [types.Content.model_validate_json(json.dumps(content)) for content in body["contents"]]
    for content in contents:
        assert content.role in ("user", "model")
        assert content.parts, "a content without parts"
        for part in content.parts:
            kinds = {"text", "inline_data", "file_data", "function_call", "function_response"}
            assert len(kinds & part.model_fields_set) == 1, part
    settings = {**body.get("generationConfig", {}), **{key: body[key] for key in _CONFIG & body.keys()}}
    config = types.GenerateContentConfig.model_validate_json(json.dumps(settings))
    parameters = types._GenerateContentParameters(model=MODEL, contents=list(contents), config=config)
    written = models._GenerateContentParameters_to_mldev(_CLIENT._api_client, parameters)
    written.pop("_url")
    written = _common.encode_unserializable_types(_common.convert_to_dict(written))
    assert _plain(written) == _plain(body), (written, body)
    return parameters


def _names(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [*value, *(name for key, item in value.items() if key not in _FREE for name in _names(item))]
    return [name for item in value for name in _names(item)] if isinstance(value, list) else []


def _plain(value: Any, key: str = "") -> Any:
    """``value`` in one of its spellings: base64 has two alphabets, and a member that is empty need not be there."""
    if isinstance(value, dict):
        if key in _FREE:
            return value
        return {
            _camel(name): _plain(item, _camel(name)) for name, item in value.items() if item not in ({}, None)
        }
    if isinstance(value, list):
        return [_plain(item, key) for item in value]
    if key in ("data", "thoughtSignature") and isinstance(value, str):
        return value.translate(str.maketrans("-_", "+/")).rstrip("=")
    return value


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.title() for word in rest)


def read(received: Received) -> Any:
    """A request as it came over the wire, with its path."""
    path, _, query = received.path.partition("?")
    assert received.method == "POST"
    assert path.startswith("/v1beta/models/")
    method = path.rpartition(":")[2]
    assert (method, query) in {("generateContent", ""), ("streamGenerateContent", "alt=sse")}, received.path
    assert received.header("x-goog-api-key") == KEY
    assert received.header("authorization") is None
    return read_request(received.json)


class GeminiHarness(Harness):
    """A gateway whose one provider is `gemini`, before the harness's own upstream. What is sent there is read
    strictly when the gateway ends, unless ``strict`` is False.
    """

    def __init__(
        self, settings: dict[str, Any] | None = None, suffix: str = "", strict: bool = True, **more: Any
    ) -> None:
        settings = {"api_key": KEY, "models": [MODEL], **(settings or {})}
        super().__init__(classes={"gemini": Gemini}, models=settings["models"], **more)
        self._settings = settings
        self._suffix = suffix
        self._strict = strict

    def read(self, mesh: Any) -> Any:
        settings = {"endpoint": self.upstream.url + self._suffix, **self._settings}
        return super().read({**mesh, "providers": {"gemini": settings}})

    async def __aexit__(self, *why: object) -> None:
        await super().__aexit__(*why)
        if self._strict and why[0] is None:
            for received in self.upstream.received:
                read(received)


@pytest.fixture
def harness() -> type[GeminiHarness]:
    return GeminiHarness


@pytest.fixture
def strict() -> Callable[[dict[str, Any]], Any]:
    return read_request


def answer_of(
    *parts: dict[str, Any], finish: str | None = "STOP", index: int = 0, **more: Any
) -> dict[str, Any]:
    """A candidate as the API writes it: an index of 0 is left out."""
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": list(parts)}} if parts else {}
    candidate |= {"finishReason": finish} if finish else {}
    return candidate | ({"index": index} if index else {}) | more


def response_of(
    *candidates: dict[str, Any], usage: dict[str, int] | None = None, **more: Any
) -> dict[str, Any]:
    """A ``GenerateContentResponse``; the SDK's types read it before it is used."""
    body: dict[str, Any] = {"candidates": list(candidates)} if candidates else {}
    body["usageMetadata"] = usage or {"promptTokenCount": 9, "candidatesTokenCount": 4, "totalTokenCount": 13}
    body |= {"modelVersion": MODEL, "responseId": "resp-1"} | more
    types.GenerateContentResponse._from_response(
        response=models._GenerateContentResponse_from_mldev(body), kwargs={}
    )
    return body


@pytest.fixture
def candidate() -> Callable[..., dict[str, Any]]:
    return answer_of


@pytest.fixture
def response() -> Callable[..., dict[str, Any]]:
    return response_of

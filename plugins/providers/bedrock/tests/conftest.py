"""An upstream that holds every request against the API's own published model, and answers in its binary frames."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from struct import pack
from typing import Any
from urllib.parse import quote, unquote

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.validate import ParamValidator

from lmg.dialects.form import Chat
from lmg.testing import Harness, Received
from lmg_bedrock import Bedrock, ConverseWire
from lmg_bedrock.families import family_of

ACCESS = "AKIDEXAMPLE0123456789"
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
REGION = "eu-central-1"
CLAUDE = "anthropic.claude-sonnet-4-5-20250929-v1:0"


# -- the published model --------------------------------------------------------------------------


@cache
def service_model() -> ServiceModel:
    return ServiceModel(Loader().load_service_model("bedrock-runtime", "service-2"), "bedrock-runtime")


def check_request(path: str, body: Any) -> str:
    """Fails where ``body`` is not what the published model of the operation allows; returns the model's name."""
    found = re.fullmatch(r"(?:/base)?/model/([^/]+)/(converse|converse-stream)", path)
    assert found, path
    operation = {"converse": "Converse", "converse-stream": "ConverseStream"}[found[2]]
    shape = service_model().operation_model(operation).input_shape
    name = unquote(found[1])
    assert "modelId" not in body
    params = unwired(shape, {**body, "modelId": name})
    report = ParamValidator().validate(params, shape)
    assert not report.has_errors(), report.generate_report()
    problems = list(beyond(shape, params, ""))
    assert not problems, problems
    return name


def unwired(shape: Any, value: Any) -> Any:
    """``value`` as the SDK's callers write it: blobs as bytes. A document is any JSON."""
    if getattr(shape, "is_document_type", False) or value is None:
        return value
    if shape.type_name == "structure":
        members = shape.members
        return {key: unwired(members[key], item) if key in members else item for key, item in value.items()}
    if shape.type_name == "list":
        return [unwired(shape.member, item) for item in value]
    if shape.type_name == "map":
        return {key: unwired(shape.value, item) for key, item in value.items()}
    return base64.b64decode(value, validate=True) if shape.type_name == "blob" else value


def beyond(shape: Any, value: Any, where: str) -> Any:
    """What the SDK's own validator leaves to the service: patterns, enumerations, upper bounds."""
    if getattr(shape, "is_document_type", False):
        return
    meta = shape.metadata
    if shape.type_name == "structure":
        for key, item in value.items():
            yield from beyond(shape.members[key], item, f"{where}.{key}")
    elif shape.type_name == "list":
        for n, item in enumerate(value):
            yield from beyond(shape.member, item, f"{where}[{n}]")
    elif shape.type_name == "map":
        for key, item in value.items():
            yield from beyond(shape.key, key, f"{where}#{key}")
            yield from beyond(shape.value, item, f"{where}.{key}")
    elif shape.type_name == "string":
        pattern = meta.get("pattern")
        if pattern and not re.fullmatch(pattern, value):
            yield f"{where}: {value!r} does not match {pattern}"
        if shape.enum and value not in shape.enum:
            yield f"{where}: {value!r} is none of {shape.enum}"
    size = len(value) if hasattr(value, "__len__") else value
    if "max" in meta and size > meta["max"]:
        yield f"{where}: {size} is over {meta['max']}"


# -- signatures -----------------------------------------------------------------------------------


def check_signature(
    received: Received, url: str, *, secret: str = SECRET, access: str = ACCESS, token: str | None = None
) -> datetime:
    """Recomputes the signature of a request with botocore, from what came over the wire; returns its time."""
    authorization = received.header("authorization") or ""
    found = re.fullmatch(
        r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([a-z0-9-]+)/bedrock/aws4_request, "
        r"SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})",
        authorization,
    )
    assert found, authorization
    key, day, region, signed, signature = found.groups()
    stamp = received.header("x-amz-date") or ""
    assert (key, day) == (access, stamp[:8])
    assert received.header("x-amz-security-token") == token
    names = signed.split(";")
    assert {"content-type", "host", "x-amz-date"} <= set(names)
    assert (token is not None) == ("x-amz-security-token" in names)
    request = AWSRequest("POST", url + received.path, data=received.body)
    for name in names:
        request.headers[name] = received.header(name)
    request.context["timestamp"] = stamp
    auth = SigV4Auth(Credentials(access, secret, token), "bedrock", region)
    assert auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request) == signature
    return datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


# -- frames ---------------------------------------------------------------------------------------


def frame(headers: dict[str, str], payload: bytes) -> bytes:
    """One message of an event stream: prelude, headers of type 7 (string), payload, checksums."""
    head = b"".join(
        pack("!B", len(name)) + name.encode() + b"\x07" + pack("!H", len(value.encode())) + value.encode()
        for name, value in headers.items()
    )
    prelude = pack("!II", 12 + len(head) + len(payload) + 4, len(head))
    message = prelude + pack("!I", zlib.crc32(prelude)) + head + payload
    return message + pack("!I", zlib.crc32(message))


def event(name: str, value: Any) -> bytes:
    """An event as the API sends it, padding included."""
    headers = {":event-type": name, ":content-type": "application/json", ":message-type": "event"}
    return frame(headers, json.dumps({**value, "p": "abcdef"}).encode())


def exception(name: str, message: str) -> bytes:
    headers = {":exception-type": name, ":content-type": "application/json", ":message-type": "exception"}
    return frame(headers, json.dumps({"message": message}).encode())


def delta(n: int, **value: Any) -> bytes:
    return event("contentBlockDelta", {"contentBlockIndex": n, "delta": value})


def call_start(n: int, id_: str, name: str) -> bytes:
    start = {"toolUse": {"toolUseId": id_, "name": name}}
    return event("contentBlockStart", {"contentBlockIndex": n, "start": start})


def block_stop(n: int) -> bytes:
    return event("contentBlockStop", {"contentBlockIndex": n})


USAGE = {"inputTokens": 12, "outputTokens": 7, "totalTokens": 19}


def ending(reason: str = "end_turn", usage: Any = USAGE, **more: Any) -> list[bytes]:
    return [
        event("messageStop", {"stopReason": reason, **more}),
        event("metadata", {"usage": usage, "metrics": {"latencyMs": 5}}),
    ]


def text_stream(*texts: str, reason: str = "end_turn", usage: Any = USAGE) -> list[bytes]:
    """The frames of an answer in text."""
    return [
        event("messageStart", {"role": "assistant"}),
        *(delta(0, text=text) for text in texts),
        block_stop(0),
        *ending(reason, usage),
    ]


def answer(*content: Any, reason: str = "end_turn", usage: Any = USAGE, **more: Any) -> dict[str, Any]:
    """A whole answer, which the published model allows."""
    return {
        "output": {"message": {"role": "assistant", "content": list(content) or [{"text": "Hello!"}]}},
        "stopReason": reason,
        "usage": usage,
        "metrics": {"latencyMs": 5},
        **more,
    }


# -- the gateway ----------------------------------------------------------------------------------


class BedrockHarness(Harness):
    """A gateway whose one provider is `bedrock`; every request that reached the upstream is checked at the end."""

    def __init__(self, settings: dict[str, Any] | None = None, *, suffix: str = "", **more: Any) -> None:
        super().__init__(
            more.pop("mesh", None),
            classes={"bedrock": Bedrock, **more.pop("extra", {})},
            models=["claude"],
            **more,
        )
        keys = {"access_key_id": ACCESS, "secret_access_key": SECRET}
        self._settings = {
            "models": ["claude"],
            "model_map": {"claude": CLAUDE},
            "aws_region": REGION,
            **(keys if settings is None or not {"api_key", "credential_source"} & settings.keys() else {}),
            **(settings or {}),
        }
        self._suffix = suffix
        self.unchecked = False

    def read(self, mesh: Any) -> Any:
        return super().read(
            {
                **mesh,
                "providers": {"bedrock": {"endpoint": self.upstream.url + self._suffix, **self._settings}},
            }
        )

    def streams(self, *frames: bytes, pieces: Sequence[Any] | None = None, **more: Any) -> None:
        """Queues a stream of frames, a write each; ``pieces`` are written as they are."""
        head = [("content-type", "application/vnd.amazon.eventstream"), ("x-amzn-requestid", "req-1")]
        self.upstream.reply(b"", *(frames or pieces or ()), headers=head, framing="chunked", **more)

    def answers(self, *content: Any, **more: Any) -> None:
        """Queues a whole answer."""
        self.upstream.reply(answer(*content, **more), headers=[("x-amzn-requestid", "req-1")])

    async def __aexit__(self, *error: object) -> None:
        url = self.upstream.url
        await super().__aexit__(*error)
        if error and error[0] is not None:
            return
        for received in self.upstream.received:
            check_request(received.path, received.json)
            if (received.header("authorization") or "").startswith("AWS4") and not self.unchecked:
                check_signature(received, url, token=self._settings.get("session_token"))


class Kit:
    """What the tests share."""

    ACCESS, SECRET, REGION, CLAUDE, USAGE = ACCESS, SECRET, REGION, CLAUDE, USAGE
    Harness = BedrockHarness
    check_request = staticmethod(check_request)
    check_signature = staticmethod(check_signature)
    service_model = staticmethod(service_model)
    frame, event, exception = staticmethod(frame), staticmethod(event), staticmethod(exception)
    delta, call_start, block_stop = staticmethod(delta), staticmethod(call_start), staticmethod(block_stop)
    ending, text_stream, answer = staticmethod(ending), staticmethod(text_stream), staticmethod(answer)


@pytest.fixture(scope="session")
def kit() -> type[Kit]:
    return Kit


@pytest.fixture
def sent() -> Callable[..., Any]:
    """What goes upstream for a form and a model, held against the published model."""

    def of(chat: Chat, model: str = CLAUDE) -> Any:
        wire = ConverseWire(family_of(model))
        body = json.loads(json.dumps(wire.encode_request(replace(chat, model=model))))
        for operation in ("converse", "converse-stream"):
            assert check_request(f"/model/{quote(model, safe='')}/{operation}", body) == model
        return body

    return of


@pytest.fixture
def no_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> pytest.MonkeyPatch:
    """An environment in which the AWS SDKs find nothing."""
    import os

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    return monkeypatch


@pytest.fixture
async def bedrock() -> AsyncIterator[Callable[..., Any]]:
    """``await bedrock(settings)`` gives a running ``BedrockHarness`` that ends with the test."""
    running: list[BedrockHarness] = []

    async def start(*args: Any, **more: Any) -> BedrockHarness:
        harness = BedrockHarness(*args, **more)
        await harness.__aenter__()
        running.append(harness)
        return harness

    yield start
    for harness in reversed(running):
        await harness.__aexit__()

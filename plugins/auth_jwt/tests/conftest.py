"""Who signs tokens here, an identity provider that does what it is told, and gateways that trust it."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import cache
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from lmg.testing import Harness
from lmg_auth_jwt import AuthJwt

CLASSES = {"auth_jwt": AuthJwt}
AUDIENCE = "mesh"


def b64(raw: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


@cache
def private_key(kind: str, number: int) -> Any:
    """Making RSA keys takes long: each is made once."""
    if kind == "RSA":
        return rsa.generate_private_key(65537, 2048)
    if kind == "RSA1024":
        return rsa.generate_private_key(65537, 1024)
    if kind == "Ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key(
        {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}[kind]
    )


KINDS = {"RS": "RSA", "PS": "RSA", "ES256": "P-256", "ES384": "P-384", "ES512": "P-521", "EdDSA": "Ed25519"}


class Signer:
    """A private key with its ``kid``; ``token`` is a good token unless it is told otherwise."""

    def __init__(
        self, kid: str | None = "k1", algorithm: str = "ES256", number: int = 1, kind: str = ""
    ) -> None:
        self.kid, self.algorithm = kid, algorithm
        self.private = private_key(kind or KINDS.get(algorithm) or KINDS[algorithm[:2]], number)

    @property
    def jwk(self) -> dict[str, Any]:
        """The public half."""
        public = self.private.public_key()
        reader = {"RS": RSAAlgorithm, "PS": RSAAlgorithm, "ES": ECAlgorithm, "Ed": OKPAlgorithm}[
            self.algorithm[:2]
        ]
        named = {} if self.kid is None else {"kid": self.kid}
        made = reader.to_jwk(public, as_dict=True)
        made.pop("key_ops", None)
        return {**made, **named, "alg": self.algorithm, "use": "sig"}

    def sign(self, header: bytes, payload: bytes) -> str:
        """A token of exactly these bytes."""
        message = f"{b64(header)}.{b64(payload)}"
        verifier = jwt.get_algorithm_by_name(self.algorithm)
        return f"{message}.{b64(verifier.sign(message.encode(), self.private))}"

    def token(self, header: dict[str, Any] | None = None, **claims: Any) -> str:
        """A token; a header or a claim that is None is left out."""
        now = int(time.time())
        stated = {
            "iss": "https://id.example",
            "aud": AUDIENCE,
            "sub": "alice",
            "iat": now,
            "exp": now + 600,
            **claims,
        }
        head = {"alg": self.algorithm, "kid": self.kid, "typ": "JWT", **(header or {})}
        return self.sign(
            *(
                json.dumps({k: v for k, v in part.items() if v is not None}).encode()
                for part in (head, stated)
            )
        )


class IdentityProvider:
    """Serves discovery and keys on loopback, as ``mode`` says; ``received`` is what it was asked for."""

    def __init__(self, *signers: Signer) -> None:
        self.signers = list(signers)
        self.mode = "well"
        self.received: list[str] = []
        self.bodies: list[bytes] = []
        self.answers: dict[str, Any] = {}
        self.asked = asyncio.Event()
        self.held = asyncio.Event()
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def jwks_url(self) -> str:
        return f"{self.url}/jwks"

    def fetches(self, path: str = "/jwks") -> int:
        """How often ``path`` was asked for."""
        return self.received.count(path)

    def token(self, number: int = 0, header: dict[str, Any] | None = None, **claims: Any) -> str:
        """A good token of one of its signers."""
        return self.signers[number].token(header, **{"iss": self.url, **claims})

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def leave(self) -> None:
        """Listens no longer, and closes what is open."""
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        path = head.split(" ")[1]
        lengths = [line for line in head.lower().split("\r\n") if line.startswith("content-length:")]
        body = await reader.readexactly(int(lengths[0].partition(":")[2])) if lengths else b""
        self.received.append(path)
        self.bodies.append(head.encode() + body)
        self.asked.set()
        mode = self.mode
        if mode == "hang":
            await self.held.wait()
        status, extra = "200 OK", ""
        content = json.dumps(self.document(path)).encode()
        if mode == "redirect":
            status, extra, content = "302 Found", f"location: {self.url}/elsewhere\r\n", b""
        elif mode == "garbage":
            content = b"<html>\xff\x00 not json"
        elif mode == "empty":
            content = b'{"keys": []}'
        elif mode == "failing":
            status = "500 Internal Server Error"
        elif mode == "huge":
            content = b'{"keys": [' + b" " * (8 * 2**20)
        elif mode == "compressed":
            extra = "content-encoding: gzip\r\n"
        writer.write(
            f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n{extra}"
            "connection: close\r\n\r\n".encode()
        )
        if mode == "slow":
            for byte in content:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.01)
        else:
            writer.write(content)
        await writer.drain()

    def document(self, path: str) -> Any:
        """What it says at ``path``."""
        if path in self.answers:
            return self.answers[path]
        if path == "/.well-known/openid-configuration":
            return {"issuer": self.url, "jwks_uri": self.jwks_url}
        return {"keys": [signer.jwk for signer in self.signers]}


class Kit:
    """What tests build with: the gateway's helpers are here, for conftest modules are not imported."""

    Signer = Signer
    IdentityProvider = IdentityProvider
    classes = CLASSES
    b64 = staticmethod(b64)

    @staticmethod
    def bearer(token: str) -> dict[str, str]:
        return {"authorization": f"Bearer {token}"}

    @staticmethod
    def static(*signers: Signer, **more: Any) -> dict[str, Any]:
        """An issuer whose keys are configured."""
        keys = [{"jwk": signer.jwk} for signer in signers]
        return {"issuer": "https://id.example", "audience": AUDIENCE, "keys": keys, **more}

    @staticmethod
    def fetched(idp: IdentityProvider, **more: Any) -> dict[str, Any]:
        """An issuer whose keys are fetched, without discovery."""
        return {
            "issuer": idp.url,
            "audience": AUDIENCE,
            "jwks_url": idp.jwks_url,
            "fetch_timeout_s": 0.5,
            **more,
        }

    @staticmethod
    def mesh(*issuers: dict[str, Any], **settings: Any) -> dict[str, Any]:
        return {"pipeline": [{"auth_jwt": {"issuers": list(issuers), **settings}}]}

    @classmethod
    def gateway(
        cls, *issuers: dict[str, Any], clock: Any = None, models: Any = ("test-model",), **settings: Any
    ) -> Harness:
        return Harness(cls.mesh(*issuers, **settings), classes=CLASSES, clock=clock, models=models)

    @staticmethod
    def component(gateway: Harness) -> AuthJwt:
        (found,) = [c for _, c in gateway.process.gateway.pipeline.listed if isinstance(c, AuthJwt)]
        return found


@pytest.fixture
def kit() -> type[Kit]:
    return Kit


@pytest.fixture
async def idp() -> AsyncIterator[IdentityProvider]:
    """An identity provider with one key."""
    provider = IdentityProvider(Signer("k1", "RS256"))
    await provider.start()
    yield provider
    await provider.leave()


@pytest.fixture
def signer() -> Signer:
    return Signer()


@pytest.fixture
def refused() -> Iterator[Callable[[Any], None]]:
    """``refused(answer)``: a 401 that says nothing but that."""

    def check(answer: Any) -> None:
        assert answer.status == 401, answer.raw
        assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'
        assert (answer.error["code"], answer.error["message"]) == (
            "invalid_token",
            "The credential is not valid.",
        )
        assert answer.error["type"] == "invalid_request_error"

    return check

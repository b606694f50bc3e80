"""What single components cost a request, in CPU µs: their `on_request` as the kernel calls it. Prints one JSON object.

    python scripts/bench_tools/components.py

An exchange is made for every call, outside the measured time. What is kept from one request to the next (verified
tokens, decisions) is asked for once before ("cached"), or is new in every call ("uncached").
"""

from __future__ import annotations

import asyncio
import gc
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import count, product
from pathlib import Path
from statistics import median

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from lmg import Exchange, Principal
from lmg.compiler import Step
from lmg.dialects.registry import DIALECTS
from lmg.exchange import Head, Request
from lmg.jsontext import JsonText
from lmg.testing import Harness
from lmg_opa.library import combined, compose

CALLS, ROUNDS = 2_000, 7
CHAT = DIALECTS[b"/v1/chat/completions"]
BODY = JsonText.parse(
    b'{"model":"small","messages":[{"role":"user","content":"Say hello."}],"max_tokens":256}'
)
ROLES = frozenset({"developer"})


def exchanges(gateway: Harness, *headers: tuple[bytes, bytes]) -> Iterator[Exchange]:
    """New ones, with the request read."""
    pipeline = gateway.process.gateway.pipeline
    while True:
        exchange = Exchange(
            gateway.host, pipeline, Head("POST", "/v1/chat/completions", list(headers)), "chat", CHAT, "req_1"
        )
        exchange.request = Request(CHAT, BODY)
        yield exchange


def step_of(gateway: Harness, name: str) -> Step:
    """The component's `on_request`."""
    return next(
        step for step in gateway.process.gateway.pipeline.plan.hooks["on_request"] if step.name == name
    )


async def each(step: Step, prepared: Callable[[], list[Exchange]]) -> float:
    """CPU µs a call, the median of rounds over as many new exchanges."""
    found = []
    for _ in range(ROUNDS):
        asked = prepared()
        gc.collect()
        begin = time.process_time()
        for exchange in asked:
            verdict = await step.call(exchange)
            assert verdict is None, verdict
        found.append((time.process_time() - begin) / len(asked) * 1e6)
    return median(found)


async def tokens() -> dict[str, float]:
    """`auth_jwt` with RS256, and PyJWT alone over the same tokens."""
    key = rsa.generate_private_key(65537, 2048)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    claims = {"iss": "bench", "aud": "mesh", "sub": "ann", "exp": int(time.time()) + 3600}
    issuer = {"issuer": "bench", "audience": "mesh", "keys": [{"pem": public, "algorithm": "RS256"}]}
    many = [jwt.encode({**claims, "jti": str(n)}, key, "RS256") for n in range(ROUNDS * 300)]
    async with Harness({"pipeline": [{"auth_jwt": {"issuers": [issuer]}}]}) as gateway:
        step, left = step_of(gateway, "auth_jwt"), iter(many)

        def bearing(token: str) -> Exchange:
            return next(exchanges(gateway, (b"authorization", b"Bearer " + token.encode())))

        one = jwt.encode(claims, key, "RS256")
        await step.call(bearing(one))
        cached = await each(step, lambda: [bearing(one) for _ in range(CALLS)])
        uncached = await each(step, lambda: [bearing(next(left)) for _ in range(300)])
    begin = time.process_time()
    for token in many[:600]:
        jwt.decode(token, public, ["RS256"], audience="mesh", issuer="bench")
    bare = (time.process_time() - begin) / 600 * 1e6
    return {"jwt_cached": cached, "jwt_uncached": uncached, "jwt_bare": bare}


async def keys(folder: Path) -> dict[str, float]:
    """`auth_keys` with a key that it has issued."""
    settings = {"pepper": "0123456789abcdef" * 4, "database": f"sqlite:///{folder}/keys.sqlite"}
    admin = {
        "pipeline": [
            {
                "auth_static/admin": {
                    "keys": [{"key": "sk-bench-operator", "subject": "op", "scopes": ["admin"]}]
                }
            }
        ]
    }
    async with Harness({"admin": admin, "pipeline": [{"auth_keys": settings}]}) as gateway:
        made = await gateway.request(
            {"subject": "ann"},
            path="/admin/v1/auth_keys/keys",
            headers={"authorization": "Bearer sk-bench-operator"},
        )
        key = made.json["key"].encode()
        head = exchanges(gateway, (b"authorization", b"Bearer " + key))
        return {"keys": await each(step_of(gateway, "auth_keys"), lambda: [next(head) for _ in range(CALLS)])}


DATA = {
    "models_by_role": {"roles": {"developer": ["small"]}},
    "data_residency": {"tenants": {}, "default": ["eu"]},
    "working_hours": {"always": ["developer"], "shifts": []},
}


def written(folder: Path, files: dict[str, str]) -> Path:
    """A policy's folder: its sources, and data under which everybody passes."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.parent.name
        path.write_text(json.dumps(DATA[part]) if path.name == "data.json" and part in DATA else text)
    return folder


async def policies(folder: Path) -> dict[str, float]:
    """`opa` with one policy of the library, and with the four of the shipped example together."""
    access = {
        name.removeprefix("access/"): text for name, text in combined().items() if name.startswith("access/")
    }
    bundles = {
        "one": written(folder / "one", compose(["models_by_role"])),
        "four": written(folder / "four", access),
    }
    found = {}
    for engine, (name, bundle) in product(("regorus_vm", "regorus"), bundles.items()):
        listed = [{"opa": {"bundle": str(bundle), "engine": engine}}]
        async with Harness({"pipeline": listed}, models=["small"], provider={"region": "eu"}) as gateway:
            step, made, number = step_of(gateway, "opa"), exchanges(gateway), count()

            def asking(who: str, made: Iterator[Exchange] = made) -> Exchange:
                exchange = next(made)
                # One of the two reads roles and the other the tenant: each call is new to both.
                exchange.set_fact("principal", Principal("ann", who, ROLES | {who}))
                return exchange

            found[f"{engine}_{name}_cached"] = await each(
                step, lambda: [asking("acme") for _ in range(CALLS)]
            )
            found[f"{engine}_{name}"] = await each(
                step,
                lambda number=number: [asking(f"t{next(number)}") for _ in range(CALLS)],  # type: ignore[misc]
            )
    return found


async def main() -> None:
    """Measures everything."""
    with tempfile.TemporaryDirectory() as folder:
        found = {**await tokens(), **await keys(Path(folder)), **await policies(Path(folder))}
    print(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main())

"""With the real OPA: bundles that it has built and signed, and its server deciding."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from lmg.testing import Harness
from lmg_opa.archive import unpack
from lmg_opa.bundles import bundle_of
from lmg_opa.config import BundleKeyConfig
from lmg_opa.engine import PolicyFault
from lmg_opa.signatures import verify

from .conftest import CLASSES
from .opa_tool import OpaServer, opa

REGO = "package lmg.authz\n\ndefault allow := false\n\nallow if input.x in data.teams.names\n"
DATA = '{"names": ["ann", "Gr\\u00f6\\u00dfe \\u2028 <&>", "\\u0007\\"\\\\ \\b\\f\\t\\u007f \\ud83d\\ude00"], "big": 12345678901234567890, "small": 2.50, "e": 1E400, "n": null, "t": true}'


def private_key() -> tuple[str, str]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return (
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        ).decode(),
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode(),
    )


@pytest.mark.parametrize("data", [DATA.replace("1E400", "1E3"), '{"names": []}'])
def test_a_bundle_that_opa_has_signed_is_taken_and_a_changed_one_is_not(tmp_path: Path, data: str) -> None:
    private, public = private_key()
    (tmp_path / "key.pem").write_text(private)
    source = tmp_path / "src"
    (source / "teams").mkdir(parents=True)
    (source / "policy.rego").write_text(REGO)
    (source / "teams" / "data.json").write_text(data)
    (source / ".manifest").write_text('{"revision": "r-1", "roots": ["lmg", "teams"]}')
    command = [
        opa(), "build", "--bundle", str(source), "--output", str(tmp_path / "b.tar.gz"),
        "--signing-key", str(tmp_path / "key.pem"), "--signing-alg", "RS256", "--verification-key-id", "release",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    files = unpack((tmp_path / "b.tar.gz").read_bytes())
    key = BundleKeyConfig.model_validate({"algorithm": "RS256", "key": public})
    verify(files, {"release": key})
    assert bundle_of(files, packed=True).revision == "r-1"
    for name in files:
        if name != ".signatures.json":
            with pytest.raises(PolicyFault):
                verify({**files, name: files[name].replace(b"a", b"b")}, {"release": key})
    with pytest.raises(PolicyFault):
        verify(files, {"release": BundleKeyConfig.model_validate({"key": private_key()[1]})})


async def test_opas_server_and_the_engine_in_process_bind_the_same_callers_to_the_same(
    policy: Callable[..., str], tmp_path: Path
) -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    rego = readme.partition("```rego\n")[2].partition("```")[0]
    models = {"engineer": ["small", "large"], "intern": ["small"]}
    folder = policy(rego, files={"data.json": json.dumps({"models": models})})

    async def answers(source: dict[str, Any]) -> list[tuple[int, str, list[int]]]:
        mesh = {"pipeline": ["caller", {"opa": {**source, "show_reasons": True}}]}
        seen = []
        async with Harness(
            mesh, classes=CLASSES, models=["small", "large"], provider={"region": "eu"}
        ) as gateway:
            for caller in ("acme/ann/engineer", "other/ann/engineer", "acme/bob/intern", "acme/eve/nobody"):
                for model in ("small", "large", "none"):
                    answer = await gateway.chat(model=model, headers={"x-caller": caller}, max_tokens=9000)
                    message = "" if answer.status == 200 else answer.error["message"]
                    sent = [received.json["max_tokens"] for received in gateway.upstream.received]
                    seen.append((answer.status, message, sent))
        return seen

    with OpaServer(tmp_path / "server", {"access.rego": rego}, {"models": models}) as server:
        asked = await answers({"server": {"url": server.url}, "deadline_ms": 5000})
    assert asked == await answers({"bundle": folder})
    assert {status for status, *_ in asked} == {200, 403}

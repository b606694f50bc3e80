"""A real OpenID provider: installed as locked, started on a free port, ended by its process id."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from lmg.testing.servers import node_scripts

HERE = Path(__file__).parent
CACHE = Path(__file__).resolve().parents[4] / ".cache/oidc"
READY_S = 60.0


@pytest.fixture(scope="session")
def oidc_folder() -> Path:
    """The script beside the provider that it imports."""
    return node_scripts(HERE, CACHE, "auth_jwt is not tested with a real OpenID provider")


class OidcProvider:
    """The provider's process; ``use`` gives it keys, ``token`` gets a token as a client does."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.issuer = ""

    async def _tell(self, said: dict[str, Any]) -> Any:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(said).encode() + b"\n")
        async with asyncio.timeout(READY_S):
            while True:
                line = await self.process.stdout.readline()
                assert line, "the provider ended"
                if line.startswith(b"{"):
                    return json.loads(line)

    async def use(self, *signers: Any) -> None:
        """Signs with the first of ``signers`` from now on, and publishes all."""
        readers = {"RS": RSAAlgorithm, "ES": ECAlgorithm}
        keys = [
            {**readers[one.algorithm[:2]].to_jwk(one.private, as_dict=True), "kid": one.kid, "alg": one.algorithm, "use": "sig"}
            for one in signers
        ]  # fmt: skip
        for key in keys:
            key.pop("key_ops", None)
        self.issuer = (await self._tell({"keys": keys, "alg": signers[0].algorithm}))["issuer"]

    async def count(self, path: str) -> int:
        """How often ``path`` was asked for."""
        return int((await self._tell({"count": True}))["counts"].get(path, 0))

    async def token(self, resource: str | None = None) -> str:
        """An access token by client credentials."""
        form = {"grant_type": "client_credentials", "scope": "chat admin"}
        if resource is not None:
            form["resource"] = resource
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.post(f"{self.issuer}/token", data=form, auth=("app", "app-secret"))
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])


@pytest.fixture
async def oidc(oidc_folder: Path, tmp_path: Path) -> AsyncIterator[OidcProvider]:
    """A running provider, not yet told its keys."""
    with (tmp_path / "provider.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            "node", str(oidc_folder / "provider.mjs"), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=log, env={"PATH": os.environ["PATH"]}, start_new_session=True,
        )  # fmt: skip
    yield OidcProvider(process)
    if process.returncode is None:
        process.kill()
    await process.communicate()
    # Shown by pytest where the test has failed.
    print((tmp_path / "provider.log").read_text()[-4000:])

"""`lmg keys` at the database itself: for whoever has the configuration and its secrets, which is all that it takes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import SystemRandom
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from lmg import AdminCall, ConfigError, Principal, Refusal
from lmg.admin import ADMIN
from lmg.cli.source import find_config, read_blueprint
from lmg.host import Clock

from .admin import Admin, Create, Rotate
from .config import AuthKeysConfig
from .issuing import Issuing
from .plugin import database_of
from .store import KeyStore

__all__ = ["DirectDesk"]

Body = TypeVar("Body", bound=BaseModel)


class DirectDesk:
    """Does what the admin API does, as an operator who may do everything."""

    def __init__(self, config: Path | None, component: str) -> None:
        path = find_config(config)
        if path is None:
            raise ConfigError(
                "there is no mesh.yaml here", hint="--config FILE, or --url of a running gateway"
            )
        blueprint, _ = read_blueprint(path)
        found = [part for part in blueprint.listed if part.name == component]
        if not found or not isinstance(found[0].settings, AuthKeysConfig):
            raise ConfigError(f"the pipeline of {path} lists no '{component}'", hint="--component NAME")
        self._settings: AuthKeysConfig = found[0].settings
        folder = blueprint.config.server.state_dir
        self._url = database_of(self._settings, folder, component)
        if folder is not None and self._settings.database is None:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # the gateway may not have run yet
        self._operator = Principal(f"uid {os.getuid()}", "lmg keys", scopes=frozenset({ADMIN}))

    def create(self, asked: dict[str, Any]) -> dict[str, Any]:
        """A new key; of the tenant ``default`` where none is named."""
        body = _checked(Create, {"tenant": "default", **asked})
        return self._done(lambda admin: admin.create(AdminCall(self._operator, body)))

    def rotate(self, key_id: str, asked: dict[str, Any]) -> dict[str, Any]:
        """Another one in its place."""
        body = _checked(Rotate, asked)
        return self._done(lambda admin: admin.rotate(AdminCall(self._operator, body, params={"id": key_id})))

    def revoke(self, key_id: str) -> dict[str, Any]:
        """Ends it."""
        return self._done(lambda admin: admin.revoke(AdminCall(self._operator, params={"id": key_id})))

    def find(self, asked: dict[str, str]) -> dict[str, Any]:
        """A page."""
        return self._done(lambda admin: admin.find(AdminCall(self._operator, query=asked)))

    def _done(self, work: Callable[[Admin], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
        settings, clock = self._settings, Clock()

        async def done() -> dict[str, Any]:
            store = KeyStore(self._url, settings.timeout_s)
            try:
                await store.prepare()
                issuing = Issuing(store, settings.peppers, clock, SystemRandom(), max_keys=settings.max_keys)
                return await work(Admin(store, issuing, _nobody_to_tell, clock, settings.grace_s))
            finally:
                await store.close()

        return asyncio.run(done())


async def _nobody_to_tell() -> None:
    """Gateways that run will see the change when they poll."""


def _checked(model: type[Body], asked: dict[str, Any]) -> Body:
    try:
        return model.model_validate(asked)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise Refusal(400, "invalid_request", f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}") from None

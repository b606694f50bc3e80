"""Credentials that are no JWT: the authorization server is asked what they are (RFC 7662)."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote_plus

from lmg import Deny, Principal

from .fetching import FetchError, fetch_json
from .refusals import invalid_token, unavailable
from .tokens import TokenFault, check_audience, check_times

if TYPE_CHECKING:
    from lmg import Host

    from .claims import ClaimsReader
    from .config import IntrospectionConfig

__all__ = ["Introspection"]

_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""What a bearer token is made of (RFC 6750, section 2.1)."""


@dataclass(frozen=True, slots=True)
class _Known:
    """An answer: a principal, or why there is none. ``until`` is monotonic, ``expires`` wall-clock time."""

    principal: Principal | None
    why: str
    until: float
    expires: float


class Introspection:
    """Asks once for each token, whoever waits for it; keeps answers briefly, also those that say no."""

    def __init__(self, config: IntrospectionConfig, host: Host, claims: ClaimsReader) -> None:
        self.fault: str | None = None
        self._config = config
        self._host = host
        self._claims = claims
        self._known: dict[bytes, _Known] = {}
        self._flights: dict[bytes, asyncio.Task[_Known | None]] = {}
        self._questions = host.metrics.counter(
            "llm_auth_jwt_introspections_total", "Questions to the introspection endpoint.", ("result",)
        )

    def takes(self, credential: str) -> bool:
        """Whether this can be a bearer token at all."""
        return _TOKEN.fullmatch(credential) is not None

    def known(self, digest: bytes) -> Principal | Deny | None:
        """What a kept answer says; None where there is none that still holds."""
        known = self._known.get(digest)
        if known is None:
            return None
        now = self._host.clock
        if known.until <= now.monotonic() or known.expires <= now.now():
            del self._known[digest]
            return None
        return known.principal or invalid_token(known.why)

    async def ask(self, credential: str, digest: bytes) -> Principal | Deny:
        """What the server says: a principal, 401 where the token is not active, 503 where it does not answer."""
        flight = self._flights.get(digest)
        if flight is None:
            if len(self._flights) >= self._config.max_flights:
                return unavailable("introspection: too many questions at a time")
            flight = self._host.spawn(self._question(credential, digest), name="auth_jwt:introspection")
            self._flights[digest] = flight
            flight.add_done_callback(lambda _: self._flights.pop(digest, None))
        # Who leaves does not end it for the others.
        await asyncio.wait({flight})
        known = None if flight.cancelled() or flight.exception() is not None else flight.result()
        if known is None:
            return unavailable(f"introspection: {self.fault or 'no answer'}")
        return known.principal or invalid_token(known.why)

    async def stop(self) -> None:
        """Ends what is under way."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        if flights:
            await asyncio.wait(flights)

    async def _question(self, credential: str, digest: bytes) -> _Known | None:
        config = self._config
        form = {"token": credential, "token_type_hint": "access_token"}
        headers = {}
        secret = config.client_secret.get_secret_value()
        if config.auth == "post":
            form |= {"client_id": config.client_id, "client_secret": secret}
        else:
            # RFC 6749, section 2.3.1: each is form-encoded before they are joined.
            pair = f"{quote_plus(config.client_id)}:{quote_plus(secret)}"
            headers["authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        try:
            answer = await fetch_json(
                self._host,
                config.endpoint,
                timeout_s=config.timeout_s,
                max_bytes=config.max_fetch_bytes,
                form=form,
                headers=headers,
            )
            if not isinstance(answer, dict) or not isinstance(answer.get("active"), bool):
                raise FetchError("the answer does not say whether the token is active")
        except FetchError as fault:
            self.fault = str(fault)
            self._questions.inc(("failed",))
            return None
        self.fault = None
        known = self._judged(answer)
        self._questions.inc(("active" if known.principal is not None else "inactive",))
        self._keep(digest, known)
        return known

    def _judged(self, answer: Mapping[str, Any]) -> _Known:
        config, clock = self._config, self._host.clock
        until = clock.monotonic() + config.cache_s
        try:
            if answer["active"] is not True:
                raise TokenFault("not active")
            if config.issuer and answer.get("iss", config.issuer) != config.issuer:
                raise TokenFault("iss is another issuer")
            if config.audiences is not None:
                check_audience(answer.get("aud"), config.audiences)
            expires = check_times(answer, config.leeway_s, clock.now(), required=False)
            principal = self._claims.principal(answer, expires if "exp" in answer else None)
        except TokenFault as fault:
            return _Known(None, f"introspection: {fault.why}", until, clock.now() + config.cache_s)
        return _Known(principal, "", until, expires + config.leeway_s)

    def _keep(self, digest: bytes, known: _Known) -> None:
        if self._config.cache_s == 0:
            return
        if len(self._known) >= self._config.max_tokens and digest not in self._known:
            del self._known[next(iter(self._known))]
        self._known[digest] = known

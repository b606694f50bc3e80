"""The admin routes of `auth_jwt`: the state of its issuers, and tokens that are denied at run time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from lmg import AdminRoute, Refusal, ServiceError

if TYPE_CHECKING:
    from lmg.admin import AdminCall

    from .revocation import Denied

__all__ = ["DeniedToken", "routes"]


class DeniedToken(BaseModel):
    """What `POST denied` takes."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    jti: str = Field(..., min_length=1, max_length=256, description="The token's `jti`.")
    ttl_s: float = Field(
        86_400.0, gt=0, le=30 * 86_400, description="For how long: as long as the token would live."
    )


def routes(state: Callable[[], dict[str, Any]], denied: Denied) -> list[AdminRoute]:
    """``GET issuers`` shows their keys, ``POST denied`` denies a token for all replicas."""

    async def issuers(call: AdminCall) -> Any:
        return state()

    async def deny(call: AdminCall) -> Any:
        if not denied.shared:
            raise Refusal(409, "not_shared", "Set 'denied: {shared: true}', or list it in the configuration.")
        try:
            await denied.deny(call.body.jti, call.body.ttl_s)
        except ServiceError:
            raise Refusal(
                503, "store_unavailable", "The counter store is gone.", type="server_error"
            ) from None
        return {"denied": True, "seen_within_s": denied.recheck_s}

    return [AdminRoute("GET", "issuers", issuers), AdminRoute("POST", "denied", deny, DeniedToken)]

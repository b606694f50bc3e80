"""The hooks: each docstring is the reference page of its hook.

The first eight are steps of an exchange's life and are compiled into plain tuples at start; the last two
are set-up hooks, called through pluggy. A component implements a hook by having a method of its name and
parameters; sync and async implementations both work.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Generator, Sequence
from typing import TYPE_CHECKING, Any, Final

import pluggy

from .exchange import Attempt, Exchange, Failure, Outcome, Response, Target
from .verdicts import Deny, Next, Resume, Retry, Stop, Verdict

if TYPE_CHECKING:
    from .admin import AdminRoute
    from .component import Health
    from .streams import StreamFilter

__all__ = ["LIFE_HOOKS", "REVERSED", "SETUP_HOOKS", "Hooks", "hookspec"]

hookspec = pluggy.HookspecMarker("lmg")

LIFE_HOOKS: Final = (
    "on_request", "on_route", "on_attempt", "on_failure", "on_stream", "on_response", "on_settle", "on_end",
)  # fmt: skip
SETUP_HOOKS: Final = ("admin_routes", "health")
REVERSED: Final = frozenset({"on_stream", "on_response", "on_settle", "on_end"})


class Hooks:
    """The specifications that every component's methods are checked against at start."""

    @hookspec
    def on_request(self, exchange: Exchange) -> Verdict | None | Awaitable[Verdict | None]:
        """Authenticate, authorize, limit, inspect, rewrite.

        Fires once per exchange, in list order. A component that does not require the fact ``body`` (and
        stands above the first that does) sees the head alone: the body has not been read.

        Returns nothing to go on, ``Deny`` to refuse, ``Answer`` to answer without an upstream, ``Later`` to
        go on while a check runs. Edits take effect when the hook returns. An exception or a timeout drops
        them and is a 503 under ``on_error: deny``.

        Example::

            def on_request(self, exchange):
                if exchange.principal.tenant in self.config.suspended:
                    return Deny(403, "tenant_suspended", "This tenant is suspended.")
        """

    @hookspec
    def on_route(
        self, exchange: Exchange, targets: Sequence[Target]
    ) -> Sequence[Target] | Deny | Awaitable[Sequence[Target] | Deny]:
        """Drop and rank targets.

        Fires once, in list order, as a fold: each is given what the one before it returned; the first may be given
        nothing, where no provider names the model (``exchange.offered()`` has all that there is). Drops are
        explained with ``exchange.drop(target, reason, status)``; an empty list is refused with the status
        of the last drop. Has no side effects, so that ``lmg explain`` can run it. An exception is a 503 under
        ``on_error: deny``; under ``allow`` the list stays as it was.

        Example::

            def on_route(self, exchange, targets):
                return sorted(targets, key=lambda target: target.priority)
        """

    @hookspec
    def on_attempt(
        self, exchange: Exchange, attempt: Attempt
    ) -> Generator[None, Outcome, None] | AsyncGenerator[None, Outcome]:
        """Stand around one try at one target: a generator that yields exactly once.

        Fires for each attempt, the first of the list outermost. Before the yield: headers, deadlines,
        reservations; or raise ``Skip(reason)`` to leave this target out, or return a ``Deny`` instead of yielding to
        refuse the exchange. The yield returns the ``Outcome`` exactly once, when the attempt is over: complete,
        failed, cancelled, or skipped by a component further in. Before the yield an exception ends the attempt
        as ``Skip("component_failed")`` under ``on_error: deny``; after it, it is recorded only.

        Example::

            def on_attempt(self, exchange, attempt):
                if not self.state(attempt.target).permit():
                    raise Skip("open")
                outcome = yield
                self.state(attempt.target).record(outcome)
        """

    @hookspec
    def on_failure(
        self, exchange: Exchange, failure: Failure
    ) -> Retry | Next | Resume | Stop | None | Awaitable[Retry | Next | Resume | Stop | None]:
        """Say what now, after an attempt has failed.

        Fires in list order; the first answer wins, None passes the question on, None from all is ``Stop``.
        After commit only ``Resume`` and ``Stop`` are accepted. An answer past the deadline or the ceiling of
        attempts counts as ``Stop``. An exception is ``Stop`` under ``on_error: deny``, else None.

        Example::

            def on_failure(self, exchange, failure):
                if failure.kind == "rate_limited" and failure.targets_left:
                    return Next()
        """

    @hookspec
    def on_stream(
        self, exchange: Exchange
    ) -> StreamFilter | None | Deny | Awaitable[StreamFilter | None | Deny]:
        """Open a filter for the events of an answer.

        Fires once per attempt's answer, in reverse list order, before commit. None means not interested: when
        all say so, bytes pass as they came. A whole answer is fed to the filter as one delta per segment where
        the component has no ``on_response``. An exception, here or in the filter, is a refusal (an error event
        after commit) under ``on_error: deny``; under ``allow`` the filter is bypassed from its retained text on.

        Example::

            def on_stream(self, exchange):
                return Shout() if self.config.loud else None
        """

    @hookspec
    def on_response(
        self, exchange: Exchange, response: Response
    ) -> Verdict | None | Awaitable[Verdict | None]:
        """Review the whole answer, when it was not streamed; an upstream's error text too.

        Fires once, in reverse list order. Returns nothing or ``Deny``. A component without ``on_stream`` is
        given a streamed answer here, assembled, before any of it is sent. An exception is a 503 under
        ``on_error: deny``; under ``allow`` the answer stays as it was before it.

        Example::

            def on_response(self, exchange, response):
                for segment in response.segments():
                    if self.forbidden(segment.text):
                        return Deny(403, "answer_withheld")
        """

    @hookspec
    def on_settle(self, exchange: Exchange) -> None | Awaitable[None]:
        """Price, settle, account: the outcome is known and nothing more will be spent.

        Fires once per exchange, in reverse list order, also for components that the walk did not reach, and
        after a disconnect: awaited, shielded from cancellation, under one deadline for all. Runs before the head
        of a whole answer or refusal and before the terminal event of a stream. An exception under
        ``on_error: deny`` withholds the ending; what was spent stays charged.

        Example::

            async def on_settle(self, exchange):
                await self.budget.settle(exchange.take(self.held), exchange.usage)
        """

    @hookspec
    def on_end(self, exchange: Exchange) -> None:
        """Observe what the client really got.

        Fires exactly once and last, in reverse list order, whatever happened. Synchronous; changes nothing;
        records, and hands to bounded queues. An exception is counted and logged.

        Example::

            def on_end(self, exchange):
                self.requests.inc((exchange.receipt.model, exchange.status))
        """

    # -- set-up -----------------------------------------------------------------------------
    @hookspec
    def admin_routes(self) -> list[AdminRoute]:
        """Routes under ``/admin/v1/`` that this component serves.

        Called once per pipeline. Served where the configuration has ``admin:``; the caller is authenticated, and holds
        the scope ``admin`` or ``admin:<component>``, before a handler runs. Whatever changes something is audited.

        Example::

            def admin_routes(self):
                return [AdminRoute("GET", "keys", self.list_keys)]
        """

    @hookspec
    def health(self) -> Health | None:
        """How this component is: shown by ``/readyz``. None is well.

        Called on each ``/readyz``; answers at once from what it knows. A degraded component does not make the
        gateway unready.

        Example::

            def health(self):
                return None if self.connected else Health("degraded", "store unreachable")
        """


PARAMETERS: Final[dict[str, tuple[str, ...]]] = {
    name: tuple(value.__code__.co_varnames[1 : value.__code__.co_argcount])
    for name, value in vars(Hooks).items()
    if name in (*LIFE_HOOKS, *SETUP_HOOKS)
}


def namespace() -> Any:
    """The object that pluggy reads the specifications from."""
    return Hooks

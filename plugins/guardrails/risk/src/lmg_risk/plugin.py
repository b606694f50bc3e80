"""`risk`: one score from all signals, and what is done about it."""

from __future__ import annotations

import logging
from collections.abc import Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar, Final

from lmg import (
    AdminRoute,
    Component,
    Deny,
    Exchange,
    Health,
    Host,
    Response,
    ServiceError,
    Signal,
    StreamFilter,
)
from lmg.component import Facts

from .admin import Admin
from .answers import AnswerFilter, AnswerReview
from .approvals import Approval, Approvals, Full, Request
from .config import RiskConfig
from .families import USER, Families, directions
from .levels import Decision, Levels, Tenants
from .measures import Measures
from .memory import Memory
from .scores import AdditiveTally, GradedTally, Tally

__all__ = ["Risk"]

log = logging.getLogger("lmg.risk")

FLAG: Final = b"x-lmg-risk"
APPROVAL: Final = b"x-lmg-approval"
_SIZES: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_STOP: Final = (b"x-should-retry", b"false")


class Risk(Component):
    """Scores what the guards have signalled; logs, flags, has redacted, asks a second person, or refuses."""

    Config = RiskConfig
    summary = "one risk score from all signals: thresholds, approval by a second person, session memory"
    stability = "beta"
    provides: ClassVar[Facts] = {"on_request": ("risk", "risk_reasons", "risk_judged")}
    requires: ClassVar[Facts] = {"on_request": ("body",)}
    uses: ClassVar[Facts] = {"on_request": ("principal", "signals")}
    config: RiskConfig

    @classmethod
    def required(cls, config: RiskConfig) -> Facts:
        """Where it reviews answers it needs no body: it may stand above those who read it."""
        return cls.requires if config.reviews == "request" else {}

    @classmethod
    def used(cls, config: RiskConfig) -> Facts:
        """Its place: below whoever signals about requests, above whoever does about answers.

        Where it has others redact, these stand below it, and they are guards that signal themselves: then only
        the operator can say who stands where.
        """
        if config.reviews == "answer":
            return {
                "on_request": ("principal",),
                "on_stream": ("signals",),
                "on_response": ("signals",),
            }
        return cls.uses if not config.redact else {"on_request": ("principal",)}

    def __init__(self, config: RiskConfig, host: Host, name: str) -> None:
        super().__init__(config, host, name)
        self._families = Families(config.all_families)
        self._tenants = Tenants(config)
        self._measures = Measures(host)
        self._of_answers = config.reviews == "answer"
        self._graded = config.score == "graded"
        self._approvals = Approvals(host, name, config.approval)
        self._memory = (
            Memory(host, name, config.memory, self._measures.memory) if config.memory is not None else None
        )
        self._label = (name,)

    # -- requests -------------------------------------------------------------------------------
    def on_request(self, exchange: Exchange) -> Deny | None | Coroutine[Any, Any, Deny | None]:
        """Puts the facts ``risk`` (0 to 1) and ``risk_reasons`` (codes), and does what the score asks for."""
        if self._of_answers:
            return None
        signals = exchange.signals
        if not signals and (self._graded or not self._asks_for_much(exchange)):
            exchange.set_fact("risk", 0.0)
            exchange.set_fact("risk_reasons", ())
            exchange.set_fact("risk_judged", 0)
            self._measures.scores.observe(0.0, self._label)
            return None
        return self._judge(exchange, signals)

    async def _judge(self, exchange: Exchange, signals: tuple[Signal, ...]) -> Deny | None:
        tally = self._tally()
        for signal, direction in zip(signals, directions(exchange, signals), strict=True):
            tally.add(signal, direction)
        if isinstance(tally, AdditiveTally) and self._asks_for_much(exchange):
            tally.saw("max_tokens", USER)
        levels = self._levels(exchange)
        granted = False
        if self._memory is not None and tally.score() > 0:
            granted = await self._answers_approval(exchange)
            if not granted:
                await self._memory.recall(exchange, signals, tally, levels.refuses_above)
        decision = levels.decide(tally)
        exchange.set_fact("risk", decision.score)
        exchange.set_fact("risk_reasons", decision.reasons)
        exchange.set_fact("risk_judged", len(signals))
        self._conclude(exchange, decision)
        return await self._act(exchange, decision, granted=granted)

    async def _act(self, exchange: Exchange, decision: Decision, *, granted: bool) -> Deny | None:
        """Does what the score asks for. What passes because it was ``granted`` uses that up, also where the score would
        do without: it may be the memory, which was not asked, that had raised it.
        """
        if not decision.actions and not granted:
            return None
        with suppress(ValueError):  # a receipt has room for 32 tags
            exchange.tag("risk", f"{decision.score:.3f}")
            exchange.tag("risk_reasons", ",".join(decision.reasons)[:256])
        if "flag" in decision.actions:
            self._flag(exchange, decision)
        if "block" in decision.actions:
            return _blocked(decision)
        if "redact" in decision.actions:
            # Before the approval: it refuses where nobody can redact, and must not have used one up.
            for entity in self.config.redact:
                exchange.oblige(self, f"redact:{entity}")
        if granted or "approval" in decision.actions:
            return await self._approve(exchange, decision)
        return None

    def _tally(self) -> Tally:
        return GradedTally(self._families) if self._graded else AdditiveTally(self.config.additive)

    def _levels(self, exchange: Exchange) -> Levels:
        principal = exchange.principal
        return self._tenants.levels(principal.tenant if principal is not None else "")

    def _asks_for_much(self, exchange: Exchange) -> bool:
        most = self.config.additive.max_tokens_above
        sent = exchange.request.sent
        for name in _SIZES:
            asked = sent.get(name)
            if type(asked) in (int, float) and asked > most:  # type: ignore[operator]
                return True
        return False

    def _flag(self, exchange: Exchange, decision: Decision) -> None:
        value = decision.action if self.config.flag_shows == "level" else f"{decision.score:.2f}"
        if not exchange.committed:
            exchange.reply_header(FLAG, value.encode())

    def _conclude(self, exchange: Exchange, decision: Decision) -> None:
        self._measures.scores.observe(decision.score, self._label)
        if decision.score > 0:
            self._measures.decisions.inc((self.name, decision.action))
        if decision.actions:
            log.info(
                "risk_scored component=%s exchange=%s score=%.3f action=%s reasons=%s",
                self.name, exchange.id, decision.score, decision.action, ",".join(decision.reasons),
            )  # fmt: skip

    # -- approval -------------------------------------------------------------------------------
    async def _approve(self, exchange: Exchange, decision: Decision) -> Deny | None:
        """None where a second person has granted this very request, for this once."""
        if not exchange.enforces(self):
            return _unapproved("")
        request = Request.of(exchange)
        try:
            given = _presented(exchange)
            if given is not None:
                outcome = await self._approvals.use(given, request)
                self._measures.approvals.inc((self.name, "passed" if outcome == "granted" else outcome))
                if outcome == "granted":
                    with suppress(ValueError):
                        exchange.tag("risk_approval", given)
                    return None
            asked, new = await self._approvals.ask(request, self._shown(exchange, decision))
        except Full:
            self._measures.approvals.inc((self.name, "full"))
            return _unavailable("too many approvals are asked for")
        except ServiceError as error:
            self._measures.approvals.inc((self.name, "unavailable"))
            return _unavailable(f"the store is away: {type(error).__name__}")
        if asked.standing == "denied":
            return _denied(asked)
        if new:
            self._measures.approvals.inc((self.name, "asked"))
        return _unapproved(asked.id)

    async def _answers_approval(self, exchange: Exchange) -> bool:
        """Whether this is the repeat of a request that has been granted: no probe, and no more suspicious than it was."""
        given = _presented(exchange)
        if given is None:
            return False
        try:
            return await self._approvals.standing_for(given, Request.of(exchange)) == "granted"
        except ServiceError:
            return False

    def _shown(self, exchange: Exchange, decision: Decision) -> dict[str, Any]:
        """What whoever decides gets to see beside the caller and the model: no text, unless `show_text` says so."""
        segments = list(exchange.request.segments())
        by_role: dict[str, int] = {}
        for segment in segments:
            by_role[segment.role] = by_role.get(segment.role, 0) + len(segment.text)
        shown: dict[str, Any] = {
            "score": decision.score,
            "reasons": list(decision.reasons),
            "body_bytes": len(exchange.request.sent.raw),
            "characters": by_role,
        }
        if self.config.approval.show_text:
            text = "\n".join(segment.text for segment in segments if segment.role in ("user", "tool"))
            shown["text"] = text[-self.config.approval.max_text :]
        return shown

    def admin_routes(self) -> list[AdminRoute]:
        """See ``admin``."""
        return (
            [] if self._of_answers else Admin(self._approvals, self._measures.approvals, self.name).routes()
        )

    def health(self) -> Health | None:
        """Degraded while the store is away: then nothing is remembered, and nothing approved."""
        if self._memory is not None and self._memory.away:
            return Health("degraded", "the counter store is away: there is no memory")
        return None

    # -- answers --------------------------------------------------------------------------------
    def on_stream(self, exchange: Exchange) -> StreamFilter | None:
        """Looks at the signals with every event; where the component reviews requests, nothing."""
        if not self._of_answers:
            return None
        return AnswerFilter(self._review(exchange), _withheld, partial(self._flag, exchange))

    def on_response(self, exchange: Exchange, response: Response) -> Deny | None:
        """Judges what the guards below have signalled about a whole answer."""
        if not self._of_answers:
            return None
        review = self._review(exchange, response)
        blocked = review.look()
        review.end()
        decision = review.decision
        if "flag" in decision.actions:
            self._flag(exchange, decision)
        return _withheld(decision) if blocked else None

    def _review(self, exchange: Exchange, response: Response | None = None) -> AnswerReview:
        judged = exchange.fact("risk_judged")
        whole = judged is None and response is not None and exchange.signals
        answered = (
            frozenset(segment.id for segment in response.segments()) if whole and response else frozenset()
        )
        return AnswerReview(
            exchange, self._tally(), self._levels(exchange), judged, self._conclude, answered
        )  # fmt: skip


def _presented(exchange: Exchange) -> str | None:
    value = exchange.head.get(APPROVAL)
    return value[:64].decode("latin-1").strip() if value else None


def _why(decision: Decision) -> str:
    return f"risk {decision.score:.3f}: {', '.join(decision.reasons)}"


def _blocked(decision: Decision) -> Deny:
    return Deny(403, "risk_blocked", "The request was refused: its risk is too high.", _why(decision), headers=(_STOP,))  # fmt: skip


def _withheld(decision: Decision) -> Deny:
    return Deny(403, "risk_blocked", "The answer was withheld: its risk is too high.", _why(decision), headers=(_STOP,))  # fmt: skip


def _unapproved(id: str) -> Deny:
    named = f" Its approval is {id}: once it is granted, send the very same request again with the header 'x-lmg-approval: {id}'."
    return Deny(
        403, "approval_required", "This request needs the approval of a second person." + (named if id else ""),
        f"approval {id or '(shadow)'}", headers=(_STOP, (APPROVAL, id.encode())) if id else (_STOP,),
    )  # fmt: skip


def _denied(asked: Approval) -> Deny:
    return Deny(
        403, "approval_denied", f"The approval of this request ({asked.id}) was denied.",
        f"approval {asked.id} denied by {asked.decided_by}", headers=(_STOP, (APPROVAL, asked.id.encode())),
    )  # fmt: skip


def _unavailable(why: str) -> Deny:
    return Deny(
        503, "approval_unavailable", "This request needs an approval, which cannot be asked for now.", why, "server_error",
    )  # fmt: skip

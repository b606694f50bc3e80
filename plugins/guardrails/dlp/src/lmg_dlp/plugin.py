"""`dlp`: secrets and confidential data do not leave, on the way in and on the way out, whole or streamed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import ClassVar

from lmg import Component, Deny, Exchange, Host, Request, Response, Segment, StreamFilter
from lmg.component import Facts
from lmg.redaction import Detector

from .canaries import Canaries
from .config import Action, Actions, DlpConfig
from .exact import Dictionary, ExactData
from .filter import DlpFilter
from .findings import Direction, Findings, Policy
from .hidden import INVISIBLE, payloads
from .kinds import SECRET_DETECTORS, SECRET_KINDS
from .links import EXFILTRATION, SUSPICIOUS, Links

__all__ = ["Dlp", "policy_of"]

FACT = "dlp"


class Dlp(Component):
    """Finds secrets, marked and exact data, canaries and channels of exfiltration; blocks, redacts or tags them."""

    Config = DlpConfig
    summary = "secrets and confidential data do not leave: credentials, exact data, canaries, exfiltration"
    stability = "beta"
    requires: ClassVar[Facts] = {"on_request": ("body",)}
    uses: ClassVar[Facts] = {"on_request": ("principal",)}
    provides: ClassVar[Facts] = {
        "on_request": ("signals", FACT),
        "on_response": ("signals",),
        "on_stream": ("signals",),
    }

    def __init__(self, config: DlpConfig, host: Host, name: str) -> None:
        super().__init__(config, host, name)
        self._request: Policy
        self._answer: Policy
        self._findings = host.metrics.counter(
            "lmg_dlp_findings_total",
            "Values that were found, by direction, kind and what became of them.",
            ("component", "direction", "kind", "action"),
        )

    @classmethod
    def carried(cls, config: DlpConfig) -> frozenset[str]:
        """``redact:secret``, ``redact:<kind>`` for what is redacted or blocked on the way in."""
        actions = _actions(config, "request")
        names = {name for name, action in actions.items() if action in ("redact", "block")}
        if names >= SECRET_KINDS:
            names.add("secret")
        return frozenset(f"redact:{name}" for name in names)

    async def start(self) -> None:
        """Opens the dictionaries and makes the detectors.

        Raises:
            BadDictionary: one cannot be used.
        """
        config: DlpConfig = self.config
        exact = {
            one.name: ExactData(Dictionary(one.file, one.key.get_secret_value()), one.name)
            for one in config.exact
        }
        canaries = (
            Canaries([one.value.get_secret_value() for one in config.canaries]) if config.canaries else None
        )
        self._request = policy_of(config, "request", exact, canaries)
        self._answer = policy_of(config, "answer", exact, canaries)

    # -- the way in -------------------------------------------------------------------------------
    def on_request(self, exchange: Exchange) -> Deny | None:
        """Reads every text that the model would read; denies (403), or takes values out."""
        findings = self._open(exchange, self._request)
        denied = self._review(exchange.request, findings)
        for signal in findings.signals():
            exchange.signal(signal)
        exchange.set_fact(FACT, findings.kinds)
        return denied

    # -- the way out -------------------------------------------------------------------------------
    def on_response(self, exchange: Exchange, response: Response) -> Deny | None:
        """Reads every text that the client would read."""
        findings = self._open(exchange, self._answer)
        denied = self._review(response, findings)
        for signal in findings.signals():
            exchange.signal(signal)
        return denied

    def on_stream(self, exchange: Exchange) -> StreamFilter:
        """The same for an answer that comes in pieces; what is decided leaves at once."""
        findings = self._open(exchange, self._answer)

        def report() -> None:
            for signal in findings.signals():
                exchange.signal(signal)

        return DlpFilter(
            findings, lambda text: self._of_signed(findings, text), lambda: self._of_opaque(findings), report
        )

    # -- both ----------------------------------------------------------------------------------------
    def _open(self, exchange: Exchange, policy: Policy) -> Findings:
        principal = exchange.principal

        def count(kind: str, action: str) -> None:
            self._findings.inc((self.name, policy.direction, kind, action))

        return Findings(policy, principal.tenant if principal is not None else "", count)

    def _review(self, whole: Request | Response, findings: Findings) -> Deny | None:
        segments = list(whole.segments())
        readable = [one for one in segments if one.format != "opaque"]
        if len(readable) < len(segments):
            denied = self._of_opaque(findings)
            if denied is not None:
                return denied
        if _clean(readable, findings):
            return None
        for segment in readable:
            denied = self._replace(whole, segment, findings)
            if denied is not None:
                return denied
        return findings.denial()

    def _replace(self, whole: Request | Response, segment: Segment, findings: Findings) -> Deny | None:
        policy = findings.policy
        if policy.watch is not None and policy.watch.search(segment.text):
            findings.add("encoded_payload", "tag")
        if segment.signed:
            return self._of_signed(findings, segment.text) if findings.found_in(segment.text) else None
        text = findings.whole(segment.text, json=segment.format == "json")
        if findings.blocked:
            return findings.denial()
        if text != segment.text:
            whole.replace(segment, text)
        return None

    def _of_opaque(self, findings: Findings) -> Deny | None:
        policy = self.config.uninspected
        if policy == "deny":
            return Deny(
                403, "uninspected_content", "Images, sound and other content that cannot be read for sensitive data are not allowed here.",
                f"{findings.policy.direction}: an opaque segment",
            )  # fmt: skip
        if policy == "tag" and "uninspected" not in findings.kinds:
            findings.add("uninspected", "tag")
        return None

    def _of_signed(self, findings: Findings, text: str) -> Deny | None:
        """A value in what a signature covers cannot be taken out: it ends the exchange, or is signalled."""
        if findings.whole(text) == text:  # it holds only what may pass
            return findings.denial()
        if self.config.signed == "tag":
            findings.add("signed", "tag")
            return findings.denial()
        return findings.denial() or Deny(
            403, "sensitive_data", "A text that cannot be changed holds something that may not leave.",
            f"{findings.policy.direction}: a signed segment",
        )  # fmt: skip


def _clean(segments: Iterable[Segment], findings: Findings) -> bool:
    """Whether there is nothing to be found in any of ``segments``, asked of all at once.

    What detectors find depends on one character beside it, so that texts stand for themselves where a line ends between
    them; JSON does where it holds no escape.
    """
    texts = []
    for segment in segments:
        if segment.format == "json" and "\\" in segment.text:
            return False
        texts.append(segment.text)
    text = "\n".join(texts)
    policy = findings.policy
    if policy.watch is not None and policy.watch.search(text):
        return False
    return not any(
        True for detector in (*policy.first, *policy.detectors) for _ in detector.find(text, 0, len(text))
    )


def _actions(config: DlpConfig, direction: Direction) -> dict[str, Action]:
    """The action for each kind."""

    def of(actions: Actions) -> Action:
        return actions.request if direction == "request" else actions.answer

    answer = direction == "answer"
    return {
        **dict.fromkeys(SECRET_KINDS, of(config.secrets)),
        **{kind: of(actions) for kind, actions in config.kinds.items()},
        **{marker.name: of(marker) for marker in config.markers},
        **{exact.name: of(exact) for exact in config.exact},
        "invisible": of(config.invisible), "hidden_text": of(config.invisible),
        "encoded_payload": config.payloads.answer if answer else config.payloads.request,
        EXFILTRATION: config.exfiltration.answer if answer else "off",
        SUSPICIOUS: config.exfiltration.suspicious_links if answer else "off",
        "canary": "block", "own_canary": config.own_canary if answer else "off",
    }  # fmt: skip


def policy_of(
    config: DlpConfig, direction: Direction, exact: dict[str, ExactData], canaries: Canaries | None
) -> Policy:
    """The detectors and actions of one direction, with the dictionaries and canaries that are open."""
    actions = _actions(config, direction)
    exfiltration = config.exfiltration
    guard = actions[EXFILTRATION] != "off" or actions[SUSPICIOUS] != "off"
    secrets = any(actions[kind] != "off" for kind in SECRET_KINDS)
    detectors: list[Detector] = [canaries] if canaries is not None else []
    detectors += [exact[one.name] for one in config.exact if actions[one.name] != "off"]
    detectors += [one.marker() for one in config.markers if actions[one.name] != "off"]
    detectors += SECRET_DETECTORS if secrets else ()
    if secrets or guard:
        detectors.append(
            Links(guard=guard, allowed=exfiltration.allow_hosts, data_chars=exfiltration.data_chars)
        )
    chars, action = config.payloads.chars, actions["encoded_payload"]
    if action in ("redact", "block"):
        detectors.append(payloads(chars))
    return Policy(
        direction, detectors, actions, config.placeholder, first=[INVISIBLE] if actions["invisible"] != "off" else [],
        tenants=[one.tenant for one in config.canaries],
        watch=re.compile(rf"[A-Za-z0-9+/=_-]{{{chars},}}+") if action == "tag" else None, watch_chars=chars,
    )  # fmt: skip

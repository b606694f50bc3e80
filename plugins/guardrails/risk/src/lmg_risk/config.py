"""The settings of `risk`: how signals become a score, and what happens above which score."""

from __future__ import annotations

import re
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lmg import ComponentConfig

__all__ = [
    "ACTIONS", "DEFAULT_FAMILIES", "Action", "AdditiveConfig", "ApprovalConfig", "Direction", "FamilyConfig", "MemoryConfig",
    "RiskConfig", "ThresholdsConfig",
]  # fmt: skip

Action = Literal["log", "flag", "redact", "approval", "block"]
ACTIONS: Final[tuple[Action, ...]] = ("log", "flag", "redact", "approval", "block")
"""What a score can lead to, the mildest first."""

_NAME: Final = re.compile(r"[a-z0-9_.-]{1,64}")

Direction = Literal["user", "tool", "output"]


def _check_reachable(table: RiskConfig | ThresholdsConfig) -> None:
    """Refuses what is written and can never happen: a second person is not asked about what is blocked anyway."""
    if table.block_above is not None and "approval_above" in table.model_fields_set:
        asked = table.approval_above
        if asked is not None and asked >= table.block_above:
            raise ValueError(
                f"approval_above ({asked}) is never reached: block_above is {table.block_above}; raise that or lower this"
            )


def _check_patterns(setting: str, patterns: list[str]) -> None:
    for pattern in patterns:
        if not 0 < len(pattern) <= 128:
            raise ValueError(f"{setting}: a pattern has 1 to 128 characters")


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class ThresholdsConfig(_Table):
    """Other thresholds for some tenants, some directions, or both. What is not written holds as elsewhere; `null` is never."""

    tenants: list[str] = Field(
        [], max_length=256, description="Names, in which `*` stands for anything; empty: every tenant."
    )
    directions: list[Direction] = Field(
        [],
        description="`user` (text of users, of the system, of earlier turns), `tool` (results, arguments and definitions of tools), `output` (answers); empty: all.",
    )
    log_above: float | None = Field(None, ge=0, le=1, allow_inf_nan=False, description="As above.")
    flag_above: float | None = Field(None, ge=0, le=1, allow_inf_nan=False, description="As above.")
    redact_above: float | None = Field(None, ge=0, le=1, allow_inf_nan=False, description="As above.")
    approval_above: float | None = Field(None, ge=0, le=1, allow_inf_nan=False, description="As above.")
    block_above: float | None = Field(None, ge=0, le=1, allow_inf_nan=False, description="As above.")

    @model_validator(mode="after")
    def _meant(self) -> Self:
        _check_patterns("tenants", self.tenants)
        if not self.written:
            raise ValueError("it states no threshold: write one, as in block_above: 0.5")
        _check_reachable(self)
        return self

    @property
    def written(self) -> frozenset[str]:
        """The thresholds that it states."""
        return frozenset(self.model_fields_set) - {"tenants", "directions"}

    def concerns(self, direction: Direction) -> bool:
        """Whether it is about ``direction``."""
        return not self.directions or direction in self.directions


class FamilyConfig(_Table):
    """How the signals of one kind count together."""

    signals: list[str] = Field(
        min_length=1, description="Names of signals, in which `*` stands for anything."
    )
    weight: float = Field(
        1.0, ge=0, le=1, allow_inf_nan=False, description="Multiplies the weight that each signal has."
    )
    cap: float = Field(
        1.0,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="What all signals of the family together add at most.",
    )
    certain_above: float | None = Field(
        None,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="One signal of a probability above this sets the whole score to `floor` at least.",
    )
    floor: float = Field(1.0, ge=0, le=1, allow_inf_nan=False, description="The least score then.")

    @model_validator(mode="after")
    def _meant(self) -> Self:
        _check_patterns("signals", self.signals)
        return self


DEFAULT_FAMILIES: Final[dict[str, FamilyConfig]] = {
    # A canary is random text that only our own prompt holds: where it shows up there is no doubt.
    "canary": FamilyConfig(signals=["canary*"], certain_above=0.0),
    "injection": FamilyConfig(
        signals=["injection*", "prompt_injection*", "prompt_guard*", "jailbreak*"], certain_above=0.98
    ),
    # Personal data is masked or refused by its own guard; it alone is no attack.
    "pii": FamilyConfig(signals=["pii*"], cap=0.45),
}


class AdditiveConfig(_Table):
    """The documented sum: each kind that is seen adds its number once."""

    jailbreak: float = Field(
        0.4, ge=0, le=1, allow_inf_nan=False, description="What a jailbreak or an injection adds."
    )
    sensitive_data: float = Field(
        0.3, ge=0, le=1, allow_inf_nan=False, description="What sensitive data adds."
    )
    tool_frequency: float = Field(
        0.2, ge=0, le=1, allow_inf_nan=False, description="What calling tools too often adds."
    )
    max_tokens: float = Field(
        0.1, ge=0, le=1, allow_inf_nan=False, description="What a `max_tokens` over `max_tokens_above` adds."
    )
    max_tokens_above: int = Field(
        10_000, ge=1, description="Tokens of output; a request may ask for so many."
    )
    present_from: float = Field(
        0.5,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="The probability from which a signal counts as seen.",
    )
    jailbreak_signals: list[str] = Field(
        ["jailbreak*", "injection*", "prompt_injection*", "prompt_guard*", "canary*"],
        description="The signals that are jailbreaks.",
    )
    sensitive_data_signals: list[str] = Field(
        ["pii*", "secret*", "dlp*", "sensitive*", "exfiltration*"],
        description="The signals that are sensitive data.",
    )
    tool_frequency_signals: list[str] = Field(
        ["tool_frequency*", "tool_abuse*", "tool_guard*", "tool.*"],
        description="The signals that are tool calls in excess.",
    )


class ApprovalConfig(_Table):
    """How a second person lets a request pass."""

    ttl_s: float = Field(
        900.0,
        gt=0,
        le=86_400,
        description="Seconds from the request within which it must be granted and repeated.",
    )
    show_text: bool = Field(
        False, description="Keep the request's text for whoever decides; otherwise only its sizes."
    )
    max_text: int = Field(
        2000, ge=1, le=20_000, description="Characters of it that are kept, from its end, with `show_text`."
    )
    max_open: int = Field(
        1000,
        ge=1,
        le=10_000,
        description="Approvals that can be asked for within `ttl_s`; beyond it the answer is a 503.",
    )
    max_open_per_tenant: int = Field(200, ge=1, description="Of these, those of one tenant.")

    @model_validator(mode="after")
    def _fair(self) -> Self:
        if self.max_open_per_tenant > self.max_open:
            raise ValueError("max_open_per_tenant cannot be more than max_open")
        return self


class MemoryConfig(_Table):
    """What earlier requests add to a later one that has a score of its own. It fades."""

    session_header: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9-]{1,64}$",
        description="The header that names a session; without it, the body's `metadata.user_id` or `user`.",
    )
    half_life_s: float = Field(
        900.0, ge=1, le=604_800, description="Seconds after which an earlier request counts half."
    )
    max_increase: float = Field(
        0.3,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="What memory adds at most (as one more signal of that probability).",
    )
    probe_from: float = Field(
        0.6,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="A score of at least this share of the lowest threshold that refuses counts as probing it.",
    )
    probing: float = Field(
        0.06,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="What each earlier probe of the session or its principal adds.",
    )
    repeated: float = Field(
        0.03,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="What each earlier request with the same family adds.",
    )
    near_duplicate: float = Field(
        0.1,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="What each other principal of the tenant who sent nearly the same text adds.",
    )
    timeout_ms: int = Field(
        50, ge=1, le=1000, description="How long the store may take; past it there is no memory for a second."
    )


class RiskConfig(ComponentConfig):
    """One score from all signals, and what happens above which score."""

    reviews: Literal["request", "answer"] = Field(
        "request",
        description="`request` stands below the guards; `answer` above them, so that answers pass it last.",
    )
    score: Literal["graded", "additive"] = Field(
        "graded",
        description="`graded` is the noisy-or of all signals, 1 - product of (1 - weight * probability); `additive` the sum of `additive`.",
    )
    log_above: float | None = Field(
        0.0, ge=0, le=1, allow_inf_nan=False, description="Write a line to the log (codes, never text)."
    )
    flag_above: float | None = Field(
        None, ge=0, le=1, allow_inf_nan=False, description="Tell the client with the header `x-lmg-risk`."
    )
    redact_above: float | None = Field(
        None, ge=0, le=1, allow_inf_nan=False, description="Oblige what stands below to redact `redact`."
    )
    approval_above: float | None = Field(
        None,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Refuse until a second person approves (403, `approval_required`).",
    )
    block_above: float | None = Field(
        0.5, ge=0, le=1, allow_inf_nan=False, description="Refuse (403, `risk_blocked`)."
    )
    thresholds: list[ThresholdsConfig] = Field(
        [],
        max_length=1000,
        description="Other thresholds by tenant and direction. For each threshold the first that fits and writes it counts.",
    )
    redact: list[str] = Field(
        [], max_length=64, description="The entities that are redacted above `redact_above`, as in `email`."
    )
    flag_shows: Literal["level", "score"] = Field(
        "level", description="What `x-lmg-risk` holds. A score helps whoever probes for the threshold."
    )
    families: dict[str, FamilyConfig] = Field(
        {},
        max_length=48,
        description="Of `graded`: how signals count together. `canary`, `injection` and `pii` are there already; one written here takes its place.",
    )
    additive: AdditiveConfig = Field(AdditiveConfig(), description="Of `additive`: the numbers.")
    approval: ApprovalConfig = Field(ApprovalConfig(), description="How approval works.")
    memory: MemoryConfig | None = Field(
        None, description="Remember who probes, repeats and copies. `{}` for the defaults."
    )

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        _check_reachable(self)
        for name in (*self.redact, *self.families):
            if not _NAME.fullmatch(name):
                raise ValueError(f"'{name[:64]}' is no name: small letters, digits, '_', '-' and '.'")
        tables: list[RiskConfig | ThresholdsConfig] = [self, *self.thresholds]
        redacts = any(table.redact_above is not None for table in tables)
        if redacts and not self.redact:
            raise ValueError("redact_above needs redact: the entities to redact, as in [email]")
        if self.reviews == "answer":
            if redacts or any(table.approval_above is not None for table in tables):
                raise ValueError(
                    "an answer can be flagged or blocked; redact_above and approval_above are for reviews: request"
                )
            if self.memory is not None:
                raise ValueError("memory is of requests: write it where reviews is request")
        if self.score == "additive" and (self.memory is not None or self.families):
            raise ValueError("memory and families belong to score: graded; additive is the documented sum")
        return self

    @property
    def all_families(self) -> dict[str, FamilyConfig]:
        """The families as they count: those that are written first."""
        return {
            **self.families,
            **{name: one for name, one in DEFAULT_FAMILIES.items() if name not in self.families},
        }

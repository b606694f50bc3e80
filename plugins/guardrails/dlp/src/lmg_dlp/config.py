"""The configuration of `dlp`: what is looked for, and what becomes of it on the way in and on the way out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator

from lmg import ComponentConfig

from .canaries import MIN_LENGTH, folded
from .kinds import SECRET_KINDS
from .markers import BadPattern, Marker, pattern_marker, word_marker

__all__ = [
    "Action",
    "Actions",
    "CanaryConfig",
    "DlpConfig",
    "ExactConfig",
    "ExfiltrationConfig",
    "MarkerConfig",
    "PayloadsConfig",
]


def _off(value: object) -> object:
    return "off" if value is False else value  # YAML reads `off` as false


Action = Annotated[Literal["block", "redact", "tag", "off"], BeforeValidator(_off)]
_NAME = r"^[a-z][a-z0-9_]{0,47}$"


class Actions(ComponentConfig):
    """`block` refuses, `redact` puts a placeholder in its place, `tag` lets it through and signals it, `off` does nothing."""

    request: Action = Field("redact", description="What becomes of it on the way to the model.")
    answer: Action = Field("redact", description="What becomes of it on the way to the client.")


class MarkerConfig(Actions):
    """Words or a pattern that say: this is internal."""

    name: str = Field(..., pattern=_NAME, description="The kind that it is found as.")
    words: list[str] = Field(
        default_factory=list,
        max_length=1000,
        description="Words and phrases, found whole, in any case, with any white space, `-` or `_` between their words.",
    )
    pattern: str = Field(
        "",
        max_length=500,
        description="A regular expression of characters, classes, alternatives and bounded repeats (`{1,16}`, not `*` or `+`); "
        "`\\b` at its ends.",
    )
    ignore_case: bool = Field(
        False, description="Whether the pattern finds capitals and small letters alike."
    )

    @model_validator(mode="after")
    def _searchable(self) -> MarkerConfig:
        if bool(self.words) == bool(self.pattern):
            raise ValueError("a marker has either words or a pattern")
        try:
            self.marker()
        except BadPattern as error:
            raise ValueError(f"{'pattern' if self.pattern else 'words'}: {error}") from None
        return self

    def marker(self) -> Marker:
        """The detector."""
        if self.pattern:
            return pattern_marker(self.name, self.pattern, ignore_case=self.ignore_case)
        return word_marker(self.name, self.words)


class ExactConfig(Actions):
    """Values of your own, from a dictionary that `python -m lmg_dlp.build` makes."""

    name: str = Field(..., pattern=_NAME, description="The kind that they are found as.")
    file: Path = Field(..., description="The dictionary.")
    key: SecretStr = Field(SecretStr(""), description="The secret key that it was made with (`--key-env`).")


class ExfiltrationConfig(ComponentConfig):
    """Addresses in answers that carry data to hosts that you do not know."""

    answer: Action = Field(
        "block",
        description="What becomes of an image, or a link, that carries data which can be told to be data.",
    )
    suspicious_links: Action = Field(
        "tag",
        description="What becomes of a link, which a user would have to follow, with something at random in it.",
    )
    allow_hosts: list[str] = Field(
        default_factory=list,
        max_length=10_000,
        description="Hosts that may be told anything, with `*` for any text: `docs.acme.example`, `*.acme.example`.",
    )
    data_chars: int = Field(
        24, ge=12, le=1000, description="From how many characters on something at random is taken for data."
    )


class PayloadsConfig(ComponentConfig):
    """Long runs of base64 or hexadecimal."""

    request: Action = Field("off", description="What becomes of them on the way to the model.")
    answer: Action = Field("tag", description="What becomes of them on the way to the client.")
    chars: int = Field(256, ge=64, le=4096, description="From how many characters on a run is meant.")


class CanaryConfig(ComponentConfig):
    """A string that stands in the prompts of one tenant alone (`python -m lmg_dlp.canary` makes one)."""

    tenant: str = Field(..., min_length=1, max_length=256, description="Whose it is.")
    value: SecretStr = Field(
        ..., description=f"The string: at least {MIN_LENGTH} letters and digits, at random."
    )

    @field_validator("value")
    @classmethod
    def _long(cls, value: SecretStr) -> SecretStr:
        if len(folded(value.get_secret_value())) < MIN_LENGTH or len(value.get_secret_value()) > 128:
            raise ValueError(
                f"a canary has at least {MIN_LENGTH} letters and digits, and at most 128 characters"
            )
        return value


class DlpConfig(ComponentConfig):
    """Secrets and confidential data do not leave."""

    secrets: Actions = Field(
        default_factory=lambda: Actions(request="redact", answer="redact"),
        description="Credentials of every kind.",
    )
    kinds: dict[str, Actions] = Field(
        default_factory=dict, description="Other actions for some kinds of secrets: `{jwt: {request: tag}}`."
    )
    markers: list[MarkerConfig] = Field(
        default_factory=list, max_length=100, description="Your own words and patterns."
    )
    exact: list[ExactConfig] = Field(
        default_factory=list, max_length=20, description="Your own data, by dictionaries of hashes."
    )
    exfiltration: ExfiltrationConfig = Field(
        default_factory=ExfiltrationConfig, description="Addresses in answers that carry data out."
    )
    invisible: Actions = Field(
        default_factory=lambda: Actions(request="redact", answer="redact"),
        description="Characters that nobody sees: tag characters, zero-width ones, changes of direction. `redact` takes them out.",
    )
    payloads: PayloadsConfig = Field(default_factory=PayloadsConfig, description="Long runs of encoded data.")
    canaries: list[CanaryConfig] = Field(
        default_factory=list, max_length=10_000, description="Strings that tell whose data it is."
    )
    own_canary: Action = Field(
        "tag",
        description="What becomes of the caller's own canary in an answer: its prompt is being repeated.",
    )
    placeholder: str = Field(
        "[redacted:{kind}]",
        max_length=64,
        description="What stands in the place of a value; `{kind}` is its kind.",
    )
    uninspected: Literal["deny", "allow", "tag"] = Field(
        "deny", description="What becomes of what cannot be read: images, sound, encrypted items."
    )
    signed: Literal["deny", "tag"] = Field(
        "deny",
        description="What becomes of a text that a signature covers (a model's thinking) where a value in it should have been taken out.",
    )

    @field_validator("kinds")
    @classmethod
    def _known(cls, kinds: dict[str, Actions]) -> dict[str, Actions]:
        for kind in kinds:
            if kind not in SECRET_KINDS:
                raise ValueError(
                    f"'{kind}' is no kind of secret; there are {', '.join(sorted(SECRET_KINDS))}"
                )
        return kinds

    @model_validator(mode="after")
    def _named_once(self) -> DlpConfig:
        names = [*(one.name for one in self.markers), *(one.name for one in self.exact)]
        for name in names:
            if names.count(name) > 1 or name in SECRET_KINDS:
                raise ValueError(f"'{name}' names more than one kind")
        values = [folded(one.value.get_secret_value()) for one in self.canaries]
        if len(values) != len(set(values)):
            raise ValueError("canaries: one value stands for two tenants")
        return self

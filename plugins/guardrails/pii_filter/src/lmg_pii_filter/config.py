"""The configuration of `pii_filter`: what is looked for, and what becomes of it on the way out and on the way back."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Final, Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from lmg import ComponentConfig

from .entities import ENTITIES, GROUPS, Action

__all__ = ["EntityPolicy", "PiiFilterConfig"]

DEFAULT_REGIONS: Final = ["US", "GB", "FR", "DE", "ES", "PT", "BR", "CN", "IT", "NL", "PL"]


class EntityPolicy(ComponentConfig):
    """What becomes of one entity; what is not set is as for all."""

    action: Action | None = Field(None, description="What becomes of it in requests.")
    output: Action | None = Field(
        None, description="What becomes of it where the model has written it; absent: as in requests."
    )


class PiiFilterConfig(ComponentConfig):
    """Personal data is found in requests and answers; what becomes of it is said for all, or for each entity."""

    entities: list[str] | dict[str, Action | EntityPolicy] = Field(
        ["email", "phone", "card", "iban", "ip", "national_id", "date_of_birth"],
        description="What is looked for: a list of names, or a table of names with an action (`{card: block}`) or with both actions (`{email: {action: mask, output: tag}}`). `national_id` stands for all numbers of persons and companies.",
    )
    action: Action = Field(
        "mask",
        description="What becomes of it in requests: `mask` (a placeholder, the same in every turn), `hash` (the same in all conversations of a tenant), `redact` (its name), `block` (403), `tag` (it passes; a signal says so), `off`.",
    )
    output: Action | None = Field(
        None, description="What becomes of it where the model has written it itself; absent: as in requests."
    )
    reversible: bool = Field(
        True, description="Whether placeholders in the answer become the values again that they stand for."
    )
    secret: SecretStr | None = Field(
        None,
        description="At least 16 characters: placeholders and hashes are made with it, and what is kept is encrypted with it. Absent: a random one for each process; then nothing is kept between requests, and hashes differ between workers.",
    )
    conversation_ttl_s: float = Field(
        86_400.0,
        gt=0,
        le=30 * 86_400,
        description="How long the values of a conversation that the upstream keeps (`previous_response_id`) can be restored. Needs `secret`.",
    )
    phone_regions: list[str] = Field(
        DEFAULT_REGIONS,
        description="Countries whose national telephone numbers are found without a word that says what they are.",
    )
    allow: list[str] = Field(
        default_factory=list,
        max_length=1000,
        description="Values that are let be; `*` matches any run of characters, case does not matter.",
    )
    signed: Literal["deny", "allow"] = Field(
        "deny",
        description="Text that a signature covers cannot be changed: whether it may pass with personal data in it that would have been.",
    )
    uninspected: Literal["deny", "allow", "tag"] = Field(
        "deny",
        description="What cannot be read (images, sound, encrypted items): refused, let through, or let through with a signal.",
    )
    max_chars: int = Field(
        2_000_000,
        gt=0,
        description="Characters of all texts of a request together; what holds more is refused (413), for it would keep others waiting.",
    )
    signal_weight: float = Field(0.2, ge=0, le=1, description="The weight of the signals `pii`.")

    @field_validator("entities")
    @classmethod
    def _known(
        cls, value: list[str] | dict[str, Action | EntityPolicy]
    ) -> list[str] | dict[str, Action | EntityPolicy]:
        for name in value:
            if name not in ENTITIES and name not in GROUPS:
                near = get_close_matches(name, [*ENTITIES, *GROUPS], 1)
                hint = (
                    f"did you mean '{near[0]}'?" if near else f"known are {', '.join([*ENTITIES, *GROUPS])}"
                )
                raise ValueError(f"'{name}' is not an entity; {hint}")
        if not value:
            raise ValueError("nothing is looked for: name at least one entity")
        return value

    @field_validator("secret")
    @classmethod
    def _long(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < 16:
            raise ValueError("the secret must have at least 16 characters")
        return value

    @field_validator("phone_regions")
    @classmethod
    def _regions(cls, value: list[str]) -> list[str]:
        from phonenumbers import SUPPORTED_REGIONS

        for region in value:
            if region not in SUPPORTED_REGIONS:
                raise ValueError(f"'{region}' is not a country of two letters, as in 'DE'")
        return value

    @model_validator(mode="after")
    def _fits(self) -> PiiFilterConfig:
        incoming, _ = self.actions()
        if "reversible" in self.model_fields_set and self.reversible and "mask" not in incoming.values():
            raise ValueError("reversible is for masked entities, and no entity has the action mask")
        if "conversation_ttl_s" in self.model_fields_set and self.secret is None:
            raise ValueError("conversation_ttl_s needs secret: without one nothing is kept")
        return self

    def actions(self) -> tuple[dict[str, Action], dict[str, Action]]:
        """The action of each entity in requests, and where the model has written it; those that are off are left out.

        A name of its own goes before a group's.
        """
        incoming: dict[str, Action] = {}
        outgoing: dict[str, Action] = {}
        named = dict.fromkeys(self.entities) if isinstance(self.entities, list) else self.entities
        for name, said in sorted(named.items(), key=lambda item: item[0] not in GROUPS):
            policy = said if isinstance(said, EntityPolicy) else EntityPolicy(action=said)
            action = policy.action or self.action
            output = (
                policy.output or (self.output if policy.action is None or self.output else None) or action
            )
            for entity in GROUPS.get(name, (name,)):
                incoming[entity], outgoing[entity] = action, output
        return (
            {entity: action for entity, action in incoming.items() if action != "off"},
            {entity: action for entity, action in outgoing.items() if action != "off"},
        )

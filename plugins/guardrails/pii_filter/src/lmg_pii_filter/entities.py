"""The kinds of personal data, by name, and which of them belong together."""

from __future__ import annotations

from typing import Final, Literal, get_args

__all__ = ["ENTITIES", "GROUPS", "NATIONAL_IDS", "Action", "Entity", "label"]

Entity = Literal[
    "email", "phone", "card", "iban", "ip", "date_of_birth",
    "cpf", "cnpj", "ssn", "nir", "dni", "steuer_id", "cn_id", "nino", "bsn", "pesel", "codice_fiscale", "nif",
]  # fmt: skip
Action = Literal["mask", "hash", "redact", "block", "tag", "off"]

ENTITIES: Final[tuple[str, ...]] = get_args(Entity)
NATIONAL_IDS: Final = (
    "cpf", "ssn", "nir", "dni", "steuer_id", "cn_id", "nino", "bsn", "pesel", "codice_fiscale", "nif", "cnpj",
)  # fmt: skip
GROUPS: Final = {"national_id": NATIONAL_IDS}
"""Names that stand for several."""


def label(entity: str) -> str:
    """The entity's name in a placeholder: letters only, so that nothing is lost where a model escapes underscores."""
    return entity.upper().replace("_", "")

"""Capabilities, from the map of models in the wheel of `litellm`; the wheel is read, never imported."""

from __future__ import annotations

import json
import re
import zipfile
from datetime import date
from pathlib import Path
from typing import Any, Final

from .tables import Json

__all__ = ["capability_table", "read_map"]

_FILE: Final = "litellm/model_prices_and_context_window_backup.json"
_FIELDS: Final = (
    "supports_function_calling",
    "supports_vision",
    "supports_response_schema",
    "supports_reasoning",
)
_MODES: Final = {"chat": "chat", "responses": "chat", "completion": "chat", "embedding": "embeddings"}
# Their provider, and the vendor that it is in the table of prices.
_VENDORS: Final = {
    "anthropic": "anthropic", "azure": "azure", "azure_ai": "azure", "bedrock": "aws", "bedrock_converse": "aws",
    "cohere": "cohere", "cohere_chat": "cohere", "dashscope": "dashscope", "deepseek": "deepseek", "gemini": "google", "groq": "groq", "minimax": "minimax", "mistral": "mistral", "moonshot": "moonshotai",
    "openai": "openai", "together_ai": "together", "voyage": "voyageai", "xai": "x-ai", "zai": "zai",
}  # fmt: skip
_REGION: Final = re.compile(r"^(us|eu|apac|au|ca|jp|sa|us-gov|global)\.")
_SIZES: Final = re.compile(r"^\d+-x-\d+/|/\d+-month|^bedrock/|/(eu|us|global|global-standard)/")


def read_map(path: Path) -> tuple[Json, str]:
    """The map, and where it is from: of a wheel of litellm, or of the JSON file itself."""
    if path.suffix != ".whl":
        return json.loads(path.read_text(encoding="utf-8")), path.name
    with zipfile.ZipFile(path) as wheel:
        return json.loads(wheel.read(_FILE)), " ".join(path.name.split("-")[:2])


def capability_table(models: Json, origin: str, day: date) -> Json:
    """What each vendor's models can do: context, longest output, then the flags of ``columns``."""
    vendors: dict[str, dict[str, list[Any]]] = {vendor: {} for vendor in sorted(set(_VENDORS.values()))}
    for name, model in sorted(models.items()):
        if not isinstance(model, dict) or model.get("mode") not in _MODES or _SIZES.search(f"/{name}"[1:]):
            continue
        vendor = _VENDORS.get(str(model.get("litellm_provider")))
        if vendor is not None:
            rows = vendors[vendor]
            rows.setdefault(_bare(name, str(model["litellm_provider"])), _row(model))
    for rows in vendors.values():
        # A region's row that says nothing new is found by the name without the region.
        for name in [name for name in rows if _REGION.match(name)]:
            if rows.get(_REGION.sub("", name)) == rows[name]:
                del rows[name]
    return {
        "format": 1,
        "columns": [
            "context_tokens",
            "max_output_tokens",
            "tools",
            "vision",
            "json_schema",
            "reasoning",
            "operation",
        ],
        "date": day.isoformat(),
        "source": f"{origin}, MIT, see NOTICE",
        "vendors": {vendor: {"models": dict(sorted(rows.items()))} for vendor, rows in vendors.items()},
    }


def _bare(name: str, provider: str) -> str:
    """The name as the vendor itself has it."""
    prefix = {"cohere_chat": "cohere"}.get(provider, provider)
    return name.removeprefix(f"{prefix}/").lower()


def _row(model: Json) -> list[Any]:
    limits = [_tokens(model.get("max_input_tokens")), _tokens(model.get("max_output_tokens"))]
    flags = [value if isinstance(value := model.get(field), bool) else None for field in _FIELDS]
    return [*limits, *flags, _MODES[model["mode"]]]


def _tokens(value: object) -> int | None:
    return (
        int(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else None
    )

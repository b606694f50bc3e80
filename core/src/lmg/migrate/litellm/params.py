"""The parameters of a deployment that no provider takes, and what becomes of each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from ..notes import Notes, Path
from .facts import FACTS

__all__ = ["WAITS", "note_params"]

# Read elsewhere, or without a meaning of their own.
_READ: Final = FACTS | {
    "model", "api_base", "base_url", "api_key", "timeout", "stream_timeout", "order", "organization", "aws_region_name", "region_name",
    "aws_bedrock_runtime_endpoint", "extra_headers", "custom_llm_provider", "litellm_credential_name",
}  # fmt: skip
_READ_INFO: Final = FACTS | {
    "id", "mode", "description", "db_model", "created_at", "created_by", "updated_at", "updated_by", "litellm_provider", "max_tokens",
    "version", "health_check_model", "supports_system_messages", "supports_parallel_function_calling", "supports_prompt_caching",
}  # fmt: skip
WAITS: Final = {
    "rpm": "rate_limit", "tpm": "rate_limit", "max_parallel_requests": "rate_limit", "weight": "router", "tags": "router",
    "num_retries": "retry", "max_retries": "retry", "cooldown_time": "breaker", "max_budget": "budgets", "budget_duration": "budgets",
}  # fmt: skip
_AWS: Final = (
    "mesh.yaml holds no AWS credentials", "give the gateway AWS's own environment variables or an instance role",
)  # fmt: skip
_LOST: Final = {
    "api_version": ("Azure's dated API versions are not carried over", "the `azure` provider uses the current one; see its README"),
    "azure_ad_token": ("only API keys are carried over", "use a key, or see the README of `azure`"),
    "tenant_id": ("only API keys are carried over", "use a key, or see the README of `azure`"),
    "client_id": ("only API keys are carried over", "use a key, or see the README of `azure`"),
    "client_secret": ("only API keys are carried over", "use a key, or see the README of `azure`"),
    "aws_access_key_id": _AWS, "aws_secret_access_key": _AWS, "aws_session_token": _AWS, "aws_profile_name": _AWS,
    "aws_role_name": _AWS, "aws_session_name": _AWS, "aws_web_identity_token": _AWS, "aws_sts_endpoint": _AWS,
    "drop_params": ("parameters go to the upstream as the client sent them", ""),
    "additional_drop_params": ("parameters go to the upstream as the client sent them", ""),
    "mock_response": ("a provider does not answer by itself", "use the provider `echo` for tests"),
    "merge_reasoning_content_in_choices": ("answers keep their shape", ""),
    "access_groups": ("callers' models are listed with their keys", "list them under `models` of each key of auth_static"),
}  # fmt: skip
_DEFAULTS: Final = frozenset(
    {"temperature", "max_tokens", "max_completion_tokens", "top_p", "top_k", "presence_penalty", "frequency_penalty", "seed", "stop", "n",
     "reasoning_effort", "thinking", "extra_body", "response_format"}
)  # fmt: skip


def note_params(params: Mapping[str, Any], info: object, path: Path, component: str, notes: Notes) -> None:
    """Says what becomes of every parameter that was not read."""
    for place, given, read in (
        ("litellm_params", params, _READ),
        ("model_info", info if isinstance(info, dict) else {}, _READ_INFO),
    ):
        for name, value in given.items():
            if name not in read and value is not None:
                _note((*path, place, name), name, value, notes)
    if params.get("organization") and component != "openai":
        notes.lost((*path, "litellm_params", "organization"), "only `openai` has organizations")


def _note(path: Path, name: str, value: object, notes: Notes) -> None:
    if name in WAITS:
        notes.waits(path, WAITS[name], json.dumps(value, ensure_ascii=False, default=str))
    elif name in _LOST:
        notes.lost(path, *_LOST[name])
    elif name in _DEFAULTS:
        notes.lost(path, "the gateway adds no parameters to requests", "let clients send it")
    else:
        notes.lost(path, "it has no counterpart")

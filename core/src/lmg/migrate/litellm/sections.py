"""`router_settings`, `litellm_settings`, `general_settings` and the other sections: what becomes of each setting."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ..notes import Notes, Path

__all__ = ["WAITS", "note_sections"]

# Read where the mesh is put together; noted there, where there is something to say.
_READ: Final = frozenset(
    {
        ("router_settings", "timeout"), ("router_settings", "stream_timeout"), ("router_settings", "model_group_alias"),
        ("litellm_settings", "request_timeout"), ("general_settings", "master_key"),
    }
)  # fmt: skip
# Said without a value by LiteLLM, or by everybody: nothing is lost.
_SILENT: Final = frozenset(
    {"set_verbose", "json_logs", "verbose", "suppress_debug_info", "telemetry", "debug", "detailed_debug"}
)
WAITS: Final = {
    "routing_strategy": "router", "routing_strategy_args": "router", "enable_pre_call_checks": "router", "enable_tag_filtering": "router",
    "optional_pre_call_checks": "router", "provider_budget_config": "budgets", "enable_weighted_failover": "router",
    "num_retries": "retry", "max_retries": "retry", "retry_after": "retry", "retry_policy": "retry", "model_group_retry_policy": "retry",
    "fallbacks": "fallback", "context_window_fallbacks": "fallback", "content_policy_fallbacks": "fallback", "default_fallbacks": "fallback",
    "max_fallbacks": "fallback", "allowed_fails": "breaker", "allowed_fails_policy": "breaker", "cooldown_time": "breaker",
    "disable_cooldowns": "breaker", "cache": "cache", "cache_kwargs": "cache", "cache_responses": "cache", "enable_caching_on_provider_specific_optional_params": "cache",
    "max_budget": "budgets", "budget_duration": "budgets", "max_end_user_budget": "budgets", "default_internal_user_params": "budgets",
    "max_internal_user_budget": "budgets", "internal_user_budget_duration": "budgets", "soft_budget": "budgets",
    "max_parallel_requests": "rate_limit", "global_max_parallel_requests": "rate_limit", "default_max_parallel_requests": "rate_limit",
    "alerting": "alerts", "alerting_threshold": "alerts", "alert_types": "alerts", "alerting_args": "alerts", "budget_alert_ttl": "alerts",
    "enable_jwt_auth": "auth_jwt", "litellm_jwtauth": "auth_jwt", "enable_oauth2_auth": "auth_jwt",
}  # fmt: skip
_OBSERVERS: Final = {
    "prometheus": "prometheus",
    "otel": "otel",
    "langfuse_otel": "otel",
    "arize_phoenix": "phoenix",
    "phoenix": "phoenix",
    "s3": "audit",
    "s3_v2": "audit",
    "gcs_bucket": "audit",
}
_DATABASE: Final = (
    "the gateway needs no database; keys, teams and budgets in LiteLLM's are not read",
    "list the callers under auth_static; begin with the most used ones",
)
_REDIS: Final = (
    "one gateway needs no Redis; several share their counters through a service",
    "run one, or wait for the component `redis`",
)
_LOST: Final = {
    "database_url": _DATABASE, "store_model_in_db": _DATABASE, "store_prompts_in_spend_logs": _DATABASE, "database_connection_pool_limit": _DATABASE,
    "database_connection_timeout": _DATABASE, "use_redis_transaction_buffer": _DATABASE, "disable_spend_logs": _DATABASE,
    "proxy_batch_write_at": _DATABASE, "allow_requests_on_db_unavailable": _DATABASE, "maximum_spend_logs_retention_period": _DATABASE,
    "redis_host": _REDIS, "redis_port": _REDIS, "redis_password": _REDIS, "redis_url": _REDIS, "redis_db": _REDIS, "redis_ssl": _REDIS,
    "drop_params": ("parameters go to the upstream as the client sent them", "where an upstream refuses one, leave it out in the client"),
    "modify_params": ("requests keep their shape", ""),
    "background_health_checks": ("no probe that costs money is sent", "/readyz says what the gateway knows"),
    "health_check_interval": ("no probe that costs money is sent", "/readyz says what the gateway knows"),
    "custom_auth": ("code is not carried over", "write an authenticator: `lmg plugins new --kind policy`"),
    "pass_through_endpoints": ("the gateway has no endpoints without a dialect", "call that upstream directly"),
    "key_management_system": ("secrets come from the environment, from ${file:…}, or from a mounted folder", "see server.secrets_dir"),
    "key_management_settings": ("secrets come from the environment, from ${file:…}, or from a mounted folder", "see server.secrets_dir"),
    "model_alias_map": ("its names are LiteLLM's own models", "use model_map of a provider"),
    "post_call_rules": ("code is not carried over", "write a guard: `lmg plugins new --kind guard`"),
    "completion_model": ("every request names its model", ""),
    "forward_client_headers_to_llm_api": ("only headers that select nothing are passed on", ""),
    "master_key_hash": _DATABASE,
}  # fmt: skip
_CALLBACKS: Final = frozenset(
    {"callbacks", "success_callback", "failure_callback", "service_callback", "audit_log_callbacks"}
)
_CACHE_PARAMS: Final = "cache_params"
# Shown with their values: what they hold is numbers, names of models and of strategies.
_SHOWN: Final = frozenset(WAITS) - {
    "routing_strategy_args",
    "cache_kwargs",
    "litellm_jwtauth",
    "alerting_args",
    "default_internal_user_params",
}
_SECTIONS: Final = {
    "guardrails": ("content guards are components of the pipeline", "prompt_guard"),
    "policies": ("policies are components of the pipeline", "opa"),
}
_LOST_SECTIONS: Final = {
    "environment_variables": (
        "the environment is set outside of the gateway",
        "set them where the gateway is started",
    ),
    "mcp_servers": ("the gateway does not serve MCP", ""),
    "mcp_tools": ("the gateway does not serve MCP", ""),
    "prompts": ("prompts belong to the clients", ""),
    "vector_store_registry": ("the gateway has no vector stores", ""),
    "search_tools": ("the gateway has no search tools", ""),
    "files_settings": ("files and batches are not served", ""),
    "finetune_settings": ("fine-tuning is not served", ""),
}
_KNOWN: Final = frozenset(
    {"model_list", "credential_list", "include", "router_settings", "litellm_settings", "general_settings"}
)


def note_sections(config: Mapping[str, Any], notes: Notes) -> None:
    """Says what becomes of every setting outside of ``model_list``."""
    for section in ("router_settings", "litellm_settings", "general_settings"):
        for name, value in _settings(config.get(section)):
            if value is not None and (section, name) not in _READ and name not in _SILENT:
                _note((section, name), name, value, notes)
    for section, value in config.items():
        if section in _KNOWN or not value:
            continue
        if section in _SECTIONS:
            notes.waits((section,), _SECTIONS[section][1], "", f"{_SECTIONS[section][0]}: configure it there")
        else:
            notes.lost((section,), *_LOST_SECTIONS.get(section, ("it has no counterpart", "")))


def _settings(section: object) -> Iterator[tuple[str, object]]:
    if isinstance(section, dict):
        yield from ((str(name), value) for name, value in section.items())


def _note(path: Path, name: str, value: object, notes: Notes) -> None:
    if value is False and (name in WAITS or name in _LOST):
        return  # said to be off, which it is here
    if name in _CALLBACKS:
        _note_callbacks(path, value, notes)
    elif name in WAITS:
        notes.waits(
            path, WAITS[name], json.dumps(value, ensure_ascii=False, default=str) if name in _SHOWN else ""
        )
    elif name == _CACHE_PARAMS:
        notes.waits(path, "cache")
    elif name in _LOST:
        notes.lost(path, *_LOST[name])
    else:
        notes.lost(path, "it has no counterpart")


def _note_callbacks(path: Path, value: object, notes: Notes) -> None:
    several = isinstance(value, list)
    for n, item in enumerate(value if isinstance(value, list) else [value]):
        at: Path = (*path, n) if several else path
        if not isinstance(item, str):
            notes.lost(at, "it has no counterpart")
        elif item in _OBSERVERS:
            notes.waits(at, _OBSERVERS[item], json.dumps(item))
        elif "." in item:
            notes.lost(at, "code is not carried over", "write a component: `lmg plugins new --kind exporter`")
        else:
            why = f"nothing sends to {json.dumps(item)} directly"
            notes.lost(at, why, "it may take OpenTelemetry, which `otel` will send")

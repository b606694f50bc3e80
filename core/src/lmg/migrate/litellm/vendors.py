"""LiteLLM's providers: which component serves each, and what it needs where the file says nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

__all__ = ["NOT_CARRIED", "VENDORS", "Vendor", "bare_model", "is_private", "preset_of", "vendor_of_bare_name"]


@dataclass(frozen=True, slots=True)
class Vendor:
    """``key`` and ``endpoint`` are the variables that LiteLLM reads where the file names none."""

    component: str
    key: str = ""
    endpoint: str = ""
    default_endpoint: str = ""


VENDORS: Final[Mapping[str, Vendor]] = {
    "openai": Vendor("openai", "OPENAI_API_KEY"),
    "azure": Vendor("azure", "AZURE_API_KEY", "AZURE_API_BASE"),
    "anthropic": Vendor("anthropic", "ANTHROPIC_API_KEY"),
    "gemini": Vendor("gemini", "GEMINI_API_KEY"),
    "bedrock": Vendor("bedrock"),
    "groq": Vendor("groq", "GROQ_API_KEY"),
    "xai": Vendor("xai", "XAI_API_KEY"),
    "mistral": Vendor("mistral", "MISTRAL_API_KEY"),
    "deepseek": Vendor("deepseek", "DEEPSEEK_API_KEY"),
    "together_ai": Vendor("together", "TOGETHERAI_API_KEY"),
    "openrouter": Vendor("openrouter", "OPENROUTER_API_KEY"),
    "ollama": Vendor("ollama", default_endpoint="http://localhost:11434"),
    "ollama_chat": Vendor("ollama", default_endpoint="http://localhost:11434"),
    "hosted_vllm": Vendor("vllm", endpoint="HOSTED_VLLM_API_BASE"),
    "lm_studio": Vendor("lmstudio", endpoint="LM_STUDIO_API_BASE"),
    "llamafile": Vendor("llamacpp", default_endpoint="http://127.0.0.1:8080"),
    "litellm_proxy": Vendor("local", "LITELLM_PROXY_API_KEY", "LITELLM_PROXY_API_BASE"),
    "openai_like": Vendor("local"),
    "custom_openai": Vendor("local"),
}
"""By LiteLLM's prefix."""

NOT_CARRIED: Final[Mapping[str, str]] = {
    "vertex_ai": "Vertex AI takes Google credentials, which no component does yet; the Gemini API (gemini/) is carried over",
    "vertex_ai_beta": "Vertex AI takes Google credentials, which no component does yet; the Gemini API (gemini/) is carried over",
    "azure_ai": "Azure AI Foundry's own endpoints are not Azure OpenAI's; where one speaks the OpenAI API, use `local`",
    "sagemaker": "no component serves SageMaker",
    "text-completion-openai": "the old completions API is not served; use a chat model",
}
"""Prefixes without a component, and why. Any other unknown prefix is said to be one."""

_PRESETS: Final[Mapping[str, str]] = {
    "api.openai.com": "openai", "api.groq.com": "groq", "api.x.ai": "xai", "api.mistral.ai": "mistral", "api.deepseek.com": "deepseek",
    "api.together.xyz": "together", "api.together.ai": "together", "openrouter.ai": "openrouter",
}  # fmt: skip
_OPENAI: Final = re.compile(r"(gpt-|chatgpt-|o[134](-|$)|text-embedding-|ft:gpt-|omni-)")
_ROUTES: Final = {
    "azure": re.compile(r"^(o_series|gpt5_series|responses)/"),
    "bedrock": re.compile(r"^(?:(converse|converse_like|invoke)/)?(?:[a-z]{2}(-gov)?-[a-z]+-\d/)?"),
    "openai": re.compile(r"^(responses)/"),
}


def bare_model(prefix: str, model: str) -> str:
    """The name that goes upstream: without LiteLLM's own marks of a route."""
    route = _ROUTES.get(prefix)
    return route.sub("", model, count=1) if route is not None else model


def vendor_of_bare_name(model: str) -> str:
    """The prefix that LiteLLM means by a model without one, or an empty text."""
    if _OPENAI.match(model):
        return "openai"
    return "anthropic" if model.startswith("claude-") else ""


def preset_of(endpoint: str) -> str | None:
    """The component for a well-known OpenAI-compatible API."""
    return _PRESETS.get(_host(endpoint))


def is_private(endpoint: str) -> bool:
    """Whether an endpoint is on the operator's own network, as far as its name tells."""
    host = _host(endpoint)
    try:
        return ip_address(host).is_private
    except ValueError:
        own = (".local", ".internal", ".lan", ".svc", ".localhost", ".home.arpa")
        return "." not in host or host.endswith(own) or ".svc." in host


def _host(endpoint: str) -> str:
    try:
        return (urlsplit(endpoint).hostname or "").lower()
    except ValueError:
        return ""

"""The configuration of `local`."""

from __future__ import annotations

from pydantic import Field, model_validator

from lmg import HttpProviderConfig

__all__ = ["LocalConfig"]


class LocalConfig(HttpProviderConfig):
    """An OpenAI-compatible server (llama.cpp, vLLM, Ollama, LM Studio, …), or an embedded model."""

    endpoint: str = Field("", description="Base URL without the `/v1`; leave it out with `embedded: true`.")
    embedded: bool = Field(
        False, description="Run the small model of the extra `lmg-local[embedded]` in a process of our own."
    )
    context_tokens: int = Field(
        4096, ge=256, le=131_072, description="The embedded model's context, per request."
    )
    parallel: int = Field(2, ge=1, le=64, description="Requests that the embedded model serves at a time.")
    threads: int = Field(2, ge=1, le=256, description="Threads of the embedded model.")
    max_output_tokens: int = Field(
        1024, ge=1, description="The embedded model's answers end here where the request sets no limit."
    )
    on_prem: bool = Field(True, description="The upstream runs on the operator's own premises.")

    @model_validator(mode="after")
    def _one_upstream(self) -> LocalConfig:
        if bool(self.endpoint) == self.embedded:
            raise ValueError("give endpoint, or embedded: true, and not both")
        if self.endpoint and not self.models:
            raise ValueError("models: name at least one model that the server serves")
        return self

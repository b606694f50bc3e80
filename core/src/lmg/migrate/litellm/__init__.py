"""A LiteLLM proxy's config.yaml, turned into mesh.yaml."""

from .translate import translate

__all__ = ["translate"]

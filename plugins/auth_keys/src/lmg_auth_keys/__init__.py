"""API keys for callers; `auth_static` takes them from the configuration."""

from .plugin import AuthStatic

__all__ = ["AuthStatic"]

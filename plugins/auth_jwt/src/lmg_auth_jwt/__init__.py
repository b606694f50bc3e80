"""Callers with tokens of an identity provider: JWT by discovery, JWKS or static keys, and introspection."""

from .plugin import AuthJwt

__all__ = ["AuthJwt"]

"""Callers with client certificates: mutual TLS at the gateway itself, or at an Envoy in front of it."""

from .plugin import AuthMtls

__all__ = ["AuthMtls"]

"""A circuit breaker for models."""

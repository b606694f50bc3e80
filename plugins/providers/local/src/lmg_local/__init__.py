"""Models on the operator's own machines: any OpenAI-compatible server, or one embedded in the gateway."""

__all__ = ["Local"]


def __getattr__(name: str) -> object:
    # The embedded model's child process imports this package and must not load the kernel with it.
    if name == "Local":
        from .plugin import Local

        return Local
    raise AttributeError(name)

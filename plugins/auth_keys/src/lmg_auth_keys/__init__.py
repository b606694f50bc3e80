"""API keys for callers: `auth_static` takes them from the configuration, `auth_keys` issues them and keeps a database.

`AuthKeys` stands in `lmg_auth_keys.plugin`, so that whoever lists `auth_static` alone loads no database library.
"""

from .static import AuthStatic

__all__ = ["AuthStatic"]

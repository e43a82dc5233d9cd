"""Salts of prefix caches, one a tenant: nobody learns from a fast first token what others asked."""

from __future__ import annotations

import base64
import hmac
import secrets
from functools import lru_cache
from pathlib import Path
from typing import Final

from isthmus.core.watched import read_secret

_MOST_KEPT: Final = 4_096


class CacheSalts:
    """The salt of each tenant, keyed: an upstream's log that shows it names no tenant."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        # Every request asks, and OpenSSL lets other threads run meanwhile: each salt is made once.
        self._salt = lru_cache(_MOST_KEPT)(self._made)

    @classmethod
    def of(cls, key_file: Path | None) -> CacheSalts:
        """Keyed by a file that gateways share, or by a secret of this process.

        Raises `ConfigError`.
        """
        if key_file is None:
            return cls(secrets.token_bytes(32))
        return cls(read_secret(key_file, "cache_salt_key_file").encode())

    def __call__(self, tenant: str) -> str:
        """A text without meaning, always the same for one tenant and one key."""
        return self._salt(tenant)

    def _made(self, tenant: str) -> str:
        digest = hmac.digest(self._key, b"cache-salt\0" + tenant.encode(), "sha256")
        return base64.urlsafe_b64encode(digest[:24]).decode()

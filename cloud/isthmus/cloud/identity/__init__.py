"""Who may call: how callers are told from the configuration's settings."""

from __future__ import annotations

from collections.abc import Callable, Set
from pathlib import Path
from typing import TypeVar

from isthmus.cloud.identity.base import Authenticator, Caller, Refusal, Refused, Scope
from isthmus.cloud.identity.bearer import Anyone, StaticToken
from isthmus.cloud.identity.certificates import CertificateAuthenticator
from isthmus.cloud.identity.config import AuthConfig
from isthmus.cloud.identity.door import Door
from isthmus.cloud.identity.jwks import read_jwks
from isthmus.cloud.identity.patrol import Patrol
from isthmus.cloud.identity.revoked import read_revoked
from isthmus.cloud.identity.salt import CacheSalts
from isthmus.cloud.identity.tokens import TokenAuthenticator
from isthmus.core.watched import Watched

_T = TypeVar("_T")

OnRead = Callable[[str, bool], None]
"""Hears of every file that was read again: the setting that names it, and whether it was good."""


def create(
    config: AuthConfig,
    *,
    static_token: Callable[[], str] | None = None,
    client_certificates: bool = False,
    on_read: OnRead = lambda setting, good: None,
) -> Authenticator:
    """What the settings ask of callers. Raises `ConfigError` for a file that cannot be used.

    `client_certificates`: the connections have been verified against a CA.
    """
    revoked: Callable[[], Set[str]] = frozenset
    if (path := config.revoked_file) is not None:
        revoked = _watched(path, read_revoked, "auth.revoked_file", on_read)
    by_certificate = None
    if client_certificates and not config.shared_certificates:
        by_certificate = CertificateAuthenticator(revoked)
    if config.jwks_file is not None:
        keys = _watched(config.jwks_file, read_jwks, "auth.jwks_file", on_read)
        return TokenAuthenticator(config, keys, revoked, by_certificate)
    then = by_certificate or Anyone()
    return then if static_token is None else StaticToken(static_token, then)


def _watched(
    path: Path, read: Callable[[Path, str], _T], setting: str, on_read: OnRead
) -> Watched[_T]:
    return Watched(
        (path,), lambda: read(path, setting), on_read=lambda good: on_read(setting, good)
    )


__all__ = [
    "AuthConfig",
    "Authenticator",
    "CacheSalts",
    "Caller",
    "Door",
    "Patrol",
    "Refusal",
    "Refused",
    "Scope",
    "create",
]

"""The bearer token of a call, and the static one that all callers may share."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import Any, Final

from isthmus.cloud.identity.base import Authenticator, Caller, Metadata, Refusal, Refused

MAX_TOKEN_BYTES: Final = 8 * 1024
"""gRPC itself lets about as much metadata in."""

_SCHEME: Final = "bearer"


def bearer_of(metadata: Metadata) -> str:
    """The token that a call brought (RFC 6750, section 2.1). Raises `Refused`."""
    given = [value for key, value in metadata or () if key.lower() == "authorization"]
    if not given:
        raise Refused(Refusal.MISSING)
    # Two of them: a proxy before us may have looked at the other one.
    if len(given) > 1 or not isinstance(given[0], str) or len(given[0]) > MAX_TOKEN_BYTES:
        raise Refused(Refusal.MALFORMED)
    scheme, _, token = given[0].partition(" ")
    if scheme.lower() != _SCHEME or not token or not token.isascii() or not token.isprintable():
        raise Refused(Refusal.MALFORMED)
    return token


class Anyone:
    """Lets everybody in as the same device of the same tenant."""

    def screen(self, metadata: Metadata) -> None:
        """Nothing is asked for."""

    def authenticate(self, context: Any) -> Caller:
        """The caller without a name."""
        return Caller()


class StaticToken:
    """One token for all; who calls is left to `then` (a certificate, or nobody in particular)."""

    def __init__(self, token: Callable[[], str], then: Authenticator) -> None:
        self._token = token
        self._then = then

    def screen(self, metadata: Metadata) -> None:
        """Compare in constant time: digests, since even the length would tell something."""
        if not hmac.compare_digest(_digest(bearer_of(metadata)), _digest(self._token())):
            raise Refused(Refusal.TOKEN)

    def authenticate(self, context: Any) -> Caller:
        """Whoever brings the token, by the name that `then` knows."""
        self.screen(context.invocation_metadata())
        return self._then.authenticate(context)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()

"""Who may talk to the agent: Host and Origin checks against DNS rebinding, and the token."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from isthmus.core.addresses import is_loopback
from isthmus.edge.config import EdgeConfig
from isthmus.edge.http import Refused, Reply

_OPEN_PATHS = frozenset({"/", "/healthz", "/readyz"})
_OPEN_FOLDER = "/ui/"
"""The page itself, which asks for the token. What it shows is behind it."""


class Guard:
    """ASGI middleware that turns away whoever should not be here.

    A web page that a name server points at 127.0.0.1 (DNS rebinding) sends its own site's name as
    Host, and any page sends its Origin with a POST: on loopback both must be ours.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        config: EdgeConfig,
        on_refusal: Callable[[int], None] = lambda status: None,
    ) -> None:
        self._app = app
        self._loopback = config.on_loopback
        self._hosts = frozenset(host.lower() for host in config.allowed_hosts)
        self._origins = frozenset(origin.rstrip("/").lower() for origin in config.allowed_origins)
        self._token = _digest(config.token.get_secret_value()) if config.token else None
        self._on_refusal = on_refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check, then pass on."""
        if scope["type"] == "http":
            try:
                self.check(Headers(scope=scope), scope["path"], scope["method"])
            except Refused as refused:
                self._on_refusal(refused.response.status)
                await Reply(send).error(refused.response)
                return
        await self._app(scope, receive, send)

    def check(self, headers: Headers, path: str, method: str = "GET") -> None:
        """Raise `Refused` (403 or 401) unless the request may pass."""
        host = headers.get("host", "").lower()
        if not self._host_allowed(host):
            raise Refused(
                403,
                "the Host header names none of the agent's own names; use 127.0.0.1 or localhost, "
                "or add the name to allowed_hosts",
                code="host_not_allowed",
                param="host",
            )
        origin = headers.get("origin")
        if origin is not None and not self._origin_allowed(origin.lower(), host):
            raise Refused(
                403,
                "pages of this origin may not use the agent; add it to allowed_origins",
                code="origin_not_allowed",
                param="origin",
            )
        # A browser asks for permission (OPTIONS) without the token.
        of_the_page = path.startswith(_OPEN_FOLDER) and method in {"GET", "HEAD"}
        open_to_all = path in _OPEN_PATHS or of_the_page or method == "OPTIONS"
        if not open_to_all and not self._authorised(headers.get("authorization", "")):
            raise Refused(
                401,
                "a valid token is needed: Authorization: Bearer …",
                code="invalid_api_key",
                param="authorization",
            )

    def _host_allowed(self, host: str) -> bool:
        name = _name(host)
        if name in self._hosts:
            return True
        if self._loopback:
            return is_loopback(name)
        # Beyond loopback the token is the lock; names are checked only where some are given.
        return not self._hosts or is_loopback(name)

    def _origin_allowed(self, origin: str, host: str) -> bool:
        return origin in self._origins or origin in {f"http://{host}", f"https://{host}"}

    def _authorised(self, authorization: str) -> bool:
        if self._token is None:
            return True
        scheme, _, token = authorization.partition(" ")
        given = _digest(token.strip())
        return hmac.compare_digest(given, self._token) and scheme.lower() == "bearer"


def _name(host: str) -> str:
    """A Host header without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _digest(token: str) -> bytes:
    # Equal lengths, so that the comparison's time tells nothing of the token's.
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()

"""The door of the gateway: who calls, and whether they may make this call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from isthmus.cloud.identity.base import Authenticator, Caller, Refusal, Refused, Scope
from isthmus.core.errors import PermissionDenied


class Door:
    """Every call passes here first. `on_refusal` hears why one did not get in."""

    def __init__(
        self,
        authenticator: Authenticator,
        on_refusal: Callable[[Refusal], None] = lambda why: None,
    ) -> None:
        self._authenticator = authenticator
        self._on_refusal = on_refusal

    def admit(self, context: Any, scope: Scope) -> Caller:
        """Who calls. Raises `Unauthenticated`, or `PermissionDenied` without `scope`."""
        try:
            caller = self._authenticator.authenticate(context)
        except Refused as refused:
            self._on_refusal(refused.reason)
            raise
        if scope not in caller.scopes:
            self._on_refusal(Refusal.SCOPE)
            raise PermissionDenied(f"this needs the scope {scope.value!r}, which the caller lacks")
        return caller

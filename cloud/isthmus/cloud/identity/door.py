"""The door of the gateway: who calls, and whether they may make this call."""

from __future__ import annotations

import contextlib
import logging
import traceback
from collections.abc import Callable, Iterator, Set
from typing import Any

from isthmus.cloud.identity.base import Authenticator, Caller, Metadata, Refusal, Refused, Scope
from isthmus.core.errors import PermissionDenied

_log = logging.getLogger(__name__)


class Door:
    """Every call passes here first. `on_refusal` hears why one did not get in."""

    def __init__(
        self,
        authenticator: Authenticator,
        on_refusal: Callable[[Refusal], None] = lambda why: None,
    ) -> None:
        self._authenticator = authenticator
        self._on_refusal = on_refusal

    def screen(self, metadata: Metadata) -> None:
        """Look at a call before its message is read. Raises `Refused`."""
        with self._counted():
            self._authenticator.screen(metadata)

    def admit(self, context: Any, scope: Scope) -> Caller:
        """Who calls. Raises `Unauthenticated`, or `PermissionDenied` without `scope`."""
        with self._counted():
            caller = self._authenticator.authenticate(context)
        if scope not in caller.scopes:
            self._on_refusal(Refusal.SCOPE)
            raise PermissionDenied(f"this needs the scope {scope.value!r}, which the caller lacks")
        return caller

    def look_again(self, context: Any) -> None:
        """Look at a caller that was let in. Raises `Refused` when that would not be so now.

        A shared token that was replaced is left out: the call began with it.
        """
        with self._counted(spared={Refusal.TOKEN}):
            self._authenticator.authenticate(context)

    @contextlib.contextmanager
    def _counted(self, spared: Set[Refusal] = frozenset()) -> Iterator[None]:
        try:
            yield
        except Refused as refused:
            if refused.reason in spared:
                return
            self._on_refusal(refused.reason)
            raise
        except Exception as error:
            # A fault of ours opens nothing. Its words may quote the token: they are told nobody.
            where = "".join(traceback.format_tb(error.__traceback__))
            _log.error("a caller could not be looked at: %s\n%s", type(error).__name__, where)
            self._on_refusal(Refusal.FAULT)
            raise Refused(Refusal.FAULT) from None

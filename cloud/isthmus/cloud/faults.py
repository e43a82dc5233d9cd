"""How a call fails: what a fault of ours may tell, and the status that a caller sees."""

from __future__ import annotations

import logging
import traceback
from typing import Any, Final, NoReturn

import grpc
from grpc_status import rpc_status  # type: ignore[import-untyped]

from isthmus.core import wire
from isthmus.core.errors import InternalError, IsthmusError

_log = logging.getLogger(__name__)

_CODE_NAMES: Final[dict[int, str]] = {code.value[0]: code.name for code in grpc.StatusCode}


def fault(error: Exception, request_id: str) -> InternalError:
    """Log where a fault happened, without its message: that may quote the user."""
    where = "".join(traceback.format_tb(error.__traceback__))
    _log.error("request %r failed: %s\n%s", request_id, type(error).__name__, where)
    return InternalError("the backend failed; the gateway's log names the place")


def code_of(error: IsthmusError) -> str:
    """The name of the gRPC code that stands for `error`."""
    return _CODE_NAMES[wire.error_to_status(error).code]


async def abort(context: Any, error: IsthmusError) -> NoReturn:
    """End the call with `error` as its status."""
    await context.abort_with_status(rpc_status.to_status(wire.error_to_status(error)))
    raise AssertionError("abort_with_status returned")

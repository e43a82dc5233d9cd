"""Strangers are refused before what they send is read.

gRPC hands a servicer the whole request: whoever is refused there has cost the memory of it already
(40 calls of 14 MB without a token took 700 MB). Here a call's metadata is looked at first, and the
message of a refused one waits in the connection's flow control until the call has ended.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import grpc
import grpc.aio

from isthmus.cloud.faults import abort
from isthmus.cloud.identity.base import Refused
from isthmus.cloud.identity.door import Door

_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class RefuseStrangers(grpc.aio.ServerInterceptor):
    """Ends every call on the port, health's too, that `door` refuses by its metadata."""

    def __init__(self, door: Door) -> None:
        self._door = door

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler | None:
        """The handler, or one that refuses."""
        try:
            self._door.screen(handler_call_details.invocation_metadata)
        except Refused as refused:
            return _refusing(refused)
        return await continuation(handler_call_details)


def _refusing(refused: Refused) -> _Handler:
    async def refuse(messages: AsyncIterator[bytes], context: Any) -> None:
        await abort(context, refused)

    # A stream of requests, whatever the method: the first message of one is not read unasked.
    return grpc.stream_stream_rpc_method_handler(refuse)

"""Bytes that are no message of a method's type: the sender's mistake, and told as one.

grpc.aio ends such a call as `UNKNOWN`, which clients take for a fault of the server's.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple, TypeAlias, cast

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from grpc_status import rpc_status  # type: ignore[import-untyped]

from isthmus.core import wire
from isthmus.core.errors import InvalidRequest

_UNREADABLE: Final = object()
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class RefuseUnreadable(grpc.aio.ServerInterceptor):
    """Ends a call whose request cannot be parsed with `INVALID_ARGUMENT`."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler | None:
        """The handler, which reads with care."""
        handler: Any = await continuation(handler_call_details)
        answer = None if handler is None else (handler.unary_unary or handler.unary_stream)
        if answer is None or inspect.isasyncgenfunction(answer):
            return cast("_Handler | None", handler)
        read = handler.request_deserializer

        def reading(data: bytes) -> Any:
            try:
                return read(data)
            except DecodeError:
                return _UNREADABLE

        async def answering(message: Any, context: Any) -> Any:
            if message is _UNREADABLE:
                error = InvalidRequest("the bytes of the request are no message of this method")
                await context.abort_with_status(rpc_status.to_status(wire.error_to_status(error)))
            return await answer(message, context)

        field = "unary_unary" if handler.unary_unary else "unary_stream"
        return cast(
            _Handler,
            cast(NamedTuple, handler)._replace(request_deserializer=reading, **{field: answering}),
        )

"""A gateway as a target: plain calls of `Generate`, with no second attempt of any kind."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import AsyncGenerator
from typing import Final

import grpc
import grpc.aio

from isthmus.cloud.load.base import Order
from isthmus.cloud.load.script import prompt_of
from isthmus.core import wire
from isthmus.core.chat import ChatRequest, Sampling
from isthmus.core.errors import IsthmusError, Unavailable
from isthmus.v1 import gateway_pb2

_GENERATE: Final = "/isthmus.v1.GatewayService/Generate"
_DETAILS_TRAILER: Final = "grpc-status-details-bin"


def request_of(order: Order) -> ChatRequest:
    """The request that an order stands for; another one each time, or it would be a repetition."""
    return ChatRequest(
        request_id=uuid.uuid4().hex,
        messages=prompt_of(order.mark),
        sampling=Sampling(temperature=0.0),
        max_tokens=order.tokens,
    )


class GrpcTarget:
    """`channels` connections to one gateway, used in turns, as so many devices would."""

    def __init__(self, address: str, *, channels: int = 8) -> None:
        options = [
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_http_proxy", 0),
            ("grpc.enable_retries", 0),
        ]
        self._channels = [
            grpc.aio.insecure_channel(address, options=options) for _ in range(channels)
        ]
        self._calls = itertools.cycle(
            channel.unary_stream(
                _GENERATE,
                request_serializer=bytes,
                response_deserializer=gateway_pb2.GenerateResponse.FromString,
            )
            for channel in self._channels
        )

    async def ready(self) -> None:
        """Connect: a handshake is not a part of the first answers' times."""
        for channel in self._channels:
            await channel.channel_ready()

    async def ask(self, order: Order) -> AsyncGenerator[str, None]:
        """One call."""
        call = next(self._calls)(wire.request_as_bytes(request_of(order)))
        finished = False
        try:
            async for message in call:
                match message.WhichOneof("event"):
                    case "delta":
                        yield message.delta.text
                    case "finished":
                        finished = True
                    case "error":
                        raise wire.error_from_wire(message.error)
        except grpc.aio.AioRpcError as error:
            raise _ours(error) from None
        finally:
            call.cancel()
        if not finished:
            raise Unavailable("the stream ended before the end of the answer")

    async def close(self) -> None:
        """Close the channels."""
        for channel in self._channels:
            await channel.close()


def _ours(error: grpc.aio.AioRpcError) -> IsthmusError:
    details = next((v for k, v in error.trailing_metadata() or () if k == _DETAILS_TRAILER), None)
    number: int = error.code().value[0]
    raw = details if isinstance(details, bytes) else None
    return wire.error_from_status(number, error.details() or "the call failed", raw)

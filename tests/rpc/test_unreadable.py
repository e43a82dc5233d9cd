"""Bytes that are no message are the sender's mistake."""

from __future__ import annotations

import grpc
import grpc.aio
import pytest

from isthmus.cloud.testing import running_gateway

METHODS = ["GetLoad", "GetModelInfo", "ReportOutcomes"]


async def test_bytes_that_are_no_message_are_refused_as_invalid() -> None:
    async with running_gateway() as address, grpc.aio.insecure_channel(address) as channel:
        calls = [channel.unary_unary(f"/isthmus.v1.GatewayService/{name}") for name in METHODS]
        for call in calls:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call(b"\xff\xff")
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        stream = channel.unary_stream("/isthmus.v1.GatewayService/Generate")(b"\xff\xff")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stream.read()
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "no message" in (refused.value.details() or "")


async def test_a_method_that_is_not_there_is_told_as_such() -> None:
    async with running_gateway() as address, grpc.aio.insecure_channel(address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channel.unary_unary("/isthmus.v1.GatewayService/Sing")(b"")
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED

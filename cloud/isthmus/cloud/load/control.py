"""The control of a measurement: the scripted backend behind gRPC with nothing in between.

No caller is checked, nothing waits for a turn, nothing is counted or kept. What a gateway's times
have above this one's is the gateway's own work. `python -m isthmus.cloud.load.control OPTIONS`
prints its address as JSON; OPTIONS are the scripted backend's, in JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import grpc
import grpc.aio

from isthmus.cloud.backends.base import BackendConfig
from isthmus.cloud.backends.scripted import CountingBackend
from isthmus.core import wire
from isthmus.v1 import gateway_pb2


def _handlers(backend: CountingBackend) -> grpc.GenericRpcHandler:
    async def generate(message: gateway_pb2.GenerateRequest, context: Any) -> None:
        async for event in backend.generate(wire.request_from_wire(message)):
            for said in wire.event_to_wire(event):
                await context.write(said)

    method = grpc.unary_stream_rpc_method_handler(
        generate,
        request_deserializer=gateway_pb2.GenerateRequest.FromString,
        response_serializer=gateway_pb2.GenerateResponse.SerializeToString,
    )
    return grpc.method_handlers_generic_handler("isthmus.v1.GatewayService", {"Generate": method})


async def _serve(options: dict[str, Any]) -> None:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    backend = CountingBackend(BackendConfig(kind="scripted", options=options))
    server.add_generic_rpc_handlers((_handlers(backend),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    sys.stdout.write(json.dumps({"address": f"127.0.0.1:{port}"}) + "\n")
    sys.stdout.flush()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(_serve(json.loads(sys.argv[1])))

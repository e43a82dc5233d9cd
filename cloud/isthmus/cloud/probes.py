"""gRPC health by itself, for whoever runs the gateway: Kubernetes' own probes speak no TLS.

Two questions have two answers. The service `live` is SERVING as long as this process answers at
all; the empty name and the gateway's own tell whether requests should come here: not while the
backend is ill, and not while the gateway drains.
"""

from __future__ import annotations

from typing import Final

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from isthmus.cloud.listening import taken
from isthmus.core.addresses import HostPort

LIVE: Final = "live"


class ProbeServer:
    """A gRPC server with the health service and nothing else, in plain text."""

    def __init__(self, servicer: health.aio.HealthServicer, listen: HostPort) -> None:
        self._servicer = servicer
        self._listen = listen
        self._server: grpc.aio.Server | None = None
        self.address: str = listen

    async def start(self) -> None:
        """Listen. Raises `Unavailable` when the address is taken."""
        await self._servicer.set(LIVE, health_pb2.HealthCheckResponse.SERVING)
        self._server = grpc.aio.server(
            options=[
                ("grpc.so_reuseport", 0),
                # Anybody may ask here: a question is the name of a service.
                ("grpc.max_receive_message_length", 1024),
            ]
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, self._server)
        try:
            port = self._server.add_insecure_port(self._listen)
        except RuntimeError as error:  # gRPC has one error for all that can go wrong here
            raise taken("health_listen", self._listen, "gRPC refuses it") from error
        self.address = f"{self._listen.rpartition(':')[0]}:{port}"
        await self._server.start()

    async def stop(self) -> None:
        """Close it. Safe to call twice."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(grace=None)

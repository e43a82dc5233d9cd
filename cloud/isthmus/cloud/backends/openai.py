"""Any OpenAI-compatible upstreams over HTTP: vLLM servers, routers, KServe, Ray Serve, others."""

from __future__ import annotations

from isthmus.cloud.backends.base import BackendConfig
from isthmus.cloud.upstreams.pool import UpstreamPool


def create(config: BackendConfig) -> UpstreamPool:
    """The registry's factory."""
    return UpstreamPool(config)

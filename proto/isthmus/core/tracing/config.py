"""The settings of traces, and the tracer that they make. `OTEL_*` variables count as well."""

from __future__ import annotations

import logging
import os
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, field_validator

from isthmus.core.errors import ConfigError
from isthmus.core.tracing.base import NO_TRACER, Tracer

log = logging.getLogger(__name__)

CONSOLE: Final = "console"
_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_CURE: Final = "pip install 'isthmus[otel]'"


class TracingConfig(BaseModel):
    """The table `tracing` of a tier. Without an endpoint nothing is traced.

    What stands here goes over the variables that every OpenTelemetry program reads
    (`OTEL_EXPORTER_OTLP_ENDPOINT`, `…_HEADERS`, `OTEL_TRACES_SAMPLER`, `OTEL_BSP_*`, …).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    endpoint: str | None = None
    """A collector's address for OTLP over HTTP (`http://127.0.0.1:4318`), or `console`: every span
    as a line of JSON on stderr."""
    sample_ratio: Annotated[float, Field(ge=0, le=1)] | None = None
    """How many of the traces that begin here are kept; one that a caller began is kept where the
    caller keeps it. None: as `OTEL_TRACES_SAMPLER` says, else all."""

    @field_validator("endpoint")
    @classmethod
    def _an_address(cls, endpoint: str | None) -> str | None:
        if endpoint not in {None, "", CONSOLE} and not str(endpoint).startswith(
            ("http://", "https://")
        ):
            raise ValueError(f"must begin with http:// or https://, or be {CONSOLE}")
        return endpoint or None


def create(config: TracingConfig, service: str) -> Tracer:
    """The tracer of the program `service`. Raises `ConfigError` where it lacks what it needs."""
    endpoint = config.endpoint
    if endpoint is None:
        exporter = os.environ.get("OTEL_TRACES_EXPORTER", "")
        if exporter == CONSOLE:
            endpoint = CONSOLE
        elif exporter == "none" or not any(map(os.environ.get, _ENDPOINTS)):
            return NO_TRACER
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return NO_TRACER
    try:
        from isthmus.core.tracing import otel
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "opentelemetry":
            raise
        if config.endpoint is not None:
            raise ConfigError(f"traces need OpenTelemetry: {_CURE}", field="tracing") from None
        # The variables may be meant for others on this machine.
        log.warning("nothing is traced, since OpenTelemetry is not installed: %s", _CURE)
        return NO_TRACER
    return otel.OtelTracer(service, endpoint=endpoint, sample_ratio=config.sample_ratio)

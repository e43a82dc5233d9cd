"""Traces by OpenTelemetry. The one module that imports it (the extra `otel`).

Spans wait in a queue of at most 2,048 (`OTEL_BSP_MAX_QUEUE_SIZE`) and leave from a thread of their
own: a collector that is slow or away costs the oldest spans, and never a request's time.

Exceptions are not recorded: their messages may quote anything. A span tells an error's kind.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Sequence
from importlib.metadata import version
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from isthmus.core.errors import IsthmusError
from isthmus.core.tracing.base import Attributes, Kind, Span
from isthmus.core.tracing.config import CONSOLE

log = logging.getLogger(__name__)

_CLOSING_S: Final = 1.0
_KINDS: Final = {kind: trace.SpanKind[kind.name] for kind in Kind}
_W3C: Final = TraceContextTextMapPropagator()
_NOWHERE: Final = Context()
"""No span is ever the current one: what runs beside a request must not join its trace."""


class OtelTracer:
    """Sends spans to a collector."""

    def __init__(
        self,
        service: str,
        *,
        endpoint: str | None = None,
        sample_ratio: float | None = None,
    ) -> None:
        """`endpoint` None: as OpenTelemetry's variables say."""
        sampler = None if sample_ratio is None else ParentBased(TraceIdRatioBased(sample_ratio))
        named = {"service.name": os.environ.get("OTEL_SERVICE_NAME") or service}
        resource = Resource.create(named | {"service.version": version("isthmus")})
        self._provider = TracerProvider(sampler, resource, shutdown_on_exit=False)
        self._exporter: SpanExporter
        if endpoint == CONSOLE:
            self._exporter = ConsoleSpanExporter(out=sys.stderr, formatter=_line)
            self._provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        else:
            self._exporter = _Watched(OTLPSpanExporter(endpoint and _whole(endpoint)))
            self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("isthmus", version("isthmus"))

    @property
    def on(self) -> bool:
        """It is."""
        return True

    def begin(
        self,
        name: str,
        kind: Kind,
        attributes: Attributes | None = None,
        *,
        traceparent: str = "",
    ) -> Span:
        """As `Tracer.begin`. A `traceparent` that is none begins a trace of its own."""
        caller = _W3C.extract({"traceparent": traceparent}, _NOWHERE) if traceparent else _NOWHERE
        return _OtelSpan(self._tracer, caller, name, kind, attributes)

    def close(self) -> None:
        """As `Tracer.close`."""
        # The provider itself would wait as long as the collector may take.
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(_CLOSING_S)
        if closing.is_alive():
            self._exporter.shutdown()  # whatever it tries again is given up


class _OtelSpan:
    __slots__ = ("_context", "_ended", "_span", "_tracer", "traceparent")

    def __init__(
        self,
        tracer: trace.Tracer,
        parent: Context,
        name: str,
        kind: Kind,
        attributes: Attributes | None,
    ) -> None:
        self._tracer = tracer
        self._span = span = tracer.start_span(
            name, parent, _KINDS[kind], _known(attributes or {}), record_exception=False
        )
        self._context = trace.set_span_in_context(span, _NOWHERE)
        self._ended = False
        ids = span.get_span_context()
        self.traceparent = f"00-{ids.trace_id:032x}-{ids.span_id:016x}-{ids.trace_flags:02x}"

    def child(
        self, name: str, kind: Kind = Kind.INTERNAL, attributes: Attributes | None = None
    ) -> Span:
        return _OtelSpan(self._tracer, self._context, name, kind, attributes)

    def set(self, attributes: Attributes) -> None:
        if not self._ended:
            self._span.set_attributes(_known(attributes))

    def event(self, name: str, attributes: Attributes | None = None) -> None:
        if not self._ended:
            self._span.add_event(name, _known(attributes or {}))

    def end(self, error: str = "") -> None:
        if self._ended:
            return
        self._ended = True
        if error:
            self._span.set_attribute("error.type", error)
            self._span.set_status(trace.StatusCode.ERROR)
        self._span.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, IsthmusError):
            self.end(error.kind)
        else:
            self.end("" if kind is None else kind.__name__)


class _Watched(SpanExporter):
    """Tells the log once that the collector is away, and once that it is back."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._away = False
        self._closed = False
        # It would say so at every attempt, of which there are several a minute.
        logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        away = result is not SpanExportResult.SUCCESS
        if away and not self._away and not self._closed:
            log.warning("traces are lost: no collector takes them")
        elif self._away and not away:
            log.warning("the collector of traces is back")
        self._away = away
        return result

    def shutdown(self) -> None:
        if not self._closed:
            self._closed = True
            self._exporter.shutdown()


def _known(attributes: Attributes) -> dict[str, str | bool | int | float | Sequence[str]]:
    return {name: value for name, value in attributes.items() if value is not None}


def _whole(endpoint: str) -> str:
    """With the path that OTLP has for traces, where it has none."""
    bare = urlsplit(endpoint).path in {"", "/"}
    return f"{endpoint.rstrip('/')}/v1/traces" if bare else endpoint


def _line(span: ReadableSpan) -> str:
    return f"{span.to_json(indent=None)}\n"

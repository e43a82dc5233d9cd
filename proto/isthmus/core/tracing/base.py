"""What a trace is made of, and the ones that do nothing: tracing is off unless it is configured.

A span travels in `ChatRequest.span`; whoever works on the request begins children of it. Attribute
names are those of OpenTelemetry's GenAI conventions (`gen_ai.*`, September 2026, development), and
ours are `isthmus.*`. No attribute holds a word of a user's: names, counts, times and kinds alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from types import TracebackType
from typing import Protocol, Self

Value = str | bool | int | float | Sequence[str]
Attributes = Mapping[str, Value | None]
"""What is None is left out."""


class Kind(StrEnum):
    """A span's part in a call."""

    INTERNAL = "internal"
    SERVER = "server"
    CLIENT = "client"


class Span(Protocol):
    """A piece of work. As a context manager it ends with the block, by the kind of its error."""

    @property
    def traceparent(self) -> str:
        """What the next program is told, as in W3C Trace Context; empty: nothing."""

    def child(
        self, name: str, kind: Kind = Kind.INTERNAL, attributes: Attributes | None = None
    ) -> Span:
        """A piece of this work."""

    def set(self, attributes: Attributes) -> None:
        """Tell more of it. Nothing happens once it has ended."""

    def event(self, name: str, attributes: Attributes | None = None) -> None:
        """Something happened now. Nothing happens once it has ended."""

    def end(self, error: str = "") -> None:
        """It is over; `error` is the kind of what went wrong. The first end counts."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Tracer(Protocol):
    """Where traces begin, or are taken over from a caller."""

    @property
    def on(self) -> bool:
        """Whether anything is traced: without that nobody need look for a caller's trace."""

    def begin(
        self,
        name: str,
        kind: Kind,
        attributes: Attributes | None = None,
        *,
        traceparent: str = "",
    ) -> Span:
        """The first span here; of the caller's trace, where `traceparent` tells one."""

    def close(self) -> None:
        """Send what waits, for a second at most. Blocking."""


class _NoSpan:
    __slots__ = ()
    traceparent = ""

    def child(
        self, name: str, kind: Kind = Kind.INTERNAL, attributes: Attributes | None = None
    ) -> Span:
        return self

    def set(self, attributes: Attributes) -> None: ...

    def event(self, name: str, attributes: Attributes | None = None) -> None: ...

    def end(self, error: str = "") -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class _NoTracer:
    __slots__ = ()
    on = False

    def begin(
        self,
        name: str,
        kind: Kind,
        attributes: Attributes | None = None,
        *,
        traceparent: str = "",
    ) -> Span:
        return NO_SPAN

    def close(self) -> None: ...


NO_SPAN: Span = _NoSpan()
NO_TRACER: Tracer = _NoTracer()

"""Errors on the wire: core's kinds, gRPC's status codes and google.rpc details.

Codes are plain numbers here (grpc.StatusCode's own), so that core does not need gRPC. A status
carries `ErrorInfo` (domain `isthmus`, the kind in its metadata), `BadRequest` when a field of the
request is to blame, and `RetryInfo` when the sender should come back later. An error that a package
hung below one of core's travels as that one: the other side knows no other.
"""

from __future__ import annotations

from typing import Final

from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from isthmus.core import errors
from isthmus.v1 import gateway_pb2

DOMAIN: Final = "isthmus"

CODE_OF_KIND: Final[dict[str, int]] = {
    errors.InvalidRequest.kind: 3,  # INVALID_ARGUMENT
    errors.ContextTooLong.kind: 3,
    errors.ConfigError.kind: 9,  # FAILED_PRECONDITION
    errors.NotSupported.kind: 12,  # UNIMPLEMENTED
    errors.PolicyRefused.kind: 7,  # PERMISSION_DENIED
    errors.Unauthenticated.kind: 16,  # UNAUTHENTICATED
    errors.PermissionDenied.kind: 7,
    errors.AlreadyExists.kind: 6,  # ALREADY_EXISTS
    errors.Overloaded.kind: 8,  # RESOURCE_EXHAUSTED
    errors.QuotaExceeded.kind: 8,
    errors.Unavailable.kind: 14,  # UNAVAILABLE
    errors.DeadlineExceeded.kind: 4,  # DEADLINE_EXCEEDED
    errors.InternalError.kind: 13,  # INTERNAL
}

# For statuses that gRPC itself or a proxy made, which carry no kind.
_KIND_OF_CODE: Final[dict[int, str]] = {
    1: errors.Unavailable.kind,  # CANCELLED, and not by us: the other side gave up
    3: errors.InvalidRequest.kind,
    4: errors.DeadlineExceeded.kind,
    6: errors.AlreadyExists.kind,
    7: errors.PolicyRefused.kind,
    8: errors.Overloaded.kind,
    9: errors.ConfigError.kind,
    11: errors.InvalidRequest.kind,  # OUT_OF_RANGE
    12: errors.NotSupported.kind,
    14: errors.Unavailable.kind,
    16: errors.Unauthenticated.kind,
}

_CLASSES: Final[dict[str, type[errors.IsthmusError]]] = {
    cls.kind: cls
    for cls in (
        errors.InvalidRequest,
        errors.ContextTooLong,
        errors.ConfigError,
        errors.NotSupported,
        errors.Unauthenticated,
        errors.PermissionDenied,
        errors.AlreadyExists,
        errors.DeadlineExceeded,
        errors.InternalError,
    )
}


def _kind_of(error: errors.IsthmusError) -> str:
    """The kind of the nearest class of core's that `error` is."""
    kinds = (cls.kind for cls in type(error).__mro__ if issubclass(cls, errors.IsthmusError))
    return next((kind for kind in kinds if kind in CODE_OF_KIND), errors.InternalError.kind)


def _retry_after_s(error: errors.IsthmusError) -> float | None:
    """When the sender should come back, if it should."""
    if isinstance(error, errors.Overloaded | errors.Unavailable):
        return error.retry_after_s
    return None


def error_to_wire(error: errors.IsthmusError) -> gateway_pb2.Error:
    """The error event that stands for `error`."""
    wire = gateway_pb2.Error(kind=_kind_of(error), message=error.message, field=error.field)
    delay_s = _retry_after_s(error)
    if delay_s is not None:
        wire.retry_after_ms = round(delay_s * 1000)
    if isinstance(error, errors.PolicyRefused):
        wire.policy_reason = error.reason
    return wire


def error_from_wire(wire: gateway_pb2.Error) -> errors.IsthmusError:
    """The error that an event stands for. A kind that is not known is an `InternalError`."""
    field = wire.field if wire.HasField("field") else None
    delay_s = wire.retry_after_ms / 1000 if wire.HasField("retry_after_ms") else None
    return _error(wire.kind, wire.message, field, delay_s, wire.policy_reason)


def error_to_status(error: errors.IsthmusError) -> status_pb2.Status:
    """A `google.rpc.Status` with the code, the message and the details of `error`."""
    kind = _kind_of(error)
    status = status_pb2.Status(code=CODE_OF_KIND[kind], message=error.message)
    info = error_details_pb2.ErrorInfo(reason=kind.upper(), domain=DOMAIN, metadata={"kind": kind})
    if error.field is not None:
        info.metadata["field"] = error.field
    if isinstance(error, errors.PolicyRefused):
        info.metadata["policy_reason"] = error.reason
    details = [info]
    if isinstance(error, errors.InvalidRequest) and error.field is not None:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=error.field, description=error.message
        )
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    delay_s = _retry_after_s(error)
    if delay_s is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(round(delay_s * 1000))
        details.append(retry)
    for detail in details:
        status.details.add().Pack(detail)
    return status


def error_from_status(code: int, message: str, details: bytes | None) -> errors.IsthmusError:
    """The error that ended a call.

    `code` is gRPC's number, `details` the bytes of the `grpc-status-details-bin` trailer. Without
    ours among them the code alone decides.
    """
    info, field, delay_s = _read_details(details)
    if info is None:
        # gRPC says RESOURCE_EXHAUSTED both for "come back later" and for a message over the
        # limit, which no waiting cures; only its text tells them apart.
        if code == CODE_OF_KIND[errors.Overloaded.kind] and "larger than max" in message:
            return errors.InvalidRequest(
                "the request is larger than the gateway accepts; shorten it", field="messages"
            )
        kind, reason = _KIND_OF_CODE.get(code, errors.InternalError.kind), ""
    else:
        kind = info.get("kind", errors.InternalError.kind)
        reason = info.get("policy_reason", "")
        field = info.get("field", field)
    return _error(kind, message, field, delay_s, reason)


def _error(
    kind: str, message: str, field: str | None, delay_s: float | None, reason: str
) -> errors.IsthmusError:
    """An error of this kind. One that is not known is an `InternalError`."""
    retry_after_s = 1.0 if delay_s is None else delay_s
    match kind:
        case errors.QuotaExceeded.kind:
            return errors.QuotaExceeded(message, retry_after_s=retry_after_s, field=field)
        case errors.Overloaded.kind:
            return errors.Overloaded(message, retry_after_s=retry_after_s)
        case errors.Unavailable.kind:
            return errors.Unavailable(message, field=field, retry_after_s=delay_s)
        case errors.PolicyRefused.kind:
            return errors.PolicyRefused(message, reason=reason, field=field)
    return _CLASSES.get(kind, errors.InternalError)(message, field=field)


def _read_details(raw: bytes | None) -> tuple[dict[str, str] | None, str | None, float | None]:
    """Our ErrorInfo's metadata, the first field at fault, the retry delay in seconds."""
    status = status_pb2.Status()
    try:
        status.ParseFromString(raw or b"")
    except DecodeError:
        return None, None, None
    metadata: dict[str, str] | None = None
    field: str | None = None
    delay_s: float | None = None
    info = error_details_pb2.ErrorInfo()
    bad = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    for detail in status.details:
        if detail.Is(info.DESCRIPTOR) and detail.Unpack(info) and info.domain == DOMAIN:
            metadata = dict(info.metadata)
        elif detail.Is(bad.DESCRIPTOR) and detail.Unpack(bad) and bad.field_violations:
            field = bad.field_violations[0].field
        elif detail.Is(retry.DESCRIPTOR) and detail.Unpack(retry):
            delay_s = retry.retry_delay.ToMilliseconds() / 1000
    return metadata, field, delay_s

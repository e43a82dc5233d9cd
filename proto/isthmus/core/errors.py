"""The errors that travel between packages.

The tree (every package hangs its own errors below one of these)::

    IsthmusError
    ├── InvalidRequest        the caller's request is wrong; names the field
    │   └── ContextTooLong    prompt and answer do not fit the model's context
    ├── ConfigError           a setting is wrong; names the setting
    ├── NotSupported          well formed, but this tier cannot do it
    ├── PolicyRefused         a rule (privacy, price, consent) forbids it
    ├── Unauthenticated       who is asking is not known
    ├── PermissionDenied      who is asking is known, and may not do this
    ├── AlreadyExists         another request had this id
    ├── Overloaded            a bounded queue is full; come back later
    │   └── QuotaExceeded     the caller's own share is used up; come back when it is not
    ├── Unavailable           a part is missing, stopped or unreachable
    ├── DeadlineExceeded      the time that the caller gave is used up
    └── InternalError         a fault of ours

An error's message says what is wrong, the form of the value (never a secret or a user's text)
and the way out. `kind` is stable and crosses the wire, so that a cloud error is the same class
on the device.
"""

from __future__ import annotations

from typing import ClassVar


class IsthmusError(Exception):
    """The root."""

    kind: ClassVar[str] = "internal"

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class InvalidRequest(IsthmusError):
    """The request is malformed; `field` names what to change."""

    kind = "invalid_request"


class ContextTooLong(InvalidRequest):
    """The prompt and the answer asked for do not fit the model's context window."""

    kind = "context_too_long"


class ConfigError(IsthmusError):
    """A setting in a file, an environment variable or a flag is wrong; `field` names it."""

    kind = "config"


class NotSupported(IsthmusError):
    """The request is well formed, but this tier cannot serve it."""

    kind = "not_supported"


class PolicyRefused(IsthmusError):
    """A rule forbids what was asked; `reason` is the decision's reason code."""

    kind = "policy_refused"

    def __init__(self, message: str, *, reason: str, field: str | None = None) -> None:
        super().__init__(message, field=field)
        self.reason = reason


class Unauthenticated(IsthmusError):
    """A token is missing or wrong. The message never says which."""

    kind = "unauthenticated"


class PermissionDenied(IsthmusError):
    """The caller is known and lacks the scope for this call."""

    kind = "permission_denied"


class AlreadyExists(IsthmusError):
    """A request of the same device had this id, with another body."""

    kind = "already_exists"


class Overloaded(IsthmusError):
    """A bounded queue is full. `retry_after_s` is an estimate in seconds."""

    kind = "overloaded"

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class QuotaExceeded(Overloaded):
    """A share of requests, tokens, money or streams is used up. `field` names the quota."""

    kind = "quota_exceeded"

    def __init__(
        self, message: str, *, retry_after_s: float = 1.0, field: str | None = None
    ) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.field = field


class Unavailable(IsthmusError):
    """A model, a backend, a gateway or an upstream is missing, stopped or unreachable.

    `retry_after_s` is set by a part that stops and whose like goes on with the same request.
    """

    kind = "unavailable"

    def __init__(
        self, message: str, *, field: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message, field=field)
        self.retry_after_s = retry_after_s


class DeadlineExceeded(IsthmusError):
    """The caller's time is used up."""

    kind = "deadline_exceeded"


class InternalError(IsthmusError):
    """A fault of ours. The details are in the log, without user text."""

    kind = "internal"

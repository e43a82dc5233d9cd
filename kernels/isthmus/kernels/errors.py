"""Errors of the kernels, below those of `isthmus.core`::

Unavailable
├── BackendUnavailable    no backend fits, or the one asked for does not work here
└── BackendLost           a backend that worked has stopped working; another may go on
├── DeviceLost        the device went away, or its driver gave up
├── DeviceHung        the device does not answer
├── OutOfDeviceMemory the device refused an allocation
└── InvalidResult     a kernel returned what is no number
"""

from __future__ import annotations

from collections.abc import Mapping

from isthmus.core.errors import Unavailable


class BackendUnavailable(Unavailable):
    """No backend could be made. `reasons` has each candidate's own."""

    kind = "backend_unavailable"

    def __init__(self, message: str, reasons: Mapping[str, str]) -> None:
        table = "".join(f"\n  {name}: {reason}" for name, reason in reasons.items())
        super().__init__(message + table)
        self.reasons = dict(reasons)


class BackendLost(Unavailable):
    """A step, or the making of a plan, failed on a device that worked before."""

    kind = "backend_lost"
    may_pass = False
    """Whether the backend is worth another try after a while."""


class DeviceLost(BackendLost):
    """The device went away, or its driver gave up. Plans and packed weights on it are gone."""

    kind = "device_lost"
    may_pass = True


class DeviceHung(BackendLost):
    """The device has not answered for minutes. A thread waits for it still."""

    kind = "device_hung"


class OutOfDeviceMemory(BackendLost):
    """The device refused an allocation. What was made before is still there."""

    kind = "out_of_device_memory"
    may_pass = True


class InvalidResult(BackendLost):
    """A kernel returned what is no number: it was miscompiled, or the device computes wrong."""

    kind = "invalid_result"

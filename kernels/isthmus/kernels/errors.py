"""Errors of the kernels, below those of `isthmus.core`::

Unavailable
└── BackendUnavailable    no backend fits, or the one asked for does not work here
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

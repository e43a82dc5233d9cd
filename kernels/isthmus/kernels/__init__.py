"""Operators of the on-device engine: what a backend is, and the backends there are."""

from isthmus.kernels.registry import BACKENDS, LAST_RESORT, create, probe

__all__ = ["BACKENDS", "LAST_RESORT", "create", "probe"]

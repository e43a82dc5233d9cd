"""Backends by name, made lazily; a failed choice tells every candidate's own reason."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Protocol

from isthmus.core.errors import ConfigError
from isthmus.kernels.base import Backend
from isthmus.kernels.errors import BackendLost, BackendUnavailable

_log = logging.getLogger(__name__)


class Factory(Protocol):
    """Makes a backend, or raises with the reason why it cannot."""

    def __call__(
        self, *, variant: str | None, threads: int | None, cache: Path | None, tuned: Path | None
    ) -> Backend:
        """`variant` is what followed the backend's name: `avx2` of `native:avx2`."""
        ...


def _native(
    *, variant: str | None, threads: int | None, cache: Path | None, tuned: Path | None
) -> Backend:
    from isthmus.kernels import instruction_sets
    from isthmus.kernels.native import NativeBackend

    isa = instruction_sets.choose(variant, cache=cache)
    return NativeBackend(threads=threads, isa=isa)


def plays_small() -> bool:
    """Whether ISTHMUS_OPENCL_LIMITS asks an OpenCL device to play a small one."""
    limits = os.environ.get("ISTHMUS_OPENCL_LIMITS", "")
    if limits not in ("", "small"):
        raise ConfigError(
            f"ISTHMUS_OPENCL_LIMITS must be 'small' or not set, not {limits!r}",
            field="ISTHMUS_OPENCL_LIMITS",
        )
    return limits == "small"


def _opencl(
    *, variant: str | None, threads: int | None, cache: Path | None, tuned: Path | None
) -> Backend:
    from isthmus.kernels.opencl.backend import OpenCLBackend

    return OpenCLBackend(device=variant, limited=plays_small(), cache_dir=cache, tuned_dir=tuned)


def _numpy(
    *, variant: str | None, threads: int | None, cache: Path | None, tuned: Path | None
) -> Backend:
    from isthmus.kernels.numpy_ref import NumpyBackend

    if variant is not None:
        raise ValueError("it has no instruction sets to choose from")
    return NumpyBackend()


_FACTORIES: dict[str, Factory] = {"native": _native, "opencl": _opencl, "numpy": _numpy}

BACKENDS: tuple[str, ...] = tuple(_FACTORIES)
"""Names that `create` knows, best first."""
LAST_RESORT = "numpy"
"""Never worth being measured against the others."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """What became of one backend: the device it would run on, or why it cannot."""

    name: str
    device: str | None
    reason: str | None


def create(
    name: str = "auto",
    *,
    threads: int | None = None,
    cache: Path | None = None,
    tuned: Path | None = None,
) -> Backend:
    """Make the backend `name`, or with `auto` the first of `BACKENDS` that works.

    `auto` logs a warning for every better one that it had to pass over. A backend asked for by
    name is strict: it works, or `BackendUnavailable` says why not; `native:avx2` asks for an
    instruction set too, `opencl:pocl` for the device whose name or platform has that in it, and
    ISTHMUS_OPENCL_LIMITS=small lets it play a small one. `threads` of None lets the backend choose;
    numpy leaves them to its BLAS, OpenCL to its driver. `cache` is a folder in which the outcome of
    a self-test and compiled kernels are kept, `tuned` one with the choices of `isthmus tune`.
    """
    base, _, variant = name.partition(":")
    if name != "auto" and base not in _FACTORIES:
        near = get_close_matches(base, BACKENDS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(
            f"backend {name!r} is not one of auto, {', '.join(BACKENDS)}{hint}", field="backend"
        )
    reasons: dict[str, str] = {}
    for candidate in BACKENDS if name == "auto" else (base,):
        try:
            return _FACTORIES[candidate](
                variant=variant or None, threads=threads, cache=cache, tuned=tuned
            )
        except (ImportError, OSError, RuntimeError, ValueError, BackendLost) as error:
            reasons[candidate] = str(error)
            if name == "auto":
                _log.warning("backend %s does not work here: %s", candidate, error)
    raise BackendUnavailable(
        "no backend works here" if name == "auto" else f"{name} does not work here", reasons
    )


def probe(cache: Path | None = None) -> tuple[Candidate, ...]:
    """Try every backend and tell what became of it, for `isthmus doctor`. `cache`: as `create`."""
    found = []
    for name in BACKENDS:
        try:
            backend = create(name, cache=cache)
            found.append(Candidate(name, backend.device, None))
        except BackendUnavailable as error:
            found.append(Candidate(name, None, error.reasons.get(name, error.message)))
    return tuple(found)

"""The automatic choice of backends: the better one for each phase, by what was measured here."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path

from isthmus.core import paths
from isthmus.engine.timing import Phases, Timing, Timings, choose, known_or_measured, measure
from isthmus.kernels import BACKENDS, LAST_RESORT, create
from isthmus.kernels.base import Backend
from isthmus.kernels.errors import BackendUnavailable

_log = logging.getLogger(__name__)


_GPU_NODES = ("dri/renderD*", "nvidia[0-9]*", "kgsl-3d0", "mali[0-9]*", "dxg")
"""What the drivers of GPUs put into /dev."""


def may_have_gpu() -> bool:
    """Whether a GPU could be here: asking OpenCL costs a fifth of a second and its drivers' memory.

    Where devices are not files it cannot be told.
    """
    if not sys.platform.startswith("linux"):
        return True
    return any(any(Path("/dev").glob(pattern)) for pattern in _GPU_NODES)


def candidates(threads: int | None) -> dict[str, Backend]:
    """The backends to choose from, best first; nothing is made where one alone could be used.

    Of those on the CPU only the first counts: others are for trying them by name.
    """
    if not may_have_gpu():
        return {}
    names = [name for name in BACKENDS if name != LAST_RESORT]
    made: dict[str, Backend] = {}
    for name in names if len(names) > 1 else ():
        try:
            backend = create(
                name, threads=threads, cache=paths.cache_dir(), tuned=paths.tuned_dir()
            )
            if not (backend.on_cpu and any(other.on_cpu for other in made.values())):
                made[name] = backend
        except BackendUnavailable as error:
            _log.info("backend %s does not work here: %s", name, error.reasons[name])
    return made


def timings_path() -> Path:
    """Where the measurements are kept."""
    return paths.cache_dir() / "timings.json"


def preferred(
    model: Path,
    threads: int | None,
    *,
    measured: Callable[[Path, str, int | None], Timing] | None = measure,
) -> Phases | None:
    """The backends to use for a model; None where there is nothing to choose from.

    What is not known yet is measured, seconds each, unless `measured` is None: then None comes
    back. Where only one backend could be used nothing is made, imported or measured.
    """
    made = candidates(threads)
    if len(made) < 2:
        return None
    kept = Timings(timings_path())
    if measured is None:
        known = {name: kept.get(model, backend, threads) for name, backend in made.items()}
        found = {name: timing for name, timing in known.items() if timing is not None}
        return choose(found) if len(found) == len(made) else None
    if any(kept.get(model, backend, threads) is None for backend in made.values()):
        _log.info("measuring %s, once for this model", " and ".join(made))
    found = known_or_measured(model, made, threads, kept, measured=measured, failed=_told)
    if not found:
        return None
    phases = choose(found)
    _log.info(
        "prefill on %s, decode on %s: %s",
        phases.prefill,
        phases.decode,
        "; ".join(
            f"{name} {t.prefill_tok_s:.0f} and {t.decode_tok_s:.0f} tokens/s"
            for name, t in found.items()
        ),
    )
    return phases


def _told(name: str, reason: str) -> None:
    _log.warning("backend %s is not chosen: measuring it failed: %s", name, reason)

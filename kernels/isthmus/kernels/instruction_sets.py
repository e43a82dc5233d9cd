"""Which instruction set the native backend runs with.

One that this project's tests never ran on a real processor is unverified: it is taken only after
its self-test against the reference, whose outcome is remembered for this processor and build.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import platform
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from isthmus.kernels import selftest
from isthmus.kernels.compiled import _native
from isthmus.kernels.native import VERIFIED, NativeBackend, runnable_sets

_log = logging.getLogger(__name__)

_TOLERANCE: Final = {16: 5e-3, 8: 6e-2}
"""By bits of an activation: some three times what the verified sets come to, at the most."""
_CPU_FIELDS: Final = (
    "vendor_id", "cpu family", "model", "stepping", "flags",
    "CPU implementer", "CPU architecture", "CPU variant", "CPU part", "CPU revision", "Features",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class InstructionSet:
    """One that this processor can run."""

    name: str
    verified: bool
    failure: str | None = None
    """What the self-test of an unverified one found wrong."""


def instruction_sets(cache: Path | None = None) -> tuple[InstructionSet, ...]:
    """All that this processor can run, best first; the unverified ones tested."""
    return tuple(_examined(name, cache) for name in runnable_sets())


def choose(name: str | None = None, *, cache: Path | None = None) -> str:
    """The best set that can be trusted, or `name` when it can.

    A better one that failed its self-test is passed over with a warning. One asked for by name is
    strict: RuntimeError says what its self-test found. ValueError: this processor lacks it.
    """
    runnable = runnable_sets()
    if name is not None and name not in runnable:
        raise ValueError(f"{name!r} cannot run on this CPU; it runs {', '.join(runnable)}")
    for candidate in runnable if name is None else (name,):
        examined = _examined(candidate, cache)
        if examined.failure is None:
            return candidate
        if name is not None:
            raise RuntimeError(f"the self-test of {name} failed: {examined.failure}")
        _log.warning("the self-test of %s failed here: %s", candidate, examined.failure)
    raise RuntimeError("no instruction set passed its self-test")


def _examined(name: str, cache: Path | None) -> InstructionSet:
    if name in VERIFIED:
        return InstructionSet(name, verified=True)
    record = None
    if cache is not None:
        record = cache / "self-tests" / f"{name}-{_cpu_and_build()}.json"
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            kept = json.loads(record.read_text("utf-8"))["failure"]
            return InstructionSet(name, verified=False, failure=kept and str(kept))
    failure = _self_test(name)
    if record is not None:
        _remember(record, failure)
    return InstructionSet(name, verified=False, failure=failure)


def _self_test(name: str) -> str | None:
    for bits, tolerance in _TOLERANCE.items():
        backend = NativeBackend(threads=1, isa=name, activation_bits=bits)
        failure = selftest.disagreement(backend, tolerance=tolerance)
        if failure is not None:
            return f"{failure}, with activations of {bits} bits"
    return None


def _remember(record: Path, failure: str | None) -> None:
    # A folder that cannot be written to costs a test at each start, no more.
    with contextlib.suppress(OSError):
        record.parent.mkdir(parents=True, exist_ok=True)
        descriptor, draft = tempfile.mkstemp(prefix=record.name, dir=record.parent)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump({"failure": failure}, file)
        Path(draft).replace(record)


def _cpu_and_build() -> str:
    """A name for this processor, this build of the kernels and this self-test."""
    digest = hashlib.sha256(_cpu().encode())
    for source in (_native.__file__, selftest.__file__):
        digest.update(Path(source).read_bytes())
    return digest.hexdigest()[:24]


def _cpu() -> str:
    """The processor's model, all of them when its cores differ."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return "\n".join(sorted({line for line in lines if line.split("\t")[0] in _CPU_FIELDS}))

"""Every variant on one device, as a report that can be sent in: no names of users, no paths."""

from __future__ import annotations

import os
import platform
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

from isthmus.kernels.opencl.algorithms import ALGORITHMS
from isthmus.kernels.opencl.capabilities import Capabilities
from isthmus.kernels.opencl.layouts import WeightForm
from isthmus.kernels.opencl.tuned import kernel_version
from isthmus.kernels.opencl.variants import Variant, variants
from isthmus.kernels.tuner.ceiling import Ceiling
from isthmus.kernels.tuner.child import Child, ChildFailed
from isthmus.kernels.tuner.problem import Problem
from isthmus.kernels.tuner.trials import CeilingJob, Job, Outcome

FORMAT = 1
_FORM = WeightForm(rows=256, cols=320, bits=4, group=32, symmetric=False)
"""More than a group of every variant, and small: what takes time is compiling."""
_PATH = re.compile(r"(?:[A-Za-z]:)?[\\/][^\s'\":;,()]+")
_MOST_TOKENS = 64

Progress = Callable[[int, int, str], None]
"""Called with how many are done, of how many, and with the variant at hand."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a variant."""

    variant: str
    ok: bool
    verified: bool
    """Whether a device of ours has run it before."""
    error: str | None
    seconds: float
    """Compiling included."""


def self_test(
    child: Child, device: Capabilities, *, quick: bool, progress: Progress
) -> dict[str, Any]:
    """Run every variant that fits, or with `quick` every value of every tunable once; the report.

    What the user breaks off (KeyboardInterrupt) is reported as far as it came.
    """
    asked = dict.fromkeys(_telling() if quick else variants(_MOST_TOKENS))
    reasons = {variant: variant.misfit(_FORM, device, paired=False) for variant in asked}
    chosen = [variant for variant, reason in reasons.items() if reason is None]
    results: list[Result] = []
    whole = True
    ceiling: Ceiling | None = None
    try:
        ceiling = _ceiling(child)
        for done, variant in enumerate(chosen):
            progress(done, len(chosen), str(variant))
            results.append(_one(child, device, variant))
    except KeyboardInterrupt:
        whole = False
    described = asdict(device) | {"kind": str(device.kind)}
    return {
        "format": FORMAT,
        "versions": _versions(),
        "device": described,
        "ceiling": None if ceiling is None else asdict(ceiling),
        "whole": whole,
        "ok": sum(result.ok for result in results),
        "failed": sum(not result.ok for result in results),
        "unfit": dict(Counter(reason for reason in reasons.values() if reason is not None)),
        "variants": [asdict(result) for result in results],
    }


def _telling() -> Iterator[Variant]:
    """Every algorithm as it stands first, and with each other value of each tunable."""
    for name, algorithm in ALGORITHMS.items():
        yield Variant.of(name)
        for tunable, options in algorithm.options.items():
            for value in options[1:]:
                yield Variant.of(name, **{tunable: value})


def _ceiling(child: Child) -> Ceiling | None:
    try:
        found: Ceiling = child.ask(CeilingJob())
    except ChildFailed:
        return None
    return found


def _one(child: Child, device: Capabilities, variant: Variant) -> Result:
    verified = variant.verified
    began = time.monotonic()
    tile = 1 if variant.tokens == 1 else variant.tokens
    try:
        outcome = child.ask(Job(Problem(_FORM, normed=True), str(variant), tile))
    except ChildFailed as failed:
        outcome = Outcome(error=str(failed))
    seconds = round(time.monotonic() - began, 3)
    told = None if outcome.error is None else without_paths(outcome.error)
    return Result(str(variant), told is None, verified, told, seconds)


def without_paths(text: str) -> str:
    """A message that names no file of the user's."""
    return _PATH.sub("<path>", text)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "kernels": kernel_version()}
    for package in ("isthmus", "numpy", "pyopencl"):
        found[package] = metadata.version(package)
    return found | {"system": platform.system(), "machine": platform.machine(), "os": os.name}

"""Every variant on one device, as a report that can be sent in: no names of users, no paths.

What tells most comes first, so that a report that was broken off is worth having: every algorithm,
whole steps of a small model, every value of every tunable, every form of a weight and every
epilogue, and then all combinations, shuffled.
"""

from __future__ import annotations

import os
import platform
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from importlib import metadata
from typing import Any

from isthmus.kernels.errors import BackendUnavailable
from isthmus.kernels.opencl.algorithms import ALGORITHMS
from isthmus.kernels.opencl.capabilities import Capabilities, DeviceKind
from isthmus.kernels.opencl.products import Epilogue
from isthmus.kernels.opencl.tuned import kernel_version
from isthmus.kernels.opencl.variants import Variant, parse_shape, variants
from isthmus.kernels.tuner.ceiling import Ceiling
from isthmus.kernels.tuner.child import Child, ChildFailed
from isthmus.kernels.tuner.problem import Problem
from isthmus.kernels.tuner.trials import CeilingJob, Job, Outcome, StepsJob

FORMAT = 2
_PROBLEM = Problem(parse_shape("256x320.4g32"), normed=True)
"""More than a group of every variant, and small: what takes time is compiling."""
_OTHER_PROBLEMS = (
    Problem(parse_shape("256x384.4g128")),
    Problem(parse_shape("256x320.4g32s"), Epilogue.ADD),
    Problem(parse_shape("192x336.8g16"), Epilogue.SWIGLU, normed=True),
    Problem(parse_shape("256x320.8g32s")),
)
_STEPS = (
    None,
    ("gemv.k:wgs=16", "gemm.k:wgs=16"),
    ("gemv.k8n4:wgs=16", "gemm.k8n4.local:wgs=16"),
    ("gemv.k8n4.img:wgs=16", "gemm.k8n4.img.local:wgs=16"),
    ("gemv.i", "gemm.n:wgs=4"),
)
"""Algorithms to check whole steps with, attention, norms and the head among them; None for the
default's."""
_STEPS_LIMIT_S = 300.0
_PATH = re.compile(r"(?:[A-Za-z]:)?[\\/][^\s'\":;,()]+")
_MOST_TOKENS = 64
_MOST_CHILDREN = 8
_KEEP_S = 20.0

Progress = Callable[[int, int, str], None]
"""Called with how many are done, of how many, and with the variant at hand; from any thread."""
Keep = Callable[[dict[str, Any]], None]
"""Called with the report so far, from time to time."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a variant, or of whole steps with one."""

    variant: str
    shape: str
    """The form of the weight; "steps" for whole steps."""
    epilogue: str
    ok: bool
    verified: bool
    """Whether a device of ours has run it before."""
    error: str | None
    seconds: float
    """Compiling included."""


@dataclass(slots=True)
class _Run:
    """What is known so far."""

    device: Capabilities
    processes: int
    unfit: Counter[str]
    ceiling: Ceiling | None = None
    results: list[Result] = field(default_factory=list)
    ended: str | None = "it is not complete yet"
    """Why it is not whole."""
    began: float = field(default_factory=time.monotonic)

    def report(self) -> dict[str, Any]:
        """As it is sent in."""
        results = list(self.results)
        return {
            "format": FORMAT,
            "versions": _versions(),
            "device": asdict(self.device) | {"kind": str(self.device.kind)},
            "ceiling": None if self.ceiling is None else asdict(self.ceiling),
            "whole": self.ended is None,
            "ended": self.ended,
            "seconds": round(time.monotonic() - self.began, 1),
            "processes": self.processes,
            "ok": sum(result.ok for result in results),
            "failed": sum(not result.ok for result in results),
            "unfit": dict(self.unfit),
            "variants": [asdict(result) for result in results],
        }


def processes(device: Capabilities) -> int:
    """How many children to test a device with: a CPU compiles on all cores, a GPU has one user."""
    if device.kind is not DeviceKind.CPU:
        return 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(usable or 1, _MOST_CHILDREN)


def self_test(
    children: Sequence[Child],
    device: Capabilities,
    *,
    quick: bool,
    progress: Progress,
    keep: Keep = lambda _report: None,
) -> dict[str, Any]:
    """Run every variant that fits, or with `quick` what tells most; the report.

    What the user breaks off (KeyboardInterrupt) is reported as far as it came, and so is a device
    that does not open any more. Raises `BackendUnavailable` where it never did.
    """
    cases = list(dict.fromkeys(_in_order(quick=quick)))
    misfits = [case.misfit(device) for case in cases]
    fits = [case for case, reason in zip(cases, misfits, strict=True) if reason is None]
    run = _Run(device, len(children), Counter(reason for reason in misfits if reason is not None))
    try:
        run.ceiling = _ceiling(children[0])
        _share(children, fits, run, progress, keep)
        run.ended = None
    except KeyboardInterrupt:
        run.ended = "broken off by the user"
    except _Lost as error:
        run.ended = str(error)
    return run.report()


@dataclass(frozen=True, slots=True)
class _Case:
    """A variant with a weight, or whole steps with `algorithms` where there is no variant."""

    variant: Variant | None = None
    problem: Problem = _PROBLEM
    algorithms: tuple[str, str] | None = None

    @property
    def name(self) -> str:
        if self.variant is not None:
            return str(self.variant)
        return " and ".join(self.algorithms or ("default choices",))

    def misfit(self, device: Capabilities) -> str | None:
        """Why it cannot be run."""
        if self.variant is not None:
            return self.variant.misfit(self.problem.form, device, paired=self.problem.paired)
        for text in self.algorithms or ():
            reason = Variant.parse(text).misfit(self.problem.form, device, paired=False)
            if reason is not None:
                return reason
        return None

    def ask(self, child: Child) -> Outcome:
        """Run it. Raises `ChildFailed`."""
        if self.variant is None:
            found = child.ask(StepsJob(self.algorithms), limit_s=_STEPS_LIMIT_S)
        else:
            found = child.ask(Job(self.problem, str(self.variant), self.variant.tokens))
        if not isinstance(found, Outcome):
            raise TypeError("the child answered something else")
        return found


def _in_order(*, quick: bool) -> Iterator[_Case]:
    yield from (_Case(Variant.of(name)) for name in ALGORITHMS)
    yield from (_Case(algorithms=algorithms) for algorithms in _STEPS)
    for name, algorithm in ALGORITHMS.items():
        for tunable, options in algorithm.options.items():
            for value in options[1:]:
                yield _Case(Variant.of(name, **{tunable: value}))
    for problem in _OTHER_PROBLEMS:
        for name in ALGORITHMS:
            yield _Case(Variant.of(name), problem)
    if not quick:
        combinations = [
            _Case(variant)
            for variant in variants(_MOST_TOKENS)
            if variant.algorithm.rule(variant.tunables, _PROBLEM.form) is None
        ]
        random.Random(0).shuffle(combinations)
        yield from combinations


class _Lost(Exception):
    """The device does not open any more."""


def _share(
    children: Sequence[Child], cases: Sequence[_Case], run: _Run, progress: Progress, keep: Keep
) -> None:
    """Let every child take the next case that is there. Raises `_Lost`."""
    waiting, stop, lock = iter(cases), threading.Event(), threading.Lock()

    def work(child: Child) -> None:
        while not stop.is_set():
            with lock:
                case = next(waiting, None)
            if case is None:
                return
            progress(len(run.results), len(cases), case.name)
            try:
                result = _one(child, case)
            except BackendUnavailable as error:
                raise _Lost(f"after {case.name}: {without_paths(str(error))}") from None
            if not stop.is_set():  # what ended it may have ended the child too
                run.results.append(result)

    with ThreadPoolExecutor(len(children)) as pool:
        running = {pool.submit(work, child) for child in children}
        try:
            while running:
                done, running = wait(running, timeout=_KEEP_S)
                for future in done:
                    future.result()
                keep(run.report())
        except BaseException:
            stop.set()
            for child in children:
                child.abandon()
            raise


def _ceiling(child: Child) -> Ceiling | None:
    try:
        found: Ceiling = child.ask(CeilingJob())
    except ChildFailed:
        return None
    return found


def _one(child: Child, case: _Case) -> Result:
    began = time.monotonic()
    try:
        outcome = case.ask(child)
    except ChildFailed as failed:
        outcome = Outcome(error=str(failed))
    told = None if outcome.error is None else without_paths(outcome.error)
    return Result(
        variant=case.name,
        shape="steps" if case.variant is None else case.problem.key,
        epilogue=case.problem.epilogue.name.lower(),
        ok=told is None,
        verified=case.variant is None or case.variant.verified,
        error=told,
        seconds=round(time.monotonic() - began, 3),
    )


def without_paths(text: str) -> str:
    """A message that names no file of the user's."""
    return _PATH.sub("<path>", text)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "kernels": kernel_version()}
    for package in ("isthmus", "numpy", "pyopencl"):
        found[package] = metadata.version(package)
    return found | {"system": platform.system(), "machine": platform.machine(), "os": os.name}

"""`isthmus doctor --self-test`: every kernel variant on the OpenCL device at hand, as a report."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from isthmus.kernels.opencl.capabilities import Capabilities
    from isthmus.kernels.tuner.selftest import Progress

_LIMIT_S = 60.0
"""Of a case; the device may be slow, and the machine busy."""
_SAY_S = 30.0
"""How often progress is told where no person is looking."""


def run(device: str | None, *, quick: bool, as_json: bool) -> None:
    """Write the report and say where it is; status 1 when a variant failed."""
    from isthmus.cli.signals import as_interrupts
    from isthmus.core.errors import Unavailable
    from isthmus.core.paths import tuned_dir
    from isthmus.kernels.opencl.files import write_whole
    from isthmus.kernels.opencl.programs import ProgramCache
    from isthmus.kernels.opencl.runtime import open_device
    from isthmus.kernels.registry import plays_small
    from isthmus.kernels.tuner.child import Child
    from isthmus.kernels.tuner.selftest import processes, self_test
    from isthmus.kernels.tuner.trials import Evaluator, Setup

    try:
        limited = plays_small()
        limits = open_device(device, limited=limited, programs=ProgramCache(None)).capabilities
    except (ImportError, OSError) as error:
        raise Unavailable(f"no OpenCL device can be tested: {error}") from None
    slug = re.sub(r"[^a-z0-9]+", "-", f"{limits.name} {limits.driver}".lower()).strip("-")
    path = tuned_dir() / f"self-test-{slug}.json"

    def keep(report: dict[str, Any]) -> None:
        write_whole(path, json.dumps(report, indent=1) + "\n")

    print(
        f"testing {limits.describe()}\nCtrl-C ends it with what there is; what tells most is first",
        file=sys.stderr,
    )
    setup = Setup(limits.query, limited)
    with ExitStack() as stack:
        stack.enter_context(as_interrupts())
        children = [
            stack.enter_context(Child(Evaluator, setup, limit_s=_LIMIT_S))
            for _ in range(processes(limits))
        ]
        progress = stack.enter_context(_bar())
        report = self_test(children, limits, quick=quick, progress=progress, keep=keep)
    keep(report)
    _remember(limits, report["variants"])
    told = {key: report[key] for key in ("ok", "failed", "whole")} | {"path": str(path)}
    if as_json:
        print(json.dumps(told))
    else:
        _show(report)
        print(f"report: {path}")
    if report["failed"]:
        raise typer.Exit(1)


def _remember(limits: Capabilities, results: list[dict[str, Any]]) -> None:
    """What passed in all its cases may be chosen here, what failed in one may not."""
    from isthmus.core.paths import tuned_dir
    from isthmus.kernels.opencl.tuned import Passed

    failed = {one["variant"] for one in results if not one["ok"]}
    unverified = {one["variant"] for one in results if not one["verified"]}
    passed = Passed(tuned_dir())
    passed.forget(limits, sorted(failed))
    passed.add(limits, sorted(unverified - failed))


def _show(report: dict[str, Any]) -> None:
    for one in report["variants"]:
        if not one["ok"]:
            print(f"failed  {one['variant']} ({one['shape']}, {one['epilogue']}): {one['error']}")
    for reason, count in report["unfit"].items():
        print(f"not run  {count} variants: {reason}")
    ended = "" if report["whole"] else f"; the rest is missing: {report['ended']}"
    print(f"{report['ok']} cases right, {report['failed']} failed{ended}")


@contextmanager
def _bar() -> Iterator[Progress]:
    """A bar on stderr while a person is looking, else a line now and then."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines()
        return
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
               TextColumn("{task.description}", markup=False))  # fmt: skip
    with Progress(*columns, console=console, speed_estimate_period=120) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda done, of, what: bar.update(task, completed=done, total=of, description=what)


class _Lines:
    """Progress for a log."""

    def __init__(self) -> None:
        self._began = self._said = time.monotonic()

    def __call__(self, done: int, of: int, what: str) -> None:
        now = time.monotonic()
        if done and now - self._said >= _SAY_S:
            self._said = now
            left = (now - self._began) / done * (of - done) / 60
            print(f"{done} of {of}, about {left:.0f} min left: {what}", file=sys.stderr)

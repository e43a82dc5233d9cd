"""`isthmus doctor --self-test`: every kernel variant on the device at hand, as a report."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from isthmus.kernels.tuner.selftest import Progress


def run(device: str | None, *, quick: bool, as_json: bool) -> None:
    """Write the report and say where it is; status 1 when a variant failed."""
    from isthmus.core.errors import Unavailable
    from isthmus.core.paths import tuned_dir
    from isthmus.kernels.opencl.files import write_whole
    from isthmus.kernels.opencl.programs import ProgramCache
    from isthmus.kernels.opencl.runtime import open_device
    from isthmus.kernels.opencl.tuned import Passed
    from isthmus.kernels.registry import plays_small
    from isthmus.kernels.tuner.child import Child
    from isthmus.kernels.tuner.selftest import self_test
    from isthmus.kernels.tuner.trials import Evaluator, Setup

    try:
        limited = plays_small()
        limits = open_device(device, limited=limited, programs=ProgramCache(None)).capabilities
    except (ImportError, OSError) as error:
        raise Unavailable(f"no OpenCL device can be tested: {error}") from None
    print(f"testing {limits.describe()}; Ctrl-C ends it with what there is", file=sys.stderr)
    with Child(Evaluator, Setup(limits.query, limited)) as child, _bar() as progress:
        report = self_test(child, limits, quick=quick, progress=progress)
    slug = re.sub(r"[^a-z0-9]+", "-", f"{limits.name} {limits.driver}".lower()).strip("-")
    path = tuned_dir() / f"self-test-{slug}.json"
    write_whole(path, json.dumps(report, indent=1) + "\n")
    passed = Passed(tuned_dir())
    results = report["variants"]
    passed.forget(limits, [one["variant"] for one in results if not one["ok"]])
    unverified = [one for one in results if not one["verified"]]
    passed.add(limits, [one["variant"] for one in unverified if one["ok"]])
    told = {key: report[key] for key in ("ok", "failed", "whole")} | {"path": str(path)}
    if as_json:
        print(json.dumps(told))
    else:
        _show(report)
        print(f"report: {path}")
    if report["failed"]:
        raise typer.Exit(1)


def _show(report: dict[str, Any]) -> None:
    for one in report["variants"]:
        if not one["ok"]:
            print(f"failed  {one['variant']}: {one['error']}")
    for reason, count in report["unfit"].items():
        print(f"not run  {count} variants: {reason}")
    ended = "" if report["whole"] else ", broken off"
    print(f"{report['ok']} variants right, {report['failed']} failed{ended}")


@contextmanager
def _bar() -> Iterator[Progress]:
    """A bar on stderr while a person is looking."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("starting", total=None)

        def report(done: int, of: int, what: str) -> None:
            bar.update(task, completed=done, total=of, description=what)

        yield report

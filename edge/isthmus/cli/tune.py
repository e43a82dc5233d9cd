"""`isthmus tune`: measure kernel variants on this device, and store the choices."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.core.errors import ConfigError, InvalidRequest, Unavailable

if TYPE_CHECKING:
    from isthmus.engine.prepared import LoadedModel
    from isthmus.engine.timing import Timing
    from isthmus.kernels.opencl.backend import OpenCLBackend
    from isthmus.kernels.opencl.tuned import Tuned, TunedFiles
    from isthmus.kernels.tuner.tune import Tuning

_SAME = 1.02
"""Whole steps that differ by less are equally quick."""
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object as the last line.")]


def tune(
    device: Annotated[
        str | None, typer.Option(help="Part of the device's or platform's name; else the best.")
    ] = None,
    model: Annotated[
        str, typer.Option(help="The model whose shapes count: a name, or a model's path.")
    ] = "smollm2-135m",
    seconds: Annotated[float, typer.Option(min=1, help="About how long to search.")] = 90,
    export_to: Annotated[
        Path | None,
        typer.Option("--export", help="Write the stored choices, - to stdout; do not measure."),
    ] = None,
    import_from: Annotated[
        Path | None,
        typer.Option("--import", help="Store this file's choices; do not measure."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure kernel variants on this device and store what is quickest for a model's shapes.

    Example: isthmus tune --seconds 30
    """
    from isthmus.core.paths import tuned_dir
    from isthmus.kernels.opencl.tuned import TunedFiles

    files = TunedFiles(tuned_dir())
    if import_from is not None or export_to is not None:
        moved = {} if import_from is None else _import(files, import_from)
        moved |= {} if export_to is None else _export(files, export_to)
        if as_json:
            print(json.dumps(moved))
        elif export_to != Path("-"):
            print(_told(moved))
        return
    report = _tune(files, device, model, seconds)
    if as_json:
        print(json.dumps(report))
    else:
        _show(report)


def _import(files: TunedFiles, source: Path) -> dict[str, Any]:
    from isthmus.cli.generate import read_text
    from isthmus.kernels.opencl.tuned import parse

    entries = parse(read_text(source), str(source))
    files.keep(entries)
    found = [
        {"device": entry.device, "shapes": len(entry.choices), "serves": _serves(entry)}
        for entry in entries
    ]
    return {"imported": found}


def _serves(entry: Tuned) -> str:
    """What choices are good for on this machine."""
    try:
        from isthmus.kernels.opencl.runtime import devices

        nearest = [
            (near, device.name)
            for device, _ in devices()
            if (near := entry.nearness(device)) is not None
        ]
    except (ImportError, OSError):
        nearest = []
    if not nearest:
        return "no device of this machine"
    near, name = min(nearest)
    kin = ("", ", of the same architecture or with another driver", ", of the same vendor")
    return f"{name} here{kin[near]}"


def _export(files: TunedFiles, target: Path) -> dict[str, Any]:
    from isthmus.kernels.opencl.tuned import dump

    entries = files.own()
    if not entries:
        raise InvalidRequest("nothing is stored yet; measure first: isthmus tune", field="--export")
    if target == Path("-"):
        sys.stdout.write(dump(entries))
    else:
        try:
            target.write_text(dump(entries), "utf-8")
        except OSError as error:
            raise ConfigError(
                f"cannot write {target} ({error.strerror})", field="--export"
            ) from None
    found = [{"device": entry.device, "shapes": len(entry.choices)} for entry in entries]
    return {"exported": found}


def _told(moved: dict[str, Any]) -> str:
    return "\n".join(
        f"{what} the choices for {one['shapes']} shapes of {one['device']}"
        + (f": for {one['serves']}" if "serves" in one else "")
        for what, devices in moved.items()
        for one in devices
    )


def _tune(files: TunedFiles, device: str | None, model: str, seconds: float) -> dict[str, Any]:
    from isthmus.cli.signals import as_interrupts
    from isthmus.core.paths import tuned_dir
    from isthmus.engine.opening import open_model
    from isthmus.kernels.opencl.backend import OpenCLBackend
    from isthmus.kernels.opencl.tuned import Passed
    from isthmus.kernels.registry import plays_small
    from isthmus.kernels.tuner.child import Child, ChildFailed
    from isthmus.kernels.tuner.problem import problems
    from isthmus.kernels.tuner.trials import Evaluator, Setup
    from isthmus.kernels.tuner.tune import tune as tune_device

    files.own()  # a damaged file is told now, not after a minute of work
    print("loading the model", file=sys.stderr)
    name = "opencl" if device is None else f"opencl:{device}"
    loaded, backend = open_model(model, backend=name)
    if not isinstance(backend, OpenCLBackend):
        raise TypeError("the registry made another backend than asked for")
    limits = backend.capabilities
    setup = Setup(limits.query, limited=plays_small())
    with as_interrupts(), Child(Evaluator, setup) as child, _seconds_bar(seconds) as progress:
        try:
            found = tune_device(
                child,
                limits,
                problems(loaded.ops, limits.kind),
                backend.choices,
                seconds=seconds,
                progress=progress,
            )
        except ChildFailed as error:
            raise Unavailable(f"the device does not run the simplest kernel: {error}") from None
    passed = Passed(tuned_dir())
    passed.forget(limits, [text for reasons in found.rejected.values() for text in reasons])
    passed.add(limits, found.unverified_passed)
    print("comparing whole steps", file=sys.stderr)
    with as_interrupts():
        speeds = _whole_steps(files, found, model, loaded, backend)
    return _report(files, found, speeds)


def _whole_steps(
    files: TunedFiles, found: Tuning, model: str, loaded: LoadedModel, backend: OpenCLBackend
) -> tuple[Timing, Timing, bool]:
    """Whole steps with the choices before and with the new ones, in turns; the better stay.

    What stays is stored, its weights are prepared and its programs compiled. The choices before
    stay too where this is broken off, or fails with the new ones.
    """
    from isthmus.engine.opening import open_model
    from isthmus.engine.phases import timings_path
    from isthmus.engine.whole_steps import WholeSteps, exchange_s, in_turns

    before = files.own()
    old = WholeSteps(loaded, backend)
    files.keep([found.tuned])
    timings_path().unlink(missing_ok=True)  # they are of the choices before
    name = f"opencl:{backend.capabilities.query}"
    try:
        new = WholeSteps(*open_model(model, backend=name))
        try:
            new.warm_up()
            old_speed, new_speed = in_turns(old, new)
        finally:
            new.close()
    except BaseException:
        files.write(before)
        raise
    finally:
        old.close()
    better = exchange_s(new_speed) <= _SAME * exchange_s(old_speed)
    if not better:
        files.write(before)
        open_model(model, backend=name)  # prepares the weights for it again
    return old_speed, new_speed, better


def _report(
    files: TunedFiles, found: Tuning, speeds: tuple[Timing, Timing, bool]
) -> dict[str, Any]:
    before, after, kept = speeds
    return {
        "device": found.device.name,
        "driver": found.device.driver,
        "ceiling": asdict(found.ceiling),
        "choices": [asdict(line) for line in found.lines()],
        "tried": sum(one.tried for one in found.found),
        "rejected": found.rejected,
        "before": asdict(before),
        "after": asdict(after),
        "kept": kept,
        "path": str(files.path),
    }


def _show(report: dict[str, Any]) -> None:
    ceiling = report["ceiling"]
    print(
        f"{report['device']}: reads {ceiling['read_gb_s']:.1f} GB/s, copies "
        f"{ceiling['copy_gb_s']:.1f} GB/s, multiplies {ceiling['multiply_gflop_s']:.0f} GFLOP/s"
    )
    for line in report["choices"]:
        default = line["default_seconds"]
        gain = "" if default is None else f"{default / line['seconds']:.2f} x default"
        print(
            f"{line['shape'] + '@' + str(line['tile']):20} {line['rate']:7.1f} {line['unit']:8}"
            f"{line['of_ceiling']:5.0%} of ceiling  {gain:14} {line['variant']}"
        )
    for shape, reasons in report["rejected"].items():
        for variant, reason in reasons.items():
            print(f"rejected for {shape}: {variant}: {reason}")
    before, after = report["before"], report["after"]
    print(
        f"{report['tried']} variants tried; whole steps: "
        f"prefill {before['prefill_tok_s']:.0f} → {after['prefill_tok_s']:.0f} tok/s, "
        f"decode {before['decode_tok_s']:.0f} → {after['decode_tok_s']:.0f} tok/s"
    )
    print(
        f"stored in {report['path']}"
        if report["kept"]
        else "not stored: whole steps are slower than before"
    )


@contextmanager
def _seconds_bar(seconds: float) -> Iterator[Any]:
    """A bar on stderr while a person is looking."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True)
    columns = (BarColumn(), TextColumn("{task.completed:.0f} of {task.total:.0f} s  "),
               TextColumn("{task.description}", markup=False))  # fmt: skip
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("starting", total=seconds)
        yield lambda gone, what: bar.update(task, completed=min(gone, seconds), description=what)

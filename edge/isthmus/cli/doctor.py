"""`isthmus doctor`: what this machine has, and the cure for what is missing."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from isthmus.cli import checks
from isthmus.cli.checks import Check
from isthmus.core.errors import InvalidRequest

_TELLING_FLAGS = ("avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8",
                  "asimd", "asimddp", "i8mm", "sve")  # fmt: skip


def doctor(
    config: Annotated[
        Path | None,
        typer.Option(help="The agent's settings, a TOML file (see ISTHMUS_EDGE_* too)."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="The device's model, in the place of the settings'.")
    ] = None,
    gateway: Annotated[
        str | None, typer.Option(help="host:port of the gateway, in the place of the settings'.")
    ] = None,
    self_test: Annotated[
        bool,
        typer.Option("--self-test", help="Run every kernel variant on the OpenCL device instead."),
    ] = False,
    device: Annotated[
        str | None, typer.Option(help="For --self-test: a part of the device's name.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="For --self-test: each value of each tunable once.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object as the last line of stdout.")
    ] = False,
) -> None:
    """Look at settings, devices, backends, model and gateway; exit status 0 when Isthmus can run.

    The last line is "ready", or the one thing to do next.

    With --self-test: check every kernel variant that fits the OpenCL device, each in a process
    that may crash, and write a report without names and paths; status 1 when a variant failed.

    Example: isthmus doctor --json
    """
    if self_test:
        from isthmus.cli import self_test as testing

        testing.run(device, quick=quick, as_json=as_json)
        return
    if device is not None or quick:
        raise InvalidRequest("--device and --quick go with --self-test", field="--self-test")
    found, of_settings = checks.settings(config, model=model, gateway=gateway)
    model = found.model if found is not None else model or "smollm2-135m"
    phases = _phases(model)
    # In the order in which what is missing is brought: settings and models need a home.
    looked_at = [
        checks.home(),
        checks.ledger(),
        of_settings,
        *_machine(),
        *_backends(found.backend if found is not None else "auto"),
        *_instruction_sets(),
        *_opencl(),
        *_sensors(),
        checks.model(model),
        *(
            Check(f"{phase} on", True, f"{name}: {why}", needed=False)
            for phase, (name, why) in phases.items()
        ),
        checks.page(),
        *([checks.gateway(found)] if found is not None else []),
    ]
    missing = [check for check in looked_at if check.needed and not check.ok]
    todo = missing[0].cure if missing else None
    if as_json:
        told = [asdict(check) for check in looked_at]
        chosen = {f"{phase}_backend": name for phase, (name, _) in phases.items()}
        print(json.dumps({"ready": not missing, "next": todo, **chosen, "checks": told}))
    else:
        _show(looked_at)
        print(f"next: {todo}" if missing else "ready")
    if missing:
        raise typer.Exit(1)


def _show(looked_at: list[Check]) -> None:
    from rich.console import Console
    from rich.text import Text

    # Plain lines, not a table: a path must stay in one piece to be copied.
    console = Console(highlight=False, soft_wrap=True)
    width = max(len(check.name) for check in looked_at)
    for check in looked_at:
        mark, style = ("ok", "green") if check.ok else ("no", "red" if check.needed else "yellow")
        console.print(
            Text(f"{mark}  ", style), Text(f"{check.name:<{width}}  {check.detail}"), sep=""
        )
        if check.cure and not check.ok:
            console.print(Text(f"{'':<{width}}      → {check.cure}", "dim"))


def _machine() -> Iterator[Check]:
    import psutil

    cores = psutil.cpu_count(logical=False) or 0
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores
    model, flags = _cpu()
    yield Check(
        "cpu",
        True,
        f"{model}, {platform.machine()}, {cores} cores ({allowed} threads usable), "
        f"{' '.join(flags) or 'no vector extensions found'}",
    )
    memory = psutil.virtual_memory()
    enough = memory.available > 400 * 2**20
    yield Check(
        "memory",
        enough,
        f"{memory.available / 2**30:.1f} GiB free of {memory.total / 2**30:.1f} GiB",
        "free some memory: the small model and its context take about 400 MiB",
    )


def _cpu() -> tuple[str, list[str]]:
    """The processor's name and those of its flags that matter for the kernels."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or "unknown processor", []
    values: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        values.setdefault(name.strip(), value.strip())
    flags = set((values.get("flags") or values.get("Features") or "").split())
    name = values.get("model name") or platform.processor() or "unknown processor"
    return name, [flag for flag in _TELLING_FLAGS if flag in flags]


def _backends(asked: str) -> Iterator[Check]:
    """`asked`: the settings' backend, which is strict where it is not `auto`."""
    from isthmus.core.paths import cache_dir
    from isthmus.kernels import probe

    # Looking leaves no trace: what it learns is kept where there is a folder already.
    found = probe(cache_dir() if cache_dir().exists() else None)
    works = any(candidate.device is not None for candidate in found)
    for candidate in found:
        yield Check(
            f"backend {candidate.name}",
            candidate.device is not None,
            candidate.device or candidate.reason or "no reason given",
            _again() if candidate.name == "native" else "",
            needed=not works or candidate.name == asked.partition(":")[0],
        )


def _again() -> str:
    """How the compiled kernels are built once more."""
    import isthmus.kernels

    in_a_checkout = (Path(isthmus.kernels.__file__).parents[2] / "native").is_dir()
    return "make -B setup" if in_a_checkout else "pip install --force-reinstall --no-deps isthmus"


def _instruction_sets() -> Iterator[Check]:
    from isthmus.core.paths import cache_dir

    try:
        from isthmus.kernels.instruction_sets import instruction_sets
    except ImportError:
        return  # the backend's own line says why
    for found in instruction_sets(cache_dir()):
        told = "verified" if found.verified else "unverified; its self-test passed"
        yield Check(
            f"kernels {found.name}",
            found.failure is None,
            told if found.failure is None else f"unverified; its self-test failed: {found.failure}",
            "nothing: the next set is used in its place; please report it",
            needed=False,
        )


def _opencl() -> Iterator[Check]:
    cure = (
        "for GPUs install the maker's OpenCL driver; to try without one: pip install isthmus[pocl]"
    )
    from isthmus.core.paths import tuned_dir

    try:
        from isthmus.kernels.opencl.refusals import Refusals
        from isthmus.kernels.opencl.runtime import devices

        found = devices()
    except (ImportError, OSError) as error:
        yield Check("opencl", False, str(error), cure, needed=False)
        return
    for capabilities, _ in found:
        yield Check("opencl", True, capabilities.describe(), needed=False)
        for key, refusal in Refusals(tuned_dir(), capabilities).known.items():
            cure = f"isthmus tune --device '{capabilities.query}' chooses again"
            yield Check("opencl refused", False, f"{key}: {refusal}", cure, needed=False)
    if not found:
        yield Check("opencl", False, "no device", cure, needed=False)


def _sensors() -> Iterator[Check]:
    from isthmus.edge.sensors import make_sensors

    sensors = make_sensors()
    health = sensors.sample()
    charging = {True: ", charging", False: ", not charging", None: ""}[health.charging]
    told = (
        ("battery", health.battery, "{:.0%}" + charging),
        ("battery heat", health.battery_temperature_c, "{:.0f} °C"),
        ("processor heat", health.temperature_c, "{:.0f} °C"),
        ("held back", health.throttled, "{}"),
    )
    for name, value, form in told:
        if value is not None:
            yield Check(name, True, form.format(value), needed=False)
    absent = [name for name, value, _ in told if value is None]
    if absent:
        detail = f"not known here: {', '.join(absent)} (sensors_file can tell them)"
        yield Check("sensors", True, detail, needed=False)
    for name, problem in sensors.problems.items():
        yield Check(f"sensor {name}", False, problem, needed=False)


def _phases(model: str) -> dict[str, tuple[str, str]]:
    """Of prefill and decode: the backend that `auto` takes, and why."""
    from isthmus.core.errors import IsthmusError
    from isthmus.core.paths import cache_dir
    from isthmus.engine.phases import candidates, preferred
    from isthmus.engine.sources.catalogue import locate, resolve
    from isthmus.kernels import create

    try:
        path = locate(resolve(model))
        chosen = preferred(path, None, measured=None) if path is not None else None
        first = create(cache=cache_dir()).name
    except IsthmusError:
        return {}  # the lines of the backends and the model say why
    if chosen is not None:
        why = "the better one, as measured with this model"
        return {"prefill": (chosen.prefill, why), "decode": (chosen.decode, why)}
    several = len(candidates(None)) > 1
    why = "the first start measures the others" if several else "the only one to choose from"
    return {"prefill": (first, why), "decode": (first, why)}

"""`isthmus route simulate`: a fleet and its cloud on paper."""

from __future__ import annotations

import json
import re
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from isthmus.router.simulation.capacity import Sizing, Slo
    from isthmus.router.simulation.outages import Outage
    from isthmus.router.simulation.requests import Workload
    from isthmus.router.simulation.scenario import Scenario
    from isthmus.router.simulation.workloads import Asked

GROWTH = (1_000, 10_000, 100_000, 1_000_000)


def simulate(
    trace: Annotated[
        Path | None,
        typer.Argument(
            help="CSV (time_s,prompt_tokens,answer_tokens,difficulty; Azure's), Mooncake's JSON "
            "lines or ServeGen's *_rates.csv, .gz too. Without one, requests are made up.",
        ),
    ] = None,
    devices: Annotated[int, typer.Option(min=1, max=10_000_000, help="Devices.")] = 1000,
    gpus: Annotated[
        int | None,
        typer.Option(
            min=1, max=100_000, help="GPUs of the cloud; left out: as many as the promise needs."
        ),
    ] = None,
    arrivals: Annotated[
        str | None,
        typer.Option(help="poisson, diurnal or bursty: make arrivals up (a trace's lengths)."),
    ] = None,
    requests_per_day: Annotated[
        float | None,
        typer.Option(
            min=0.001, max=100_000, help="A device's, 10 if made up; a trace is resampled to it."
        ),
    ] = None,
    hours: Annotated[
        float | None, typer.Option(min=0.02, max=1000, help="How long; 24 if made up.")
    ] = None,
    burst_factor: Annotated[
        float, typer.Option(min=1, max=1000, help="How much more arrives in a burst.")
    ] = 5.0,
    scenario: Annotated[
        Path | None, typer.Option(help="TOML: GPUs, devices, networks, prices, the router.")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="The router's preset.")] = None,
    fail: Annotated[
        list[str] | None,
        typer.Option(help="cloud@13:00+1h, cloud:0.5@13:00+1h (half goes on), network:5g@9:00+1h."),
    ] = None,
    slo_ttft_ms: Annotated[
        float, typer.Option(min=1, max=1e6, help="Promised time to the cloud's first token.")
    ] = 1000.0,
    slo_tpot_ms: Annotated[
        float, typer.Option(min=0.1, max=1e5, help="Promised time a token.")
    ] = 50.0,
    slo_share: Annotated[
        float, typer.Option(min=0.01, max=0.9999, help="Of the answers, that keep each.")
    ] = 0.95,
    start: Annotated[str, typer.Option(help="Time of day of the first second.")] = "00:00",
    seed: Annotated[int, typer.Option(min=0, help="The same one gives the same run.")] = 0,
    plots: Annotated[
        Path | None, typer.Option(help="A folder for pictures (isthmus\\[plots]).")
    ] = None,
    growth: Annotated[
        bool, typer.Option("--growth", help="Show how cost grows, up to --devices.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Play requests of a fleet through the policy, its devices and a cloud of GPUs."""
    from isthmus.router.simulation.capacity import Slo
    from isthmus.router.simulation.outages import parse_outage
    from isthmus.router.simulation.plots import require_matplotlib
    from isthmus.router.simulation.workloads import Asked

    if plots is not None:
        require_matplotlib()
    asked = Asked(
        devices,
        trace,
        _arrivals(arrivals),
        requests_per_day,
        hours,
        burst_factor,
        _time_of_day(start),
        seed,
    )
    fleet = _scenario(scenario, preset)
    slo = Slo(slo_ttft_ms, slo_tpot_ms, slo_share)
    if growth:
        _growth(fleet, asked, gpus, slo, as_json=as_json)
        return
    outages = tuple(parse_outage(one) for one in fail or ())
    shown = _run(fleet, asked, gpus, slo, outages, plots)
    if as_json:
        print(json.dumps(shown))
    else:
        from isthmus.cli.route_simulate_table import show

        show(shown)


def _run(
    fleet: Scenario,
    asked: Asked,
    gpus: int | None,
    slo: Slo,
    outages: tuple[Outage, ...],
    plots: Path | None,
) -> dict[str, Any]:
    from isthmus.router.simulation.fleet import simulate as play
    from isthmus.router.simulation.plots import save_plots
    from isthmus.router.simulation.report import report
    from isthmus.router.simulation.workloads import open_workload

    began = time.process_time()
    workload = open_workload(asked)
    _check(outages, fleet, workload)
    with _bar() as bar:
        sizing = None if gpus else _size(fleet, workload, slo, asked, bar("sizing", 0))
        count = gpus or (sizing.gpus if sizing else 1)
        common: dict[str, Any] = {
            "devices": asked.devices,
            "gpus": count,
            "seed": asked.seed,
            "start_s": asked.start_s,
        }
        run = play(fleet, workload, **common, step=bar("playing", workload.hours))
        failed = None
        if outages:
            step = bar("playing with outages", workload.hours)
            failed = play(fleet, workload, **common, outages=outages, step=step)
    shown = report(run, sizing, asked.start_s, failed)
    shown["seed"] = asked.seed
    shown["processor_s"] = round(time.process_time() - began, 2)
    if plots is not None:
        paths = save_plots(failed or run, plots, sizing, asked.start_s)
        shown["plots"] = [str(path) for path in paths]
    return shown


def _size(
    fleet: Scenario, workload: Workload, slo: Slo, asked: Asked, step: Callable[[float], None]
) -> Sizing:
    from isthmus.router.simulation.capacity import size_cloud

    return size_cloud(
        fleet,
        workload,
        slo,
        devices=asked.devices,
        seed=asked.seed,
        start_s=asked.start_s,
        step=step,
    )


def _growth(fleet: Scenario, asked: Asked, gpus: int | None, slo: Slo, *, as_json: bool) -> None:
    """Time and memory of whole runs, each size sized anew."""
    from dataclasses import replace

    from rich.console import Console
    from rich.table import Table

    rows = []
    table = Table("devices", "requests", "GPUs", "processor s", "µs a request", "memory MB")
    for count in (*(n for n in GROWTH if n < asked.devices), asked.devices):
        shown = _run(fleet, replace(asked, devices=count), gpus, slo, (), None)
        row = {
            "devices": count,
            "requests": shown["requests"],
            "gpus": shown["gpus"],
            "processor_s": shown["processor_s"],
            "us_per_request": round(shown["processor_s"] / max(1, shown["requests"]) * 1e6, 2),
            "memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        }
        rows.append(row)
        table.add_row(*(f"{value:,}" for value in row.values()))
    if as_json:
        print(json.dumps({"growth": rows}))
    else:
        Console().print(table)


def _scenario(path: Path | None, preset: str | None) -> Scenario:
    from dataclasses import replace

    from isthmus.core.errors import ConfigError
    from isthmus.router.presets import Preset
    from isthmus.router.simulation.scenario import Scenario, read_scenario

    fleet = Scenario() if path is None else read_scenario(path)
    if preset is None:
        return fleet
    try:
        return replace(fleet, router=replace(fleet.router, preset=Preset(preset)))
    except ValueError:
        known = ", ".join(one.value for one in Preset)
        raise ConfigError(f"is none of {known}", field="preset") from None


def _arrivals(name: str | None) -> Any:
    from isthmus.core.errors import ConfigError
    from isthmus.router.simulation.workloads import Arrivals

    try:
        return None if name is None else Arrivals(name)
    except ValueError:
        known = ", ".join(one.value for one in Arrivals)
        raise ConfigError(f"is none of {known}", field="arrivals") from None


def _time_of_day(text: str) -> float:
    from isthmus.core.errors import ConfigError

    form = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", text)
    if form is None:
        raise ConfigError("is no time of day such as 08:00", field="start")
    return int(form[1]) * 3600.0 + int(form[2]) * 60.0


def _check(outages: tuple[Outage, ...], fleet: Scenario, workload: Workload) -> None:
    from isthmus.core.errors import ConfigError

    names = [network.name for network in fleet.networks]
    for outage in outages:
        if outage.start_s >= workload.hours * 3600:
            raise ConfigError(
                f"begins after the end: the run lasts {workload.hours:.2f} hours", field="fail"
            )
        if outage.network not in {None, *names}:
            raise ConfigError(f"names no network of {', '.join(names)}", field="fail")


@contextmanager
def _bar() -> Iterator[Callable[[str, float], Callable[[float], None]]]:
    """Progress on stderr while a person is looking: makes a step function for each task."""
    if not sys.stderr.isatty():
        yield lambda name, hours: lambda done: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:

        def begin(name: str, hours: float) -> Callable[[float], None]:
            task = progress.add_task(name, total=hours or None)
            return lambda done: progress.update(task, completed=done)

        yield begin

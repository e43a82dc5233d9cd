"""The report as pictures. matplotlib is an extra, and is imported here alone."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.core.errors import ConfigError
from isthmus.router.simulation.capacity import Sizing
from isthmus.router.simulation.fleet import Run
from isthmus.router.simulation.histogram import BINS, GROWTH, LEAST
from isthmus.router.simulation.requests import Floats
from isthmus.router.simulation.tally import Tier

# Okabe and Ito's colours: told apart by the colour-blind, and in print.
COLOURS = {Tier.EDGE: "#0072B2", Tier.CLOUD: "#E69F00", Tier.FELL_BACK: "#CC79A7"}
UNSERVED = "#D55E00"
NAMES = {Tier.EDGE: "device", Tier.CLOUD: "cloud", Tier.FELL_BACK: "fell back to the device"}
WIDTH_IN = 10.0
TICKS_H = ((1 / 6, 2.0), (1.0, 8.0), (3.0, 30.0), (6.0, 50.0))
"""How far ticks are apart, up to how many hours."""
LEAST_ANSWERS = 20
"""A step with fewer has no percentile worth a point."""


def require_matplotlib() -> None:
    """Raise `ConfigError` where matplotlib is not installed: before an hour of work, not after."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError("plots need matplotlib: pip install 'isthmus[plots]'", field="plots")


def save_plots(run: Run, folder: Path, sizing: Sizing | None, start_s: float) -> list[Path]:
    """Write `day.png`, `latency.png` and, where GPUs were counted, `gpus.png`; their paths."""
    require_matplotlib()
    import matplotlib as mpl
    from matplotlib.figure import Figure

    style: Any = {
        "axes.grid": True,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "font.size": 11.0,
        "grid.alpha": 0.3,
        "legend.frameon": False,
    }
    drawings: dict[str, tuple[Callable[[Any], None], float]] = {
        "day.png": (lambda figure: _day(figure, run, start_s), 10.0),
        "latency.png": (lambda figure: _latency(figure, run), 4.6),
    }
    if sizing is not None and sizing.tried:
        drawings["gpus.png"] = (lambda figure: _gpus(figure, sizing), 4.6)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        with mpl.rc_context(style):
            for name, (draw, height_in) in drawings.items():
                figure = Figure(
                    (WIDTH_IN, height_in), dpi=110, facecolor="white", layout="constrained"
                )
                draw(figure)
                figure.savefig(folder / name)
                paths.append(folder / name)
    except OSError as error:
        raise ConfigError(
            f"cannot write there: {error.strerror or 'no access'}", field="plots"
        ) from None
    return paths


def _day(figure: Any, run: Run, start_s: float) -> None:
    tally = run.tally
    hours = (start_s + (np.arange(tally.rows) + 0.5) * tally.step_s) / 3600
    load, latency, use = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 2))
    # The last step may be cut off by the end of the run.
    seconds = np.minimum(tally.step_s, run.hours * 3600 - np.arange(tally.rows) * tally.step_s)
    stacked = {NAMES[t]: (_answers(run, t) / seconds, COLOURS[t]) for t in Tier}
    stacked["not answered"] = (tally.unserved / seconds, UNSERVED)
    stacked = {name: one for name, one in stacked.items() if one[0].any()}
    load.stackplot(
        hours,
        *(rate for rate, _ in stacked.values()),
        labels=list(stacked),
        colors=[colour for _, colour in stacked.values()],
        alpha=0.85,
    )
    load.set(ylabel="requests / s", title=_title(run))
    load.legend(loc="upper left", ncols=len(stacked))
    load.margins(y=0.18)
    for tier in (Tier.EDGE, Tier.CLOUD):
        for percent, line in ((95, "-"), (50, "--")):
            latency.plot(
                hours,
                _percentiles(run, tier, percent) / 1e3,
                line,
                color=COLOURS[tier],
                label=f"{NAMES[tier]}, p{percent}",
                linewidth=1.6,
            )
    latency.set(ylabel="time to first token (s)", yscale="log")
    _plain(latency.yaxis)
    latency.legend(loc="upper left", ncols=4)
    latency.margins(y=0.2)
    use.plot(hours, tally.sequence_s / (run.gpus * seconds), color="#009E73", linewidth=1.6)
    use.set(ylabel="sequences on a GPU")
    use.set_ylim(bottom=0)
    _clock(use, float(hours[-1] - hours[0]))
    use.set_xlim(hours[0], hours[-1] if tally.rows > 1 else hours[0] + 1)
    for outage in run.outages:
        for axes in (load, latency, use):
            axes.axvspan(
                (start_s + outage.start_s) / 3600,
                (start_s + outage.end_s) / 3600,
                color="#999999",
                alpha=0.25,
                linewidth=0,
            )
        use.text(
            (start_s + outage.start_s + outage.length_s / 2) / 3600,
            0.5,
            f"{outage.network or outage.part.value} down",
            ha="center",
            va="center",
            rotation=90,
            transform=use.get_xaxis_transform(),
        )


def _latency(figure: Any, run: Run) -> None:
    first, total = figure.subplots(1, 2, sharey=True)
    edges_s = LEAST * np.exp(GROWTH * np.arange(1, BINS + 1)) / 1e3
    for axes, what, name in (
        (first, run.tally.ttft_ms, "time to first token (s)"),
        (total, run.tally.total_ms, "time to last token (s)"),
    ):
        for tier in Tier:
            counts = what[tier].counts.sum(axis=0)
            if not counts.any():
                continue
            share = 100 * np.cumsum(counts) / counts.sum()
            shown = (share > 0) & (np.r_[0, share[:-1]] < 100)
            axes.plot(edges_s[shown], share[shown], color=COLOURS[tier], label=NAMES[tier])
        axes.axhline(95, color="#666666", linewidth=0.8, linestyle=":")
        axes.set(xscale="log", xlabel=name, ylim=(0, 101))
        _plain(axes.xaxis)
    first.set(ylabel="answers at most so late (%)")
    first.text(first.get_xlim()[0], 94, " 95%", va="top", color="#666666")
    total.legend(loc="lower right")
    figure.suptitle(_title(run), fontsize=12)


def _gpus(figure: Any, sizing: Sizing) -> None:
    axes, slo = figure.subplots(), sizing.slo
    gpus = [one[0] for one in sizing.tried]
    for place, colour, name in (
        (1, COLOURS[Tier.EDGE], f"first token within {slo.ttft_ms:g} ms"),
        (2, COLOURS[Tier.CLOUD], f"at most {slo.tpot_ms:g} ms a token"),
    ):
        kept = [100 * one[place] for one in sizing.tried]
        axes.plot(gpus, kept, "o-", color=colour, label=name)
    axes.axhline(100 * slo.share, color="#666666", linestyle=":", linewidth=1.2)
    axes.text(gpus[0], 100 * slo.share - 1, f"promised: {slo.share:.0%}", va="top", color="#666666")
    axes.axvline(sizing.gpus, color="#009E73", linewidth=1.2)
    axes.text(sizing.gpus, 40, f" {sizing.gpus} needed", color="#009E73")
    axes.set(
        xlabel="GPUs",
        ylabel="cloud's answers that keep it (%)",
        ylim=(-2, 103),
        title="The busiest hour on so many GPUs",
    )
    if len(gpus) < 15:
        axes.set_xticks(gpus)
    axes.legend(loc="lower right")


def _title(run: Run) -> str:
    requests = int(run.tally.requests.sum())
    gpus = "1 GPU" if run.gpus == 1 else f"{run.gpus:,} GPUs"
    return f"{run.devices:,} devices, {gpus}, {requests:,} requests"


def _clock(axes: Any, hours: float) -> None:
    """Label hours since midnight as times, or as days where there are several."""
    from matplotlib.ticker import MultipleLocator

    apart = next((tick for tick, most in TICKS_H if hours <= most), 24.0)
    axes.xaxis.set_major_locator(MultipleLocator(apart))
    if apart == 24.0:
        axes.xaxis.set_major_formatter(lambda hour, _: f"day {hour / 24 + 1:.0f}")
        axes.set_xlabel("midnight before each day")
        return
    axes.xaxis.set_major_formatter(
        lambda hour, _: f"{int(hour + 1e-6) % 24:02d}:{round(hour % 1 * 60) % 60:02d}"
    )
    axes.set_xlabel("time of day")


def _plain(axis: Any) -> None:
    """0.1, 1, 10 in the place of powers."""
    axis.set_major_formatter(lambda value, _: f"{value:g}")


def _answers(run: Run, tier: Tier) -> Floats:
    counts: Floats = run.tally.ttft_ms[tier].counts.sum(axis=1).astype(np.float64)
    return counts


def _percentiles(run: Run, tier: Tier, percent: float) -> Floats:
    histogram = run.tally.ttft_ms[tier]
    least = LEAST_ANSWERS if _answers(run, tier).sum() > 50 * LEAST_ANSWERS else 1
    values = [
        histogram.percentile(percent, slice(row, row + 1))
        if histogram.count(slice(row, row + 1)) >= least
        else None
        for row in range(run.tally.rows)
    ]
    return np.array([np.nan if value is None else value for value in values])

"""`isthmus bench routing`: a pair of models, end to end, on questions with known answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli.route_label import AtOnce, CloudModel, Config, Edge, PriceOption, Threads
from isthmus.core.errors import InvalidRequest, Unavailable

if TYPE_CHECKING:
    from isthmus.router.labels.graded import Question


def routing(
    labels: Annotated[
        list[Path] | None,
        typer.Argument(help="Labels of one pair (isthmus route label). None: made first."),
    ] = None,
    cloud: Annotated[
        str | None, typer.Option(help="As for isthmus route label; needed to make labels.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where labels are made; it goes on with what is there.")
    ] = None,
    questions: Annotated[
        list[Path] | None,
        typer.Option(help="Graded questions besides the built-in everyday tasks, JSONL (.gz too)."),
    ] = None,
    edge: Edge = "smollm2-135m",
    cloud_model: CloudModel = None,
    price: PriceOption = None,
    config: Config = None,
    at_once: AtOnce = 1,
    threads: Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure the small model alone, the large one alone, and the routed pair between them.

    The router learns from the labels themselves, and no question is routed by what was learnt from
    it: once with its kind among the others, once with its whole kind left out.
    """
    from isthmus.cli.pair import price_of
    from isthmus.router.labels import pairs
    from isthmus.router.labels.graded import numbered_rows
    from isthmus.router.learned.rating import seen
    from isthmus.router.learned.router_file import shipped

    paid = price_of(price)
    if labels:
        if cloud is not None or out is not None or questions:
            raise InvalidRequest(
                "--cloud, --out and --questions make labels: leave them out, or the files",
                field="LABELS",
            )
        files = list(labels)
    else:
        if cloud is None or out is None:
            raise InvalidRequest(
                "are needed to make labels, or give labels", field="--cloud, --out"
            )
        found = _questions(questions or [])
        asyncio.run(_label(found, edge, cloud, out, cloud_model, config, at_once, threads))
        files = [out]
    read = [row for file in files for _, row in numbered_rows(file)]
    models = {(row.get("edge_key"), row.get("cloud_key")) for row in read}
    if len(models) > 1:
        raise InvalidRequest("the labels are of more than one pair of models", field="LABELS")
    # A question that is in several files counts once, as the last one has it.
    rows = list({row.get("id"): row for row in read}.values())
    pair = pairs.pair_of(rows, paid)

    # What the router itself sees of a prompt; the general heads know nothing of this pair.
    x = seen(shipped().general, pair.prompts).astype(float)
    learn = pairs.learn_from(x, pair.prompts)
    scores = {"kinds_known": pairs.cross_validated(pair, learn, whole_kinds=False)}
    if len(set(pair.kinds)) > 1:
        scores["kinds_unseen"] = pairs.cross_validated(pair, learn, whole_kinds=True)
    report = pairs.report(pair, scores)
    (edge_key, cloud_key), *_ = models
    report = {"edge_key": edge_key, "cloud_key": cloud_key} | report
    if as_json:
        print(json.dumps(report))
    else:
        _show(report)


def _questions(files: list[Path]) -> list[Question]:
    from isthmus.router.labels.graded import numbered_rows, questions
    from isthmus.router.labels.tasks import tasks

    rows = list(enumerate(tasks(), 1))
    return questions(rows) + [one for file in files for one in questions(numbered_rows(file))]


async def _label(
    found: list[Question],
    edge: str,
    cloud: str,
    out: Path,
    cloud_model: str | None,
    config: Path | None,
    at_once: int,
    threads: int | None,
) -> None:
    from contextlib import AsyncExitStack

    from isthmus.cli.pair import tier_of
    from isthmus.cli.route_label import into_file
    from isthmus.router.labels.label import Labeller

    async with AsyncExitStack() as stack:
        small = await tier_of(edge, threads=threads)
        stack.push_async_callback(small.close)
        large = await tier_of(cloud, endpoint_model=cloud_model, config=config, threads=threads)
        stack.push_async_callback(large.close)
        tally, _ = await into_file(Labeller(small, large), found, out, at_once=at_once)
    if tally.failed:
        raise Unavailable(
            f"{tally.failed} questions failed, the last because {tally.why}; the same command "
            "goes on with them"
        )


def _show(report: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 140  # nobody's window to fit
    print(f"device {report['edge_key']}\ncloud  {report['cloud_key']}")
    table = Table("", "right", "95 %", "over random", "95 %", "$ / 1000", "cloud tokens", "ms mean",
                  "p50", "p95", box=None)  # fmt: skip
    for column in table.columns:
        column.no_wrap = True
    table.add_row("device alone", *_cells(report["edge_alone"]))
    table.add_row("cloud alone", *_cells(report["cloud_alone"]))
    for share, figures in report["random"].items():
        table.add_row(f"random {float(share):.0%}", *_cells(figures))
    for name, routed in report["routed"].items():
        known = "kind known" if name == "kinds_known" else "kind not seen"
        for share in report["random"]:
            table.add_row(f"routed {float(share):.0%}, {known}", *_cells(routed[share]))
    for preset, figures in report["routed"]["kinds_known"]["presets"].items():
        sent = f"preset {preset}, no price told: {figures['share']:.0%}"
        table.add_row(sent, *_cells(figures))
    console.print(table)
    for name, routed in report["routed"].items():
        low, high = routed["apgr_ci"]
        console.print(
            f"APGR, {name.replace('_', ' ')}: {routed['apgr']:.3f} [{low:.3f}, {high:.3f}]"
        )
    kinds = Table("kind", "rows", "device right", "cloud right", "kept at 20 %", "40 %", "60 %",
                  box=None)  # fmt: skip
    for kind, told in sorted(
        report["kinds"].items(), key=lambda item: item[1]["cloud"] - item[1]["edge"]
    ):
        kept = told["kept_on_device"]["kinds_known"]
        kinds.add_row(kind, str(told["rows"]), f"{told['edge']:.2f}", f"{told['cloud']:.2f}",
                      *(f"{share:.0%}" for share in kept.values()))  # fmt: skip
    console.print(kinds)
    timed = report["latency"]
    batch = "one answer" if timed["at_once"] == 1 else f"{timed['at_once']} answers"
    console.print(f"latencies: whole answers, {batch} at a time, {timed['rows']} rows")
    if report["withheld"]:
        console.print(f"{report['withheld']} private questions were not asked of the cloud")


def _cells(figures: Mapping[str, Any]) -> list[str]:
    low, high = figures["quality_ci"]
    gain = [""] * 2
    if "over_random" in figures:
        least, most = figures["over_random_ci"]
        gain = [f"{figures['over_random']:+.3f}", f"{least:+.3f}, {most:+.3f}"]
    return [
        f"{figures['quality']:.3f}",
        f"{low:.2f} to {high:.2f}",
        *gain,
        f"{figures['usd_per_1000']:.4f}",
        f"{figures['cloud_tokens']:.0f}",
        *(f"{figures[name]:.0f}" for name in ("ms_mean", "ms_p50", "ms_p95")),
    ]

"""`isthmus privacy eval`: how well the scanner finds what is labelled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from isthmus.cli.privacy_scan import CONFIG, MODELS, rows_bar, settings_and_scanner


def evaluate(
    file: Annotated[Path, typer.Argument(help="Labelled rows, JSONL (.gz too).")],
    config: Annotated[Path | None, CONFIG] = None,
    models: Annotated[bool, MODELS] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure precision, recall, leak, false alarms and latency on the labelled rows of FILE.

    A row is {text, spans: [{start, end, label}], scope, lang, source, kind}; only text and spans
    are needed. What is found depends on the text alone.
    """
    from isthmus.privacy import evaluate as measure
    from isthmus.privacy.labelled import labelled_rows

    _, scanner = settings_and_scanner(config, models=models)
    scanner.scan("Warm up: John Smith, 张三")
    with rows_bar(file) as step:
        report = measure.evaluate(labelled_rows(file), scanner.scan, step).report()
    report["unseen"] = [
        {"language": blind.language, "labels": sorted(blind.labels), "cure": blind.cure}
        for blind in scanner.blind
    ]
    if as_json:
        print(json.dumps(report))
    else:
        _show(report)


def _show(report: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    for name, part in (("all", report), *report["languages"].items()):
        table = Table("label", "labelled", "found", "precision", "recall", "F2", "leak", box=None)
        for label, scores in (("CORE", part["core"]), *part["labels"].items()):
            table.add_row(label, *_cells(scores), style="bold" if label == "CORE" else None)
        console.print(f"\n[bold]{name}[/bold]")
        console.print(table)
    for name, alarm in report["false_alarms"].items():
        console.print(f"false alarms in {name}: {alarm['rate']:.3f} of {alarm['rows']} texts")
    if report["secrets"]:
        secrets = report["secrets"]
        console.print(
            f"secrets: recall {secrets['recall']:.3f} with alarms in "
            f"{secrets['false_alarm_rate']:.3f} of the texts without (score above "
            f"{secrets['above_score']:g})"
        )
    took = ", ".join(f"{name} {value:.2f} ms" for name, value in report["latency_ms"].items())
    console.print(f"{report['rows']} texts, {report['failed']} failed; {took}")
    for unseen in report["unseen"]:
        console.print(
            f"not seen ({unseen['language']}): {', '.join(unseen['labels'])} ({unseen['cure']})",
            style="yellow",
        )


def _cells(scores: Mapping[str, Any]) -> list[str]:
    shares = [scores[name] for name in ("precision", "recall", "f2", "leak")]
    return [
        str(scores["labelled"]),
        str(scores["predicted"]),
        *("-" if share is None else f"{share:.3f}" for share in shares),
    ]

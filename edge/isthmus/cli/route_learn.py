"""`isthmus route train`, `score`, `eval`: the learned looks at a prompt and at an answer."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from isthmus.router.router_file import RouterFile

app = typer.Typer()

ROWS_AT_ONCE = 1024
"""Rows that `score` holds at a time."""

Labels = Annotated[
    Path,
    typer.Argument(
        exists=True,
        dir_okay=False,
        help="JSON lines {prompt, source, domain, weak_correct, strong_correct}; .gz is read too.",
    ),
]
File = Annotated[
    Path | None,
    typer.Option("--file", exists=True, dir_okay=False, help="A trained file of your own."),
]


Answers = Annotated[
    Path | None,
    typer.Option(
        "--answers",
        exists=True,
        dir_okay=False,
        help="The device's answers, JSON lines {id, weak_text}, joined on id.",
    ),
]


class Unseen(StrEnum):
    """What is kept together when rows are left out of training."""

    QUESTION = "question"
    SUBJECT = "subject"
    SOURCE = "source"


@app.command(epilog="Example: isthmus route train labels.jsonl --out mine.router")
def train(
    labels: Labels,
    out: Annotated[Path, typer.Option(dir_okay=False, help="The file to write.")],
    pair: Annotated[
        list[Path] | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Rows {prompt, source, edge_correct, cloud_correct} of the pair; repeatable.",
        ),
    ] = None,
    edge: Annotated[str, typer.Option(help="The device's model: the sha256 of its file.")] = "",
    cloud: Annotated[str, typer.Option(help="The cloud's model: its sha256 or its name.")] = "",
    options: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Option logits (CSV): a head a task."),
    ] = None,
    answers: Answers = None,
    second_look: Annotated[
        str, typer.Option(metavar="MODEL", help="Fit what MODEL's first token tells of --pair.")
    ] = "",
    onto: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Keep this file's general heads."),
    ] = None,
    note: Annotated[str, typer.Option(help="Where the rows come from, to store with them.")] = "",
) -> None:
    """Fit the general heads on LABELS, and with --pair what is known of one pair of models.

    With --options, --answers and --second-look also the heads that read the device's own doubt
    (docs/doubt.md). Needs scikit-learn (the project's dev extra) and some minutes.
    """
    from importlib.metadata import version

    from isthmus.cli import route_doubt
    from isthmus.router.pair import Pair
    from isthmus.router.router_file import RouterFile
    from isthmus.router.train import fit, rows_of
    from isthmus.router.train_pair import fit_pair

    if pair and not (edge and cloud):
        raise typer.BadParameter("--pair needs --edge and --cloud", param_hint="--pair")
    if second_look and not pair:
        raise typer.BadParameter("needs the --pair rows", param_hint="--second-look")
    rows = rows_of(_labelled(labels))
    if onto is None:
        names = sorted(set(rows.source.tolist()))
        counts = {name: int((rows.source == name).sum()) for name in names}
        file = RouterFile(
            fit(rows),
            provenance={"rows": counts, "note": note, "scikit-learn": version("scikit-learn")},
        )
    else:
        file = _file(onto)
    file = file.having(
        route_doubt.train(options=options, prompts=labels if answers else None, answers=answers)
    )
    if pair:
        labelled = [row for path in pair for row in _labelled(path)]
        both = rows_of(labelled)
        file = file.knowing(fit_pair(file.general, both, Pair(edge, cloud)))
        if second_look:
            file = file.having(route_doubt.second_look(second_look, labelled, both, file.general))
    file.save(out)
    print(f"{out}: {out.stat().st_size / 1024:.0f} KiB from {len(rows)} rows")


@app.command(epilog="Example: isthmus route score prompts.jsonl --out scores.jsonl")
def score(
    prompts: Annotated[
        Path,
        typer.Argument(
            exists=True, dir_okay=False, help="JSON lines {id, prompt}, or option logits (CSV)."
        ),
    ],
    out: Annotated[Path, typer.Option(dir_okay=False, help="JSON lines {id, score}.")],
    file: File = None,
    answers: Answers = None,
    edge: Annotated[str, typer.Option(help="Score by this pair's calibration.")] = "",
    cloud: Annotated[str, typer.Option(help="Score by this pair's calibration.")] = "",
) -> None:
    """Score every prompt: higher means escalate. Nothing but the prompt is read.

    Of option logits the logits are, and with --answers the device's answers besides.
    """
    from isthmus.cli import route_doubt
    from isthmus.router.pair import Pair
    from isthmus.router.rating import scores

    trained = _file(file)
    if route_doubt.handles(prompts, answers):
        route_doubt.write_scores(route_doubt.score(prompts, answers, trained.sections), out)
        return
    known = trained.calibration(Pair(edge, cloud))
    if (edge or cloud) and known is None:
        raise typer.BadParameter("the file knows nothing of this pair", param_hint="--edge")
    with out.open("w", encoding="utf-8") as written:
        for rows in _batches(_rows(prompts)):
            texts = [_field(row, "prompt", str, prompts) for row in rows]
            for row, value in zip(rows, scores(trained.general, texts, known), strict=True):
                written.write(json.dumps({"id": row.get("id"), "score": float(value)}) + "\n")


@app.command("eval", epilog="Example: isthmus route eval labels.jsonl --unseen subject --json")
def evaluate(
    labels: Labels,
    file: File = None,
    answers: Answers = None,
    unseen: Annotated[
        Unseen | None,
        typer.Option(help="Train anew without the rows to score, whole QUESTIONs, SUBJECTs, …"),
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="Into how many parts --unseen splits.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """APGR, CPT50 and CPT80 for each source, with intervals.

    Without --unseen the trained file scores the rows, which flatters it on those it was trained
    on. With --unseen everything is trained anew on the other rows, and compared with a simple
    baseline (18 counts with boosted trees, n-grams with logistic regression) trained on the same.
    LABELS may be option logits (CSV), which are compared with the largest probability; with
    --answers the device's answers are rated, and not the prompts.
    """
    from isthmus.cli import route_doubt
    from isthmus.router import evaluate as measured
    from isthmus.router.train import rows_of

    if route_doubt.handles(labels, answers):
        if unseen is not None:
            raise typer.BadParameter("is for prompts alone", param_hint="--unseen")
        figures = route_doubt.evaluate(labels, answers, _file(file).sections)
        if as_json:
            print(json.dumps(figures))
        else:
            route_doubt.show(figures)
        return
    rows = rows_of(_labelled(labels))
    if unseen is None:
        gain = _file(file).general.gain(rows.x, rows.found)
        told = measured.report(gain.astype("float64"), rows)
    else:
        ours = measured.out_of_fold(rows, unseen, folds, measured.ours)
        simple = measured.out_of_fold(rows, unseen, folds, measured.simple)
        told = measured.report(ours, rows, simple)
    if as_json:
        print(json.dumps(told))
        return
    _table(told)


def _table(told: dict[str, dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("source", "rows", "APGR", "CPT50", "CPT80", "simple baseline", "ahead by")
    for name, one in told.items():
        low, high = one["apgr_ci"]
        ahead = one.get("ahead_ci")
        table.add_row(
            name,
            str(one["rows"]),
            f"{one['apgr']:.3f} [{low:.3f}, {high:.3f}]" + (" ?" if one["unpredictable"] else ""),
            f"{one['cpt50']:.1f}",
            f"{one['cpt80']:.1f}",
            f"{one['baseline_apgr']:.3f}" if ahead else "",
            f"{ahead[0]:+.3f} to {ahead[1]:+.3f}" if ahead else "",
        )
    console = Console()
    console.print(table)
    console.print("? the interval reaches 0.5: not told apart from a router that guesses")


def _file(path: Path | None) -> RouterFile:
    from isthmus.core.errors import ConfigError
    from isthmus.router.router_file import load, shipped

    try:
        return shipped() if path is None else load(path)
    except ConfigError as error:
        raise typer.BadParameter(error.message, param_hint="--file") from None


def _labelled(path: Path) -> list[dict[str, Any]]:
    """Labelled rows; a pair's own names for the two tiers are read as weak and strong."""
    rows = []
    for row in _rows(path):
        _field(row, "prompt", str, path)
        for name, other in (("weak_correct", "edge_correct"), ("strong_correct", "cloud_correct")):
            row[name] = _field(row, name if name in row else other, (int, float), path)
        rows.append(row)
    if not rows:
        raise typer.BadParameter(f"{path} has no rows")
    return rows


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        try:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise typer.BadParameter(f"{path}, line {number}: not a JSON object")
                    yield row
        except (ValueError, EOFError, OSError) as error:
            raise typer.BadParameter(f"{path}: not JSON lines ({type(error).__name__})") from None


def _field(row: dict[str, Any], name: str, kind: Any, path: Path) -> Any:
    value = row.get(name)
    if not isinstance(value, kind):
        raise typer.BadParameter(f"{path}: a row lacks {name}, or has it in another type")
    return value


def _batches(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == ROWS_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch

"""`isthmus route train`, `score`, `eval`: the learned looks at a prompt and at an answer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.core.errors import InvalidRequest

if TYPE_CHECKING:
    from isthmus.router.learned.pair import Pair
    from isthmus.router.learned.router_file import RouterFile

app = typer.Typer()

ROWS_AT_ONCE = 1024
"""Rows that `score` rates at a time: what bounds the memory of many."""
TIMED = 2000
"""Prompts that `score --times` rates one by one."""

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


@app.command(epilog="Example: isthmus route train --pair labels.jsonl --out mine.router")
def train(
    out: Annotated[Path, typer.Option(dir_okay=False, help="The file to write.")],
    labels: Annotated[
        Path | None,
        typer.Argument(
            exists=True,
            dir_okay=False,
            help="JSON lines {prompt, source, domain, weak_correct, strong_correct} of published "
            "pairs (.gz too): the general heads are fitted anew.",
        ),
    ] = None,
    onto: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Keep what this file has."),
    ] = None,
    pair: Annotated[
        list[Path] | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="What `isthmus route label` wrote of a pair of models; repeatable.",
        ),
    ] = None,
    edge: Annotated[str, typer.Option(help="The device's model, where the rows do not say.")] = "",
    cloud: Annotated[str, typer.Option(help="The cloud's model, where the rows do not say.")] = "",
    options: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Option logits (CSV): a head a task."),
    ] = None,
    answers: Answers = None,
    second_look: Annotated[
        str, typer.Option(metavar="MODEL", help="Fit what MODEL's first token tells of --pair.")
    ] = "",
    figures: Annotated[
        list[Path] | None,
        typer.Option(
            exists=True, dir_okay=False, help="What `eval --json` printed, to keep in it."
        ),
    ] = None,
    note: Annotated[str, typer.Option(help="Where the rows come from, to store with them.")] = "",
) -> None:
    """Fit the general heads on LABELS, and with --pair what is known of one pair of models.

    Without LABELS, or with --onto, the general heads are those of that file, or of the one that
    ships. With --options, --answers and --second-look also the heads that read the device's own
    doubt (docs/doubt.md). About a minute; all but --pair needs scikit-learn (the dev extra).
    """
    from isthmus.cli import route_doubt
    from isthmus.router.doubt.second_look import SECTION
    from isthmus.router.learned.train import rows_of
    from isthmus.router.learned.train_pair import fit_pair

    if second_look and not pair:
        raise typer.BadParameter("needs the --pair rows", param_hint="--second-look")
    if answers and labels is None:
        raise typer.BadParameter("needs the LABELS that were answered", param_hint="--answers")
    file = _file(onto) if onto or labels is None else _general(labels, note)
    file = file.having(
        route_doubt.train(options=options, prompts=labels if answers else None, answers=answers)
    )
    if pair:
        labelled = [row for path in pair for row in _labelled(path)]
        both = rows_of(labelled)
        told = {"files": [path.name for path in pair], "note": note}
        file = file.knowing(fit_pair(file.general, both, _pair(labelled, edge, cloud), told))
        if second_look:
            known = file.sections.get(SECTION)
            looked = route_doubt.second_look(second_look, labelled, both, file.general, known)
            file = file.having(looked)
    kept = {path.stem: json.loads(path.read_text()) for path in figures or ()}
    file = replace(file, figures={**file.figures, **kept})
    file.save(out)
    print(f"{out}: {out.stat().st_size / 1024:.0f} KiB, pairs known: {len(file.calibrations)}")


def _general(labels: Path, note: str) -> RouterFile:
    """A new file: general heads, and where they come from."""
    from importlib.metadata import version

    from isthmus.router.learned.router_file import RouterFile
    from isthmus.router.learned.seen import SECTION, Seen
    from isthmus.router.learned.train import fit, rows_of

    rows = rows_of(_labelled(labels))
    names = sorted(set(rows.source.tolist()))
    provenance = {
        "labels": labels.name,
        "rows": {name: int((rows.source == name).sum()) for name in names},
        "note": note,
        "scikit-learn": version("scikit-learn"),
    }
    seen = {SECTION: Seen.of(rows.key).section()}
    return RouterFile(fit(rows), sections=seen, provenance=provenance)


def _pair(rows: Sequence[Mapping[str, Any]], edge: str, cloud: str) -> Pair:
    """The one pair that the rows are of, or the one that is named."""
    from isthmus.router.learned.pair import Pair

    pairs = {
        Pair(edge or str(row.get("edge_key", "")), cloud or str(row.get("cloud_key", "")))
        for row in rows
    }
    pair = pairs.pop()
    if pairs or not (pair.edge and pair.cloud):
        raise InvalidRequest("must say one pair of models: --edge and --cloud", field="--pair")
    return pair


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
    times: Annotated[
        bool,
        typer.Option(
            "--times", help="Say how long a prompt takes that is rated alone (best of 3)."
        ),
    ] = False,
) -> None:
    """Score every prompt: higher means escalate. Nothing but the prompt is read.

    Of option logits the logits are, and with --answers the device's answers besides.
    """
    import numpy as np

    from isthmus.cli import route_doubt
    from isthmus.router.learned.pair import Pair
    from isthmus.router.learned.rating import scores, times_ms

    trained = _file(file)
    if route_doubt.handles(prompts, answers):
        route_doubt.write_scores(route_doubt.score(prompts, answers, trained.sections), out)
        return
    known = trained.calibration(Pair(edge, cloud))
    if (edge or cloud) and known is None:
        raise typer.BadParameter("the file knows nothing of this pair", param_hint="--edge")
    rows = _rows(prompts)
    if any(row.get("id") is None for row in rows):
        raise InvalidRequest(f"{prompts.name}: a row has no id, by which its score is told")
    with out.open("w", encoding="utf-8") as written:
        for at in range(0, len(rows), ROWS_AT_ONCE):
            some = rows[at : at + ROWS_AT_ONCE]
            values = scores(trained.general, [row["prompt"] for row in some], known)
            written.writelines(
                json.dumps({"id": row.get("id"), "score": value}) + "\n"
                for row, value in zip(some, values.tolist(), strict=True)
            )
    if times:
        alone = times_ms(trained.general, [row["prompt"] for row in rows[:TIMED]], known)
        p50, p99 = (float(np.percentile(alone, p)) for p in (50, 99))
        print(f"alone: median {p50:.2f} ms, p99 {p99:.2f} ms, of {len(alone)} prompts")


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
    on; where it knows their questions, that is told (`trained_on` is the share of them). With
    --unseen everything is trained anew on the other rows, and compared with a simple baseline (18
    counts with boosted trees, n-grams with logistic regression) trained on the same. LABELS may be
    option logits (CSV), which are compared with the largest probability; with --answers the
    device's answers are rated, and not the prompts.
    """
    from isthmus.cli import route_doubt
    from isthmus.router.learned import evaluate as measured
    from isthmus.router.learned import seen
    from isthmus.router.learned.train import rows_of

    if route_doubt.handles(labels, answers):
        if unseen is not None:
            raise typer.BadParameter("is for prompts alone", param_hint="--unseen")
        trained = _file(file)
        figures = route_doubt.evaluate(labels, answers, trained.sections)
        if as_json:
            print(json.dumps(figures))
        else:
            route_doubt.show(figures)
        return
    rows = rows_of(_labelled(labels))
    if unseen is None:
        trained = _file(file)
        gain = trained.general.gain(rows.x, rows.found)
        told = measured.report(gain.astype("float64"), rows)
        measured.warn(told, rows, seen.read(trained.sections))
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
        marks = (" !" if one.get("flatters") else "") + (" ?" if one["unpredictable"] else "")
        table.add_row(
            name,
            str(one["rows"]),
            f"{one['apgr']:.3f} [{low:.3f}, {high:.3f}]{marks}",
            f"{one['cpt50']:.1f}",
            f"{one['cpt80']:.1f}",
            f"{one['baseline_apgr']:.3f}" if ahead else "",
            f"{ahead[0]:+.3f} to {ahead[1]:+.3f}" if ahead else "",
        )
    console = Console()
    console.print(table)
    if any(one["unpredictable"] for one in told.values()):
        console.print("? the interval reaches 0.5: not told apart from a router that guesses")
    if any(one.get("flatters") for one in told.values()):
        console.print(
            "! the file was trained on these very questions, and its figures flatter it: "
            "--unseen question trains anew without them"
        )


def _file(path: Path | None) -> RouterFile:
    from isthmus.core.errors import ConfigError
    from isthmus.router.learned.router_file import load, shipped

    try:
        return shipped() if path is None else load(path)
    except ConfigError as error:
        raise typer.BadParameter(error.message, param_hint="--file") from None


def _labelled(path: Path) -> list[dict[str, Any]]:
    """Labelled rows; what a pair's rows call edge and cloud is weak and strong here.

    A row whose prompt was withheld from the cloud says nothing of it and is left out.
    """
    found = []
    for row in _rows(path):
        if "withheld" in row:
            continue
        weak = row.get("weak_correct", row.get("edge_correct"))
        strong = row.get("strong_correct", row.get("cloud_correct"))
        if not all(isinstance(value, int | float) and 0 <= value <= 1 for value in (weak, strong)):
            raise InvalidRequest(f"{path.name}: a row does not say who was right", field="LABELS")
        found.append({**row, "weak_correct": weak, "strong_correct": strong})
    if not found:
        raise InvalidRequest(f"{path.name} has no rows", field="LABELS")
    return found


def _rows(path: Path) -> list[dict[str, Any]]:
    from isthmus.router.labels.graded import numbered_rows

    rows = numbered_rows(path)
    for number, row in rows:
        if not isinstance(row.get("prompt"), str):
            raise InvalidRequest(f"{path.name}, line {number}: no prompt that is a text")
    if not rows:
        raise InvalidRequest(f"{path.name} has no rows")
    return [row for _, row in rows]

"""`isthmus route label`: both models of a pair answer graded questions, and are graded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isthmus.core.errors import InvalidRequest, Unavailable

if TYPE_CHECKING:
    from isthmus.router.labels.graded import Question
    from isthmus.router.labels.label import Judge, Labeller, Tally, Tier

Edge = Annotated[str, typer.Option(help="The device's model: a known name or a path.")]
CloudOption = Annotated[
    str,
    typer.Option(
        help="The cloud: a gateway's host:port, the http address of an OpenAI-compatible endpoint, "
        "or a model of this machine that plays it (a known name or a path)."
    ),
]
CloudModel = Annotated[
    str | None, typer.Option(help="The model's name at an endpoint; its key: ISTHMUS_API_KEY.")
]
PriceOption = Annotated[
    str | None,
    typer.Option(
        "--price",
        metavar="IN/OUT",
        help="What the cloud costs, in dollars per million tokens of prompt and answer.",
    ),
]
Config = Annotated[Path | None, typer.Option(help="The agent's settings (TOML).")]
AtOnce = Annotated[
    int,
    typer.Option(
        min=1, max=64, help="Questions at once. More is quicker; latencies are then of a batch."
    ),
]
Threads = Annotated[int | None, typer.Option(min=1, max=1024, help="Threads of an engine.")]


def label(
    prompts: Annotated[
        Path,
        typer.Argument(
            help="Rows {id, prompt, answer, grader, labels?, rubric?}, JSONL (.gz too); grader: "
            "choice, number, contains, rubric or judge."
        ),
    ],
    cloud: CloudOption,
    out: Annotated[Path, typer.Option(help="Where the rows go; it goes on with what is there.")],
    edge: Edge = "smollm2-135m",
    cloud_model: CloudModel = None,
    price: PriceOption = None,
    judge: Annotated[
        str | None,
        typer.Option(
            help="Who grades what has no other grader: edge, cloud, or what --cloud takes."
        ),
    ] = None,
    judge_model: Annotated[
        str | None, typer.Option(help="The judge's name at an endpoint.")
    ] = None,
    criteria: Annotated[
        str, typer.Option(help="What the judge holds answers to besides, in a sentence.")
    ] = "",
    whole_answers: Annotated[
        bool,
        typer.Option(
            "--whole-answers",
            help="Read a choice from the text of the whole answer, not from the first token.",
        ),
    ] = False,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="The longest answer; by default as the grader needs.")
    ] = None,
    config: Config = None,
    at_once: AtOnce = 1,
    threads: Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Ask both models the questions of PROMPTS and write who was right, row by row, to --out.

    The file holds prompts and answers; only its owner may read it. What the privacy policy keeps on
    the device is not asked of the cloud: its row has `withheld` and no answer of the cloud's.
    """
    from isthmus.cli.pair import price_of
    from isthmus.router.labels.graded import numbered_rows, questions
    from isthmus.router.labels.grading import Grader

    found = questions(numbered_rows(prompts), default=Grader.JUDGE if judge else None)
    if judge is None and any(one.gold.grader is Grader.JUDGE for one in found):
        raise InvalidRequest("is needed: some rows have no other grader", field="--judge")
    paid = price_of(price)

    async def work() -> tuple[Tally, int]:
        from isthmus.cli.pair import tier_of
        from isthmus.router.labels.label import Labeller

        async with AsyncExitStack() as stack:
            small = await tier_of(edge, threads=threads)
            stack.push_async_callback(small.close)
            large = await tier_of(
                cloud, endpoint_model=cloud_model, config=config, threads=threads, price=paid
            )
            stack.push_async_callback(large.close)
            judged_by: Judge | None = None
            if judge is not None:
                from isthmus.router.labels.judge import judge_by

                asked: Tier
                if judge in {"edge", "cloud"}:
                    asked = small if judge == "edge" else large
                else:
                    third = await tier_of(
                        judge, endpoint_model=judge_model, config=config, threads=threads
                    )
                    stack.push_async_callback(third.close)
                    asked = third
                judged_by = judge_by(asked, criteria)
            labeller = Labeller(
                small, large, judged_by, by_letter=not whole_answers, max_tokens=max_tokens
            )
            return await into_file(labeller, found, out, at_once=at_once)

    tally, before = asyncio.run(work())
    if as_json:
        told = {"labelled": tally.labelled, "withheld": tally.withheld, "failed": tally.failed}
        print(json.dumps(told | {"already_there": before, "out": str(out)}))
    else:
        kept = f", {tally.withheld} of them not asked of the cloud" if tally.withheld else ""
        there = f"; {before} were there" if before else ""
        print(f"{tally.labelled} questions labelled{kept}{there}: {out}")
    if tally.failed:
        raise Unavailable(
            f"{tally.failed} questions failed, the last because {tally.why}; the same command "
            "goes on with them"
        )


async def into_file(
    labeller: Labeller, found: list[Question], out: Path, *, at_once: int
) -> tuple[Tally, int]:
    """Label what `out` lacks of `found`; how that went, and how many rows were there."""
    from isthmus.router.labels.label import LabelFile, label_all

    file = LabelFile(out, labeller.pair)
    try:
        missing = file.missing(found)
        with _bar(len(missing)) as step:
            tally = await label_all(labeller, missing, file, at_once=at_once, step=step)
    finally:
        file.close()
    return tally, len(found) - len(missing)


@contextmanager
def _bar(total: int) -> Iterator[Callable[[], None]]:
    """A bar on stderr while a person is looking."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("questions", total=total)
        yield lambda: bar.advance(task)

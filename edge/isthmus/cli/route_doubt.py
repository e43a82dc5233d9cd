"""What `isthmus route train / score / eval` do with the device's own doubt.

Two kinds of files are known by their form: option logits (CSV), and the device's answers, which
are joined with labelled prompts (`--answers`).
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from isthmus.core.events import FirstToken
    from isthmus.engine.engine import Engine
    from isthmus.router.doubt.answer_head import AnswerHead
    from isthmus.router.doubt.option_files import OptionFigures
    from isthmus.router.learned.general import General
    from isthmus.router.learned.section import Section
    from isthmus.router.learned.train import Rows

    Sections = Mapping[str, Section]

Json = dict[str, Any]

_PARTS = 8
"""Into how many parts rows are split for an estimate that has not seen them."""


def evaluate(path: Path, answers: Path | None, sections: Sections) -> Json:
    """The figures of the trained file's heads on labelled rows, as one object.

    Raises `InvalidRequest` for a file that cannot be read, `ValueError` for a trained file without
    sense.
    """
    from isthmus.router.doubt import option_files
    from isthmus.router.doubt.option_logits import SECTION, OptionHeads

    if answers is None:
        heads = OptionHeads.of(sections.get(SECTION))
        figures = option_files.evaluate(option_files.read(path), heads)
        return {"options": [_option_json(one) for one in figures]}
    return {"answers": _evaluate_answers(path, answers, sections)}


def score(path: Path, answers: Path | None, sections: Sections) -> list[Json]:
    """Rows `{id, score}`, higher means escalate; nothing but logits or texts is read.

    The rows of option logits carry their task and both models, whose ids repeat.
    """
    from isthmus.router.doubt import answer_files, option_files
    from isthmus.router.doubt.option_logits import SECTION, OptionHeads

    if answers is not None:
        head = _answer_head(sections)
        answered = answer_files.join(answer_files.read_rows(path), answers)
        told = answer_files.score(answered, head)
        return [{"id": key, "score": value} for key, value in told.items()]
    rows = option_files.read(path)
    values = option_files.score(rows, OptionHeads.of(sections.get(SECTION)))
    return [
        {
            "id": key,
            "task": task.name,
            "weak_model": task.weak,
            "strong_model": task.strong,
            "score": value,
        }
        for key, task, value in zip(rows.ids, rows.tasks, values.tolist(), strict=True)
    ]


def train(
    *, options: Path | None = None, prompts: Path | None = None, answers: Path | None = None
) -> dict[str, Section]:
    """The sections of the heads that these labelled files teach. Needs scikit-learn."""
    from isthmus.router.doubt import answer_files, answer_head, option_files, option_logits

    sections = {}
    if options is not None:
        rows = option_files.read(options)
        figures = option_files.cross_validate(rows)
        says = option_files.provenance(figures, options.name)
        sections[option_logits.SECTION] = option_files.train(rows).section(says)
    if prompts is not None and answers is not None:
        labelled = answer_files.read_rows(prompts)
        answered = answer_files.join(labelled, answers)
        measured = answer_files.cross_validate(labelled, answered)
        told = {
            "source": f"{prompts.name} and {answers.name}",
            "rows": measured.rows,
            "apgr": round(measured.apgr, 4),
            "interval": [round(measured.low, 4), round(measured.high, 4)],
            "held_out": "whole subjects",
        }
        sections[answer_head.SECTION] = answer_files.train(labelled, answered).section(told)
    return sections


def handles(path: Path, answers: Path | None) -> bool:
    """Whether a file to score or to measure is one of these."""
    from isthmus.router.doubt.option_files import is_option_file

    return answers is not None or is_option_file(path)


def second_look(
    model: str,
    labelled: Sequence[Mapping[str, Any]],
    rows: Rows,
    general: General,
    known: Section | None = None,
) -> dict[str, Section]:
    """The section of a head for the model file `model`, with its figures; none where none helps.

    What `known` says of other model files is kept.

    `labelled`: the rows `{source, prompt, weak_correct}` that this very build has answered, and
    `rows` the same, read. Each prompt is read once more by the model, for the doubt at its first
    token. Needs scikit-learn.
    """
    import numpy as np

    from isthmus.core.errors import InvalidRequest
    from isthmus.engine.sources.catalogue import resolve, sha256_known
    from isthmus.router.doubt import second_look as doubt
    from isthmus.router.doubt import second_look_fit as doubt_fit
    from isthmus.router.learned.pair import inputs
    from isthmus.router.learned.train_pair import choose, held_out

    sha256 = sha256_known(model)
    if not sha256:
        raise InvalidRequest(f"{model} is no model of this machine", field="model")
    build = doubt.Build(sha256, resolve(model).quantization)
    seen, good = (
        inputs(general.standard(rows.x), general.gain(rows.x, rows.found), rows.found),
        rows.weak >= 0.5,
    )
    penalty, _, _ = choose(seen, good, rows.source)
    parts = np.random.default_rng(0).permutation(len(good)) % _PARTS
    priors = [held_out(seen, good, groups, penalty).tolist() for groups in (parts, rows.source)]
    firsts = asyncio.run(_first_tokens(model, [str(row["prompt"]) for row in labelled]))
    learnt = [
        doubt_fit.Labelled(first, told, bool(right), str(source), float(cloud))
        for first, told, right, source, cloud in zip(
            firsts, zip(*priors, strict=True), good, rows.source, rows.strong, strict=True
        )
    ]
    fitted = doubt_fit.fit(build, learnt)
    print(f"second look, kinds held out: {json.dumps(fitted.figures)}")
    looks = [look for look in doubt.looks(known) if look.build != build]
    looks += [] if fitted.look is None else [fitted.look]
    figures = {} if known is None else known.says.get("figures", {})
    return {doubt.SECTION: doubt.section(looks, {**figures, build.sha256: fitted.figures})}


async def _first_tokens(model: str, prompts: Sequence[str]) -> list[FirstToken]:
    from isthmus.engine.engine import Engine

    engine = Engine.open(model)
    try:
        return [await first_token(engine, prompt) for prompt in prompts]
    finally:
        engine.close()


async def first_token(engine: Engine, prompt: str) -> FirstToken:
    """The doubt at the first token of an answer to `prompt`. Raises as `Engine.generate`."""
    from contextlib import aclosing

    from isthmus.core.chat import ChatRequest, Message, Role, Sampling, TextPart
    from isthmus.core.errors import InternalError
    from isthmus.core.events import Delta

    request = ChatRequest(
        request_id="first-token",
        messages=(Message(Role.USER, (TextPart(prompt),)),),
        sampling=Sampling(temperature=0),
        max_tokens=1,
        watched=True,
    )
    async with aclosing(engine.generate(request)) as events:
        async for event in events:
            if isinstance(event, Delta) and event.first_token is not None:
                return event.first_token
    raise InternalError("the engine told no first token")


def show(figures: Json) -> None:
    """The figures as a table."""
    from rich.console import Console
    from rich.table import Table

    if "options" in figures:
        table = Table("task", "device", "cloud", "rows", "APGR", "alone", "better", "95%")
        for one in figures["options"]:
            table.add_row(
                one["task"] + ("" if one["fitted"] else " (no head)"),
                one["weak"],
                one["strong"],
                str(one["n"]),
                f"{one['apgr']:.3f}",
                f"{one['baseline']['apgr']:.3f}",
                f"{one['better']:+.3f}",
                f"{one['better_ci'][0]:+.3f} to {one['better_ci'][1]:+.3f}",
            )
        Console().print(table)
        Console().print("alone: by the largest probability of an option alone", highlight=False)
    else:
        table = Table("source", "rows", "APGR", "95%", "CPT50", "CPT80")
        for name, one in figures["answers"].items():
            low, high = one["ci"]
            table.add_row(
                name,
                str(one["n"]),
                f"{one['apgr']:.3f}" + (" !" if one.get("flatters") else ""),
                f"{low:.3f} to {high:.3f}",
                f"{one['cpt50']:.1f}",
                f"{one['cpt80']:.1f}",
            )
        Console().print(table)
        if any(one.get("flatters") for one in figures["answers"].values()):
            print("! the file was trained on answers to these questions: the figures flatter it")


def _evaluate_answers(path: Path, answers: Path, sections: Sections) -> Json:
    import numpy as np

    from isthmus.core.errors import InvalidRequest
    from isthmus.router.doubt import answer_files
    from isthmus.router.learned.measures import measure
    from isthmus.router.learned.question import parse
    from isthmus.router.learned.seen import LEAST_SHARE, read
    from isthmus.router.learned.train import key_of

    labelled = answer_files.read_rows(path)
    seen = read(sections)
    told = answer_files.score(answer_files.join(labelled, answers), _answer_head(sections))
    rows = [row for row in labelled if str(row.get("id")) in told]
    if not rows:
        raise InvalidRequest(f"{answers.name} has no answer to a prompt of {path.name}")
    sources: dict[str, list[tuple[float, float]]] = {}
    keys: dict[str, list[int]] = {}
    for row in rows:
        try:
            gain = float(row["strong_correct"]) - float(row["weak_correct"])
        except (KeyError, TypeError, ValueError):
            raise InvalidRequest(f"{path.name} has a row without labels") from None
        sources.setdefault(str(row.get("source")), []).append((told[str(row["id"])], gain))
        keys.setdefault(str(row.get("source")), []).append(key_of(parse(str(row["prompt"]))))
    figures: Json = {}
    for name, pairs in sorted(sources.items()):
        values, gains = np.array(pairs, np.float64).T
        m = measure(values, gains)
        figures[name] = {
            "n": m.rows,
            "apgr": m.apgr,
            "ci": [m.low, m.high],
            "cpt50": m.cpt50,
            "cpt80": m.cpt80,
        }
        if seen is not None:
            share = float(seen.knows(np.array(keys[name])).mean())
            figures[name] |= {"trained_on": round(share, 3), "flatters": share >= LEAST_SHARE}
    return figures


def _answer_head(sections: Sections) -> AnswerHead:
    from isthmus.core.errors import InvalidRequest
    from isthmus.router.doubt.answer_head import SECTION, AnswerHead

    head = AnswerHead.of(sections.get(SECTION))
    if head is None:
        raise InvalidRequest("the trained file has no head for answers: train one")
    return head


def _option_json(one: OptionFigures) -> Json:
    return {
        "task": one.task.name,
        "weak": one.task.weak,
        "strong": one.task.strong,
        "fitted": one.fitted,
        "n": one.head.rows,
        "apgr": one.head.apgr,
        "ci": [one.head.low, one.head.high],
        "cpt50": one.head.cpt50,
        "cpt80": one.head.cpt80,
        "baseline": {"apgr": one.baseline.apgr, "ci": [one.baseline.low, one.baseline.high]},
        "better": one.better,
        "better_ci": [one.low, one.high],
    }


def write_scores(rows: list[Json], out: Path) -> None:
    """One JSON object a line."""
    out.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

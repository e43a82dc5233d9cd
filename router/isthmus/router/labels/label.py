"""Asking both models of a pair the same graded questions, and keeping who was right.

Each question is one row of a JSONL file, written as soon as both have answered: the work can be
stopped at any time and goes on where it was. What the device's policy keeps here is not asked of
the cloud; its row says so.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from isthmus.core.chat import ChatRequest
from isthmus.core.decision import Reason
from isthmus.core.errors import InvalidRequest, IsthmusError, PolicyRefused
from isthmus.core.events import Delta, Event, Finished, Started, TokenLogprob
from isthmus.core.money import Price, Usage
from isthmus.router.labels.graded import Question, numbered_rows
from isthmus.router.labels.grading import Grader, is_settled

TOP_LOGPROBS = 20
"""Candidates of a position that are asked for: the most that OpenAI's interface gives."""
PRIVATE = {
    Reason.PRIVACY_LOCAL_ONLY,
    Reason.PRIVACY_NOT_REDACTABLE,
    Reason.PRIVACY_BLOCKED,
}
"""Why a prompt is not asked of the cloud, for good."""
_FAILURES_TO_STOP = 5
_BEGIN = '{"id": "'
"""What every row begins with."""

Judge = Callable[[Question, str], Awaitable[bool]]
"""Whether an answer to a question is good enough."""


class Tier(Protocol):
    """One of the two models. `key` names its very weights: a sha256, or the cloud's name for it."""

    @property
    def key(self) -> str: ...

    @property
    def price(self) -> Price: ...

    def generate(self, request: ChatRequest) -> AsyncIterator[Event]:
        """Answer. Raises `PolicyRefused` for what may not be asked of it."""
        ...


@dataclass(slots=True)
class Said:
    """An answer, and what it took."""

    text: str = ""
    prompt_tokens: int = 0
    tokens: int = 0
    first_ms: float | None = None
    ms: float = 0.0
    logprobs: list[TokenLogprob] = field(default_factory=list)

    def letter(self, labels: Sequence[str]) -> str | None:
        """The label that the first token most probably is; None: its candidates have none."""
        top = self.logprobs[0].top if self.logprobs else ()
        return next((one.token.strip() for one in top if one.token.strip() in labels), None)

    def doubt(self) -> dict[str, float]:
        """Of the first token the log-probability, its lead and the entropy; of all mean and least.

        Nats. The entropy is that of the candidates, with all others as one more.
        """
        if not self.logprobs or not self.logprobs[0].top:
            return {}
        top = [one.logprob for one in self.logprobs[0].top]
        rest = max(0.0, 1 - math.fsum(map(math.exp, top)))
        shares = [*map(math.exp, top), rest]
        all_of_them = [one.logprob for one in self.logprobs]
        return {
            "first": round(top[0], 5),
            "margin": round(top[0] - top[1], 5) if len(top) > 1 else 0.0,
            "entropy": round(-math.fsum(p * math.log(p) for p in shares if p > 0), 5),
            "mean": round(math.fsum(all_of_them) / len(all_of_them), 5),
            "min": round(min(all_of_them), 5),
        }


@dataclass(frozen=True, slots=True)
class Labeller:
    """What asks and grades."""

    edge: Tier
    cloud: Tier
    judge: Judge | None = None
    by_letter: bool = True
    """A choice is read from the first token's candidates, as evaluation harnesses do; else from
    the text of the whole answer."""
    max_tokens: int | None = None

    @property
    def pair(self) -> dict[str, str]:
        """What a row says of whose answers it holds."""
        return {"edge_key": self.edge.key, "cloud_key": self.cloud.key}

    async def label(self, question: Question) -> dict[str, Any]:
        """The row of `question`. Raises an `IsthmusError` when a tier does not answer."""
        row = question.as_row() | self.pair
        try:
            row |= await self._tier("edge", self.edge, question)
            row |= await self._tier("cloud", self.cloud, question)
        except PolicyRefused as refused:  # by the cloud, or by a judge that is not here
            if refused.reason not in PRIVATE:
                raise
            row["withheld"] = refused.reason
        return row

    async def _tier(self, name: str, tier: Tier, question: Question) -> dict[str, Any]:
        choice = question.gold.grader is Grader.CHOICE and self.by_letter
        limit = 1 if choice else self.max_tokens
        request = question.request(max_tokens=limit, top_logprobs=TOP_LOGPROBS)
        number = question.gold.grader is Grader.NUMBER
        said = await ask(tier, request, until=is_settled if number else None)
        answer = (said.letter(question.gold.labels) if choice else None) or said.text
        if question.gold.grader is Grader.JUDGE:
            if self.judge is None:
                raise InvalidRequest("needs a judge", field="--judge")
            right = await self.judge(question, answer)
        else:
            right = question.gold.grade(answer)
        usage = Usage(said.prompt_tokens, said.tokens)
        return {
            f"{name}_correct": int(right),
            f"{name}_answer": answer,
            f"{name}_ms": round(said.ms, 1),
            f"{name}_ttft_ms": None if said.first_ms is None else round(said.first_ms, 1),
            f"{name}_tokens": said.tokens,
            f"{name}_prompt_tokens": said.prompt_tokens,
            f"{name}_micro_usd": tier.price.cost_micro_usd(usage),
            **({f"{name}_logprobs": doubt} if (doubt := said.doubt()) else {}),
        }


async def ask(
    tier: Tier, request: ChatRequest, *, until: Callable[[str], bool] | None = None
) -> Said:
    """The answer to `request`; one that is `until` enough is not waited out."""
    said, began = Said(), time.perf_counter()
    async with aclosing(tier.generate(request)) as events:  # type: ignore[type-var]
        async for event in events:
            match event:
                case Started():
                    said.prompt_tokens = event.prompt_tokens
                case Delta():
                    if said.first_ms is None:
                        said.first_ms = 1000 * (time.perf_counter() - began)
                    said.text += event.text
                    said.tokens += event.tokens
                    said.logprobs += event.logprobs
                    if until is not None and until(said.text):
                        break
                case Finished():
                    said.prompt_tokens = event.usage.prompt_tokens or said.prompt_tokens
                    said.tokens = event.usage.completion_tokens or said.tokens
    said.ms = 1000 * (time.perf_counter() - began)
    return said


class LabelFile:
    """The rows so far, in a file that only its owner may read: it holds prompts and answers."""

    def __init__(self, path: Path, pair: dict[str, str]) -> None:
        """Open or begin the labels of `pair`. Raises `InvalidRequest` for another pair's file."""
        self._path = path
        self.done: dict[str, str] = {}
        """id → prompt"""
        try:
            torn = _torn(path) if path.exists() else 0
            if path.exists():
                for number, row in numbered_rows(path, without_last=torn > 0):
                    self._take(number, row, pair)
            if torn:
                os.truncate(path, path.stat().st_size - torn)
            self._file = os.fdopen(
                os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "a", encoding="utf-8"
            )
        except OSError as error:
            raise InvalidRequest(f"cannot write {path}: {error.strerror}", field="--out") from None

    def _take(self, number: int, row: dict[str, Any], pair: dict[str, str]) -> None:
        if {key: row.get(key) for key in pair} != pair:
            raise InvalidRequest(
                f"line {number} of {self._path} has answers of another pair of models: give "
                "another file",
                field="--out",
            )
        self.done[str(row.get("id"))] = str(row.get("prompt"))

    def missing(self, questions: Iterable[Question]) -> list[Question]:
        """Those that are not in it. Raises `InvalidRequest` for an id with another prompt."""
        missing = []
        for question in questions:
            if question.id not in self.done:
                missing.append(question)
            elif self.done[question.id] != question.prompt:
                raise InvalidRequest(
                    f"{self._path} has another prompt under one of the ids: give another file",
                    field="--out",
                )
        return missing

    def add(self, row: dict[str, Any]) -> None:
        """Keep a row, whole or not at all."""
        self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close it."""
        self._file.close()


def _torn(path: Path) -> int:
    """Bytes of the line that a run left behind which was killed in the middle of it; 0: none.

    Raises `InvalidRequest` when it is no beginning of a row of ours: then the file is somebody's.
    """
    torn = path.read_bytes().rpartition(b"\n")[2]
    begin = _BEGIN.encode()
    if not (torn.startswith(begin) or begin.startswith(torn)):
        raise InvalidRequest(f"{path} is no file of labels: give another", field="--out")
    return len(torn)


@dataclass(slots=True)
class Tally:
    """How a run went."""

    labelled: int = 0
    withheld: int = 0
    failed: int = 0
    why: str = ""
    """The last failure's words."""


async def label_all(
    labeller: Labeller,
    questions: Sequence[Question],
    file: LabelFile,
    *,
    at_once: int = 1,
    step: Callable[[], None] = lambda: None,
) -> Tally:
    """Label `questions` into `file`, so many at once.

    One that fails is left out and stays to be done; after five failures in a row it is given up.
    """
    tally, in_a_row = Tally(), 0
    waiting = iter(questions)

    async def work() -> None:
        nonlocal in_a_row
        for question in waiting:
            if in_a_row >= _FAILURES_TO_STOP:
                return
            try:
                row = await labeller.label(question)
            except IsthmusError as error:
                in_a_row += 1
                tally.failed += 1
                tally.why = error.message
                continue
            in_a_row = 0
            file.add(row | {"at_once": at_once})
            tally.labelled += 1
            tally.withheld += "withheld" in row
            step()

    await asyncio.gather(*(work() for _ in range(at_once)))
    return tally

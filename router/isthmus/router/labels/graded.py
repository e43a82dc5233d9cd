"""Graded questions: reading and checking them, row by row, from JSONL (plain or gzip)."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isthmus.core.chat import ChatRequest, Message, Role, Sampling, TextPart
from isthmus.core.errors import InvalidRequest
from isthmus.router.labels.grading import Gold, Grader

MAX_TOKENS = {
    Grader.CHOICE: 256,
    Grader.NUMBER: 300,
    Grader.CONTAINS: 32,
    Grader.RUBRIC: 96,
    Grader.JUDGE: 300,
}
"""How long an answer may get, by how it is graded."""
_SHOWN_PROBLEMS = 10


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt with what its answer is held against."""

    id: str
    prompt: str
    gold: Gold
    source: str = ""
    domain: str = ""

    def request(self, *, max_tokens: int | None = None, top_logprobs: int | None) -> ChatRequest:
        """The prompt as both tiers are asked: one user message, the best token each time."""
        return ChatRequest(
            request_id=f"label-{self.id}",
            messages=(Message(Role.USER, (TextPart(self.prompt),)),),
            sampling=Sampling(temperature=0, top_logprobs=top_logprobs),
            max_tokens=max_tokens or MAX_TOKENS[self.gold.grader],
        )

    def as_row(self) -> dict[str, Any]:
        """What a row of labels repeats of it."""
        gold = self.gold
        row = {"id": self.id, "source": self.source, "domain": self.domain, "prompt": self.prompt}
        return (
            row
            | {"grader": gold.grader.value}
            | ({"answer": list(gold.answers)} if gold.answers else {})
        )


def questions(
    rows: Iterable[tuple[int, Mapping[str, Any]]], *, default: Grader | None = None
) -> list[Question]:
    """The questions of numbered rows `{id, prompt, answer, grader, labels?, rubric?, source?}`.

    A row without a grader gets `default`. Raises `InvalidRequest` that lists every bad row by its
    line, up to ten, and never what it holds.
    """
    found: dict[str, Question] = {}
    problems: list[str] = []
    for number, row in rows:
        try:
            question = _question(row, default)
            if question.id in found:
                raise InvalidRequest("is there twice", field="id")
            found[question.id] = question
        except InvalidRequest as error:
            problems.append(f"line {number}: {error.field} {error.message}")
    if problems:
        shown = "; ".join(problems[:_SHOWN_PROBLEMS])
        more = len(problems) - _SHOWN_PROBLEMS
        raise InvalidRequest(f"{shown}; and {more} more" if more > 0 else shown, field="PROMPTS")
    if not found:
        raise InvalidRequest("there is no question in it", field="PROMPTS")
    return list(found.values())


def numbered_rows(path: Path, *, without_last: bool = False) -> list[tuple[int, dict[str, Any]]]:
    """The objects of the lines of `path`, with their line numbers. Raises `InvalidRequest`.

    `without_last`: the last line, which is not whole, is left out.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    lines: list[tuple[int, str]] = []
    try:
        # A line that is not whole may end inside of a character.
        errors = "replace" if without_last else "strict"
        with opened(path, "rt", encoding="utf-8", newline="\n", errors=errors) as file:
            lines.extend(enumerate(file, 1))
    except (OSError, EOFError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or {
            EOFError: "the gzip file ends too early",
            UnicodeDecodeError: "it is not UTF-8",
        }.get(type(error), "it is damaged or no gzip file")
        raise InvalidRequest(
            f"cannot read {path} after line {len(lines)}: {why}", field="PROMPTS"
        ) from None
    whole = lines[:-1] if without_last else lines
    return [
        (number, _object(line, f"line {number} of {path.name}"))
        for number, line in whole
        if line.strip()
    ]


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise InvalidRequest(f"{where} is not JSON", field="PROMPTS") from None
    if not isinstance(row, dict):
        raise InvalidRequest(f"{where} is no JSON object", field="PROMPTS")
    return row


def _question(row: Mapping[str, Any], default: Grader | None) -> Question:
    return Question(
        id=_text(row, "id"),
        prompt=_text(row, "prompt"),
        gold=Gold(
            _grader(row, default), _answers(row), _labels(row), _mapping(row.get("rubric", {}))
        ),
        source=_text(row, "source", ""),
        domain=_text(row, "domain", ""),
    )


def _text(row: Mapping[str, Any], name: str, default: str | None = None) -> str:
    value = row.get(name, default)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not (value.strip() or default is not None):
        raise InvalidRequest("must be a text that is not empty", field=name)
    return value


def _grader(row: Mapping[str, Any], default: Grader | None) -> Grader:
    name = row.get("grader", default)
    if name is None:
        raise InvalidRequest(
            "is missing: give each row one, or a judge to all of them (--judge)", field="grader"
        )
    try:
        return Grader(name)
    except ValueError:
        raise InvalidRequest(f"is none of {', '.join(Grader)}", field="grader") from None


def _answers(row: Mapping[str, Any]) -> tuple[str, ...]:
    value = row.get("answer", [])
    values = value if isinstance(value, list) else [value]
    if any(isinstance(one, bool) or not isinstance(one, str | int | float) for one in values):
        raise InvalidRequest("must be a text or a list of texts", field="answer")
    return tuple(str(one) for one in values)


def _labels(row: Mapping[str, Any]) -> tuple[str, ...]:
    value = row.get("labels", [])
    if not isinstance(value, list) or any(not isinstance(one, str) or not one for one in value):
        raise InvalidRequest("must be a list of texts", field="labels")
    return tuple(value)


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InvalidRequest("must be an object", field="rubric")
    return value

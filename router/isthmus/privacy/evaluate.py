"""How well a scanner finds what is labelled.

A labelled span counts as found when predictions of its label cover at least half of it, and as
leaked unless predictions of any label cover four fifths: a gate that takes a phone number for an
account still keeps it back. A prediction is right when it and a span of its label share at least
half of the shorter one. Only labels in a row's scope are judged. F2 weighs recall twice as much.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from isthmus.privacy.base import Label, Span
from isthmus.privacy.labelled import Gold, Row

CORE = frozenset(Label) - {Label.LOCATION, Label.ORG, Label.MEDICAL} | {"ANY"}
"""The labels whose leak is counted: values that single a person out, and secrets."""

ALIKE = frozenset(
    {
        ("LOCATION", "ADDRESS"),
        ("ADDRESS", "LOCATION"),
        ("LOCATION", "ZIP"),
        ("ID_CN", "NATIONAL_ID"),
        ("NATIONAL_ID", "ID_CN"),
    }
)
"""Predicted and labelled: between these, sources draw the line differently."""

FOUND_SHARE, COVERED_SHARE = 0.5, 0.8
FALSE_ALARM_RATE = 0.05
"""Of texts without a secret: the rate at which recall of secrets is told."""


def alike(predicted: str, gold: str) -> bool:
    """Whether a prediction's label answers to a labelled span's."""
    return gold in {predicted, "ANY"} or (predicted, gold) in ALIKE


@dataclass(slots=True)
class Tally:
    """Counts of spans: labelled ones found, missed and leaked, predictions right and wrong."""

    found: int = 0
    missed: int = 0
    leaked: int = 0
    right: int = 0
    wrong: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.found + other.found,
            self.missed + other.missed,
            self.leaked + other.leaked,
            self.right + other.right,
            self.wrong + other.wrong,
        )

    def scores(self) -> dict[str, Any]:
        """Precision, recall, F2 and leak; `None` where nothing was labelled or predicted."""
        gold = self.found + self.missed
        recall = self.found / gold if gold else None
        predicted = self.right + self.wrong
        precision = self.right / predicted if predicted else None
        f2 = 0.0 if recall == 0 else None
        if precision and recall:
            f2 = 5 * precision * recall / (4 * precision + recall)
        return {
            "labelled": gold,
            "predicted": predicted,
            "precision": precision,
            "recall": recall,
            "f2": f2,
            "leak": self.leaked / gold if gold else None,
        }


@dataclass(slots=True)
class Evaluation:
    """The tallies of all rows, by label, and of their parts by language and source."""

    rows: int = 0
    failed: int = 0
    """Rows on which the scanner raised; nothing was found in them."""
    labels: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    by_language: dict[str, dict[str, Tally]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(Tally))
    )
    by_source: dict[str, dict[str, Tally]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(Tally))
    )
    benign: Counter[str] = field(default_factory=Counter)
    alarms: Counter[str] = field(default_factory=Counter)
    secrets: list[tuple[float, bool]] = field(default_factory=list)
    """For each labelled secret: the score from which on it is found; for each row without: its
    highest score, 0 for none. The flag tells the two apart: true is a labelled secret."""
    latencies_ms: list[float] = field(default_factory=list)

    def add(self, row: Row, spans: Sequence[Span], latency_ms: float) -> None:
        """Judge the `spans` that a scanner found in `row`."""
        self.rows += 1
        self.latencies_ms.append(latency_ms)
        tallies = _judge(row, spans)
        for into in (self.labels, self.by_language[row.language], self.by_source[row.source]):
            for label, tally in tallies.items():
                into[label] += tally
        if row.benign:
            name = f"{row.kind}/{row.language}"
            self.benign[name] += 1
            self.alarms[name] += any(t.right + t.wrong for t in tallies.values())
        if Label.SECRET in row.scope:
            self._add_secrets(row, spans)

    def _add_secrets(self, row: Row, spans: Sequence[Span]) -> None:
        secrets = [span for span in spans if span.label == Label.SECRET]
        if row.benign:
            self.secrets.append((max((span.score for span in secrets), default=0.0), False))
            return
        for gold in row.spans:
            if gold.label == Label.SECRET:
                steps = sorted({span.score for span in secrets}, reverse=True)
                found = (s for s in steps if _is_found(gold, [x for x in secrets if x.score >= s]))
                self.secrets.append((next(found, 0.0), True))

    def report(self) -> dict[str, Any]:
        """Everything, as JSON can hold it."""
        ordered = sorted(self.latencies_ms) or [0.0]
        return {
            "rows": self.rows,
            "failed": self.failed,
            **_table(self.labels),
            "languages": {name: _table(part) for name, part in sorted(self.by_language.items())},
            "sources": {name: _table(part) for name, part in sorted(self.by_source.items())},
            "false_alarms": {
                name: {"rows": rows, "rate": self.alarms[name] / rows}
                for name, rows in sorted(self.benign.items())
            },
            "secrets": secret_recall(self.secrets),
            "latency_ms": {
                f"p{share}": ordered[min(len(ordered) - 1, len(ordered) * share // 100)]
                for share in (50, 95, 99)
            },
        }


def evaluate(
    rows: Iterable[Row], scan: Callable[[str], Sequence[Span]], step: Callable[[], None]
) -> Evaluation:
    """Scan the texts of `rows` and judge what is found; `step` is called after each."""
    evaluation = Evaluation()
    for row in rows:
        begun = time.perf_counter()
        try:
            spans = scan(row.text)
        except Exception:
            evaluation.failed += 1
            spans = ()
        evaluation.add(row, spans, (time.perf_counter() - begun) * 1e3)
        step()
    return evaluation


def _judge(row: Row, spans: Sequence[Span]) -> Mapping[str, Tally]:
    tallies: dict[str, Tally] = defaultdict(Tally)
    for gold in row.spans:
        found = _is_found(gold, [s for s in spans if alike(s.label, gold.label)])
        leaked = _covered(gold, spans) < COVERED_SHARE * (gold.end - gold.start)
        tallies[gold.label] += Tally(found=found, missed=not found, leaked=leaked)
    for start, end, label in {(span.start, span.end, span.label) for span in spans}:
        answers = [g.label for g in row.spans if alike(label, g.label) and _meet(start, end, g)]
        if label in row.scope:
            tallies[label] += Tally(right=bool(answers), wrong=not answers)
        elif answers:
            tallies[answers[0]] += Tally(right=1)
    return tallies


def _is_found(gold: Gold, spans: Iterable[Span]) -> bool:
    return _covered(gold, spans) >= FOUND_SHARE * (gold.end - gold.start)


def _covered(gold: Gold, spans: Iterable[Span]) -> int:
    """How many of `gold`'s characters some span covers."""
    covered = bytearray(gold.end - gold.start)
    for span in spans:
        start, end = max(span.start, gold.start), min(span.end, gold.end)
        if start < end:
            covered[start - gold.start : end - gold.start] = b"\1" * (end - start)
    return sum(covered)


def _meet(start: int, end: int, gold: Gold) -> bool:
    shared = min(end, gold.end) - max(start, gold.start)
    return shared >= FOUND_SHARE * min(end - start, gold.end - gold.start)


def _table(labels: Mapping[str, Tally]) -> dict[str, Any]:
    core = sum((tally for label, tally in labels.items() if label in CORE), Tally())
    return {
        "core": core.scores(),
        "labels": {label: tally.scores() for label, tally in sorted(labels.items())},
    }


def secret_recall(secrets: Iterable[tuple[float, bool]]) -> dict[str, Any] | None:
    """The share of labelled secrets that is found at a false-alarm rate of `FALSE_ALARM_RATE`.

    The threshold on the score is the lowest with which no more of the texts without one alarm.
    """
    scores = list(secrets)
    labelled = [score for score, is_secret in scores if is_secret]
    others = sorted((score for score, is_secret in scores if not is_secret), reverse=True)
    if not labelled or not others:
        return None
    allowed = int(FALSE_ALARM_RATE * len(others))
    limit = others[allowed]  # what scores above it is kept: at most `allowed` of the others
    rate = sum(score > limit for score in others) / len(others)
    recall = sum(score > limit for score in labelled) / len(labelled)
    return {"recall": recall, "false_alarm_rate": rate, "above_score": limit}

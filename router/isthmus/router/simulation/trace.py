"""Traces: CSV (also what Azure publishes), Mooncake's JSON lines; `.gz` of either.

CSV has a header. Columns, with the other names under which they are found:

    time_s         arrival_s, TIMESTAMP (a date with time)      seconds
    prompt_tokens  context_tokens, ContextTokens
    answer_tokens  generated_tokens, GeneratedTokens
    difficulty     0 to 1 (may be missing or empty)
    device         a whole number from 0 (may be missing or empty)

A line of Mooncake's is `[timestamp_ms, prompt tokens, answer tokens, [block, ...]]` or an object
with `timestamp`, `input_length`, `output_length`, `hash_ids`. Times are counted from the first
request; rows may come in any order. What is wrong is told with its line and field.
"""

from __future__ import annotations

import csv
import gzip
import json
import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import numpy as np

from isthmus.core.errors import InvalidRequest
from isthmus.router.simulation.requests import Requests, Rng, no_requests

MAX_TOKENS = 10_000_000
NAMES = {
    "time_s": "time_s",
    "arrival_s": "time_s",
    "timestamp": "time_s",
    "prompt_tokens": "prompt_tokens",
    "context_tokens": "prompt_tokens",
    "contexttokens": "prompt_tokens",
    "answer_tokens": "answer_tokens",
    "generated_tokens": "answer_tokens",
    "generatedtokens": "answer_tokens",
    "difficulty": "difficulty",
    "device": "device",
}
NEEDED = ("time_s", "prompt_tokens", "answer_tokens")


class TraceError(InvalidRequest):
    """A trace that cannot be read: the message tells file and line, `field` the column."""


@dataclass(frozen=True, slots=True)
class Trace:
    """A trace in memory, played as it is."""

    requests: Requests

    @property
    def hours(self) -> float:
        """Up to the last arrival and a moment beyond."""
        return (float(self.requests.arrival_s[-1]) + 1) / 3600

    def between(self, start_s: float, end_s: float, rng: Rng) -> Requests:
        """The rows of that stretch."""
        first, last = np.searchsorted(self.requests.arrival_s, (start_s, end_s))
        return self.requests.take(slice(int(first), int(last)))


@dataclass(frozen=True, slots=True)
class Resampled:
    """A trace played with `factor` times as many requests.

    Each minute has a Poisson number of requests with `factor` times the trace's count as its mean,
    drawn from the trace's rows of that minute: rate and mix of lengths move as they did. Prefix
    blocks are left out, since copies of one prompt would hit each other's.
    """

    requests: Requests
    factor: float
    step_s: float = 60.0

    @property
    def hours(self) -> float:
        """As long as the trace."""
        return Trace(self.requests).hours

    def between(self, start_s: float, end_s: float, rng: Rng) -> Requests:
        """Drawn rows of that stretch."""
        times = self.requests.arrival_s
        edges = np.arange(start_s, end_s, self.step_s)
        edges = np.append(edges, end_s)
        rows = np.searchsorted(times, edges)
        counts = rng.poisson(self.factor * np.diff(rows))
        total = int(counts.sum())
        if not total:
            return no_requests()
        step = np.repeat(np.arange(len(counts)), counts)
        width = np.diff(edges)[step]
        drawn = rows[step] + rng.integers(0, np.diff(rows)[step])
        arrival = edges[step] + rng.random(total) * width
        order = np.argsort(arrival, kind="stable")
        return replace(self.requests, blocks=None).take(drawn[order], arrival[order])


def read_trace(path: Path) -> Requests:
    """The requests of a file. Raises `TraceError`."""
    rows = _rows(path, _mooncake if ".json" in path.name else _csv)
    if not rows:
        raise TraceError(f"{path.name} holds no request")
    columns: dict[str, Any] = {
        name: np.array([row[i] for row in rows], np.int64 if i in {1, 2, 4} else np.float64)
        for i, name in enumerate((*NEEDED, "difficulty", "device"))
    }
    order = np.argsort(columns["time_s"], kind="stable")
    blocks = None
    if len(rows[0]) > 5:
        blocks = tuple(tuple(rows[i][5]) for i in order)
    time = columns["time_s"][order]
    return Requests(
        time - time[0],
        columns["prompt_tokens"][order],
        columns["answer_tokens"][order],
        columns["difficulty"][order],
        columns["device"][order],
        blocks,
    )


def _rows(path: Path, parse: Callable[[IO[str], str], Iterator[tuple[Any, ...]]]) -> list[Any]:
    try:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
            return list(parse(lines, path.name))
    except UnicodeDecodeError:
        raise TraceError(f"{path.name} is not text in UTF-8") from None
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise TraceError(f"{path.name} is damaged or no gzip file") from None
    except OSError as error:
        raise TraceError(f"cannot read {path.name}: {error.strerror or 'no access'}") from None


def _csv(lines: IO[str], name: str) -> Iterator[tuple[Any, ...]]:
    reader = csv.reader(lines)
    header = next(reader, None)
    if header is None:
        raise TraceError(f"{name} is empty")
    at = {NAMES[key]: i for i, key in enumerate(map(_key, header)) if key in NAMES}
    missing = [column for column in NEEDED if column not in at]
    if missing:
        raise TraceError(
            f"{name}, line 1: no column {', '.join(missing)}; a header such as "
            "time_s,prompt_tokens,answer_tokens,difficulty is needed",
            field=missing[0],
        )
    try:
        for row in reader:
            if not row:
                continue
            where = f"{name}, line {reader.line_num}"
            cells = {column: row[i].strip() for column, i in at.items() if i < len(row)}
            yield (
                _time(cells, where),
                _tokens(cells.get("prompt_tokens"), "prompt_tokens", where),
                _tokens(cells.get("answer_tokens"), "answer_tokens", where),
                _number(cells.get("difficulty") or "nan", "difficulty", where, 0, 1, blank=True),
                int(_number(cells.get("device") or "-1", "device", where, -1, 1e12)),
            )
    except csv.Error:
        raise TraceError(f"{name}, line {reader.line_num} is not CSV") from None


def _key(cell: str) -> str:
    return cell.strip().lstrip("\ufeff").lower()


def _mooncake(lines: IO[str], name: str) -> Iterator[tuple[Any, ...]]:
    fields = ("timestamp", "input_length", "output_length", "hash_ids")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        try:
            row = json.loads(line)
            cells = [row[f] for f in fields] if isinstance(row, dict) else list(row)
            time_ms, prompt, answer, blocks = cells
            blocks = [int(block) for block in blocks]
        except (ValueError, TypeError, KeyError, RecursionError):
            raise TraceError(
                f"{where}: not [timestamp_ms, prompt tokens, answer tokens, [block, ...]]"
            ) from None
        yield (
            _number(time_ms, "timestamp", where, 0, 1e15) / 1000,
            _tokens(prompt, "input_length", where),
            _tokens(answer, "output_length", where),
            math.nan,
            -1,
            blocks,
        )


def _time(cells: dict[str, str], where: str) -> float:
    cell = cells.get("time_s", "")
    if "-" in cell[1:] and ":" in cell:
        try:
            return datetime.fromisoformat(cell).timestamp()
        except ValueError:
            raise TraceError(f"{where}: not a date and time", field="time_s") from None
    return _number(cell, "time_s", where, 0, 1e12)


def _tokens(cell: Any, field: str, where: str) -> int:
    value = _number(cell, field, where, 0, MAX_TOKENS)
    if value != int(value):
        raise TraceError(f"{where}: not a whole number", field=field)
    return max(1, int(value))


def _number(
    cell: Any, field: str, where: str, least: float, most: float, *, blank: bool = False
) -> float:
    try:
        value = math.inf if isinstance(cell, bool) else float(cell)
    except (TypeError, ValueError, OverflowError):
        raise TraceError(f"{where}: not a number", field=field) from None
    if blank and math.isnan(value):
        return value
    if not least <= value <= most:
        raise TraceError(f"{where}: not from {least:g} to {most:g}", field=field)
    return value

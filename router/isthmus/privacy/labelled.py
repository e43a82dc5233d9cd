"""Texts with labelled spans: reading them, row by row, from JSONL (plain or gzip)."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isthmus.core.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Gold:
    """A labelled span: `text[start:end]`, in characters."""

    start: int
    end: int
    label: str


@dataclass(frozen=True, slots=True)
class Row:
    """A text, what is in it, and what its source looks for."""

    text: str
    spans: tuple[Gold, ...]
    scope: frozenset[str]
    """The labels that the source annotates: of others, nothing is known."""
    language: str
    source: str
    benign: bool
    """Made to hold nothing: what is found in it is a false alarm."""
    kind: str


def json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of the lines of `path`, with their line numbers. Raises `InvalidRequest`.

    The error names the line, never what it holds.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    number = 0
    try:
        with opened(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield number, _object(line, number)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InvalidRequest(
            f"cannot read {path} after line {number}: {type(error).__name__}"
        ) from None


def _object(line: str, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise InvalidRequest(f"line {number} is not JSON") from None
    if not isinstance(row, dict) or not isinstance(row.get("text"), str):
        raise InvalidRequest(f"line {number} is no object with a text")
    return row


def labelled_rows(path: Path) -> Iterator[Row]:
    """The rows of `path`: `{text, spans: [{start, end, label}], scope, lang, source, kind}`.

    Only text and spans are needed. Raises `InvalidRequest`.
    """
    for number, row in json_rows(path):
        try:
            spans = tuple(
                Gold(int(s["start"]), int(s["end"]), str(s["label"])) for s in row["spans"]
            )
        except (KeyError, TypeError, ValueError):
            raise InvalidRequest(f"line {number} has no spans of start, end and label") from None
        if any(not 0 <= s.start < s.end <= len(row["text"]) for s in spans):
            raise InvalidRequest(f"line {number} has a span outside its text")
        yield _row(row, spans)


def _row(row: Mapping[str, Any], spans: tuple[Gold, ...]) -> Row:
    kind = str(row.get("kind", "pii"))
    scope = frozenset(map(str, row.get("scope") or (s.label for s in spans)))
    language, source = str(row.get("lang", "")), str(row.get("source", ""))
    in_scope = tuple(s for s in spans if s.label in scope)
    return Row(row["text"], in_scope, scope, language, source, kind != "pii", kind)

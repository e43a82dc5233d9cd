"""Chinese names that other names of the same text tell of: in a list with them, or once more."""

from __future__ import annotations

import re
from collections.abc import Iterator

from isthmus.privacy.base import Label, Span

ITEM = re.compile(r"(?<![\u3400-\u9fff\u00b7])[\u3400-\u9fff]{2,4}(?![\u3400-\u9fff\u00b7])")

SURE = 0.8
"""The score from which a name of two characters is looked for in the rest of the text."""


def listed(text: str, people: list[Span], name: re.Pattern[str]) -> Iterator[tuple[int, int]]:
    """What is listed with people and has the form of a `name`: 张伟、成龙、李娜."""
    starts, ends = {span.start for span in people}, {span.end for span in people}
    items = [m.span() for m in ITEM.finditer(text) if name.fullmatch(text, *m.span())]
    # Forwards, then backwards: each that is found tells of the next.
    for start, end in items:
        if text[start - 1 : start] == "、" and start - 1 in ends and start not in starts:
            ends.add(end)
            starts.add(start)
            yield start, end
    for start, end in reversed(items):
        if text[end : end + 1] == "、" and end + 1 in starts and end not in ends:
            starts.add(start)
            yield start, end


def repeated(text: str, people: list[Span]) -> Iterator[tuple[int, int]]:
    """Where a name stands once more: what is a name in one sentence is one in the next."""
    names = {
        text[span.start : span.end]
        for span in people
        if 3 <= span.end - span.start <= 12 or (span.end - span.start == 2 and span.score >= SURE)
    }
    for name in names:
        at = text.find(name)
        while at >= 0:
            yield at, at + len(name)
            at = text.find(name, at + len(name))


def completed(text: str, people: list[Span], name: re.Pattern[str], score: float) -> list[Span]:
    """`people`, and whom they tell of, with that `score`; a piece of a name gives way to it."""
    spans = {(span.start, span.end): span for span in people}
    for found in (*listed(text, people, name), *repeated(text, people)):
        spans.setdefault(found, Span(*found, Label.PERSON, score))
    whole: list[Span] = []
    for span in sorted(spans.values(), key=lambda s: (s.start, -s.end)):
        if not whole or span.end > whole[-1].end:
            whole.append(span)
    return whole

"""Values that are split over two texts which a model reads one after the other.

Only what proves itself counts (a checksum, the form of an address), and only where no text alone
holds it: two texts side by side make many a number that nobody wrote.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from isthmus.core.chat import ChatRequest, Role
from isthmus.privacy.asked import named_elsewhere
from isthmus.privacy.base import Label, Span
from isthmus.privacy.detectors import STRUCTURED
from isthmus.privacy.scanner import Scanner

REACH_CHARS = 64
"""How much of each text is read: more than half of a value, and the words before it."""

_PROVEN = frozenset[str](
    {Label.EMAIL, Label.BANK_CARD, Label.ID_CN, Label.IBAN, Label.US_SSN, Label.PHONE, Label.SECRET}
)
_LEAST_SCORE = 0.85
_JOINS = re.compile(r"[\w@.+-]\s*\Z"), re.compile(r"\s*[\w@.+-]")
_TELLS = re.compile(r"\d|@")

_scanner = Scanner(STRUCTURED)


def over_seam(left: str, right: str, *, last: str | None = None) -> Iterator[Span]:
    """The values that begin in `left` and end in `right`.

    In offsets from the seam: `start` is negative, `end` positive. `last` is the text that `left`
    ends with where it is made of several: only what one text alone holds is known already.
    """
    left, right = left[-REACH_CHARS:], right[:REACH_CHARS]
    last = left if last is None else last[-REACH_CHARS:]
    if not (_JOINS[0].search(left) and _JOINS[1].match(right)):
        return
    # The words at the seam, as far as a number's groups: without a digit or @ they are prose.
    if not (_TELLS.search(left[-20:]) or _TELLS.search(right[:20])):
        return
    found = set(_crossing(left, right))
    if left[-1:].isdigit() and right[:1].isdigit():
        found.update(_crossing(left, right, " "))  # or the groups of a number
    if not found:
        return
    alone = [
        *(_moved(span, -len(last)) for span in _scanner.find(last)),
        *_scanner.find(right),
    ]
    for span in sorted(found):
        if not any(_same(span, one) for one in alone):
            yield span


def _crossing(left: str, right: str, glue: str = "") -> Iterator[Span]:
    text, cut = left + glue + right, len(left) + len(glue)
    for span in _scanner.find(text):
        if span.label not in _PROVEN or span.score < _LEAST_SCORE:
            continue
        if text[span.start : len(left)].strip() and text[cut : span.end].strip():
            yield Span(span.start - len(left), span.end - cut, span.label, span.score)


def between_messages(request: ChatRequest) -> Iterator[tuple[int, str]]:
    """The labels of values that are split over messages, or that another message names.

    Each with the later message's index. A message goes on with those before it, and with those
    before it of its own role: a value may be split over any number of them. `answer_so_far` goes on
    with the last one, under whose index it counts.
    """
    last = len(request.messages) - 1
    spoken = [(message.role, message.text) for message in request.messages]
    if request.answer_so_far:
        spoken.append((Role.ASSISTANT, request.answer_so_far))
    everything = _Said()
    own: dict[Role, _Said] = {}
    for at, (role, text) in enumerate(spoken):
        index = min(at, last)
        mine = own.setdefault(role, _Said())
        for said in {everything, mine} - {_Said()}:
            for span in over_seam(said.end, text, last=said.last):
                yield index, span.label
        for earlier in {everything.last, mine.last} - {""}:
            for label in named_elsewhere(earlier, text):
                yield index, label
        everything, own[role] = everything.then(text), mine.then(text)


@dataclass(frozen=True, slots=True)
class _Said:
    """Messages one after the other: the end of all of them, and the last one."""

    end: str = ""
    last: str = ""

    def then(self, text: str) -> _Said:
        end = text if len(text) >= REACH_CHARS else self.end + text
        return _Said(end[-REACH_CHARS:], text[-4 * REACH_CHARS :])


_NEXT_STRING = re.compile(r'"\s*,\s*"')


def between_strings(
    texts: Sequence[str], between: Sequence[str], ranges: Sequence[tuple[int, int]]
) -> Iterator[Span]:
    """The values split over neighbouring strings of a JSON document, in the document's offsets."""
    for index in range(1, len(texts)):
        if _NEXT_STRING.fullmatch(between[index]):
            for span in over_seam(texts[index - 1], texts[index]):
                if span.label == Label.PHONE:
                    continue  # no checksum: a column of numbers holds many
                start, end = ranges[index - 1][1] + span.start, ranges[index][0] + span.end
                yield Span(start, end, span.label, span.score)


def _moved(span: Span, by: int) -> Span:
    return Span(span.start + by, span.end + by, span.label, span.score)


def _same(span: Span, other: Span) -> bool:
    return span.label == other.label and span.start < other.end and other.start < span.end

"""What a detector is, and the text that it reads: normalised, with the way back."""

from __future__ import annotations

import unicodedata
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Label(StrEnum):
    """What a span is. The names are those of the labelled data that detectors are measured on."""

    EMAIL = "EMAIL"
    PHONE = "PHONE"
    BANK_CARD = "BANK_CARD"
    ID_CN = "ID_CN"
    US_SSN = "US_SSN"


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A sensitive piece of a text: `text[start:end]`, in characters. `score` is 0 to 1."""

    start: int
    end: int
    label: str
    score: float


class Detector(Protocol):
    """Finds spans of one or more labels. Must take time linear in the text, whatever it holds."""

    @property
    def name(self) -> str:
        """What it is called in logs."""
        ...

    def detect(self, text: str) -> Iterator[Span]:
        """The spans of a normalised text, in its own offsets. May raise: the scan then fails."""
        ...


@dataclass(frozen=True, slots=True)
class Normalised:
    """A text in the form that detectors read.

    `offsets[i]` is where the i-th character stood in the original; `None` when nothing moved.
    """

    text: str
    offsets: array[int] | None

    def original(self, span: Span) -> Span:
        """`span` in the offsets of the original text."""
        if self.offsets is None:
            return span
        start, end = self.offsets[span.start], self.offsets[span.end - 1] + 1
        return Span(start, end, span.label, span.score)


def normalise(text: str) -> Normalised:
    """`text` with NFKC forms, ASCII digits, spaces and dashes, and nothing invisible.

    It goes character by character: a combining mark stays its own, so that offsets stay exact.
    """
    if text.isascii():
        return Normalised(text, None)
    changed = text.translate(_FORMS)
    if all(len(_FORMS[ord(char)]) == 1 for char in set(text)):
        return Normalised(changed, None)
    # Packed: a tuple would take 36 bytes a character, and texts come in megabytes.
    offsets = array("I", (at for at, char in enumerate(text) for _ in _FORMS[ord(char)]))
    return Normalised(changed, offsets)


MAX_FORM_CHARS = 4


class _Forms(dict[int, str]):
    """The normal form of each character, found out once."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        folded = unicodedata.normalize("NFKC", char)
        # Ligatures of whole phrases hold no value, and would make a text eighteen times as long.
        form = "".join(map(_form, folded if len(folded) <= MAX_FORM_CHARS else char))
        self[code] = form
        return form


def _form(char: str) -> str:
    if char.isascii():
        return char
    if char.isdecimal():
        return str(unicodedata.decimal(char))
    # By Unicode category: every dash, every space, and what is not seen at all (joiners, marks).
    match unicodedata.category(char):
        case "Pd":
            return "-"
        case "Zs":
            return " "
        case "Cf":
            return ""
        case _:
            return "-" if char == "\N{MINUS SIGN}" else char


_FORMS = _Forms()

"""The text that detectors read: normalised, with the way back to the original offsets."""

from __future__ import annotations

import unicodedata
from array import array
from dataclasses import dataclass

from isthmus.privacy.base import Span


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

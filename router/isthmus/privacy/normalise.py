"""The text that detectors read: normalised, with the way back to the original offsets."""

from __future__ import annotations

import re
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

    Letters of other scripts that look Latin become Latin inside a word that holds ASCII letters
    or digits, and Chinese digits become ASCII in runs as long as a number's. It goes character by
    character: a combining mark stays its own, so that offsets stay exact.
    """
    if text.isascii():
        return Normalised(text, None)
    changed = text.translate(_FORMS)
    offsets = None
    if any(len(_FORMS[ord(char)]) != 1 for char in set(text)):
        # Packed: a tuple would take 36 bytes a character, and texts come in megabytes.
        offsets = array("I", (at for at, char in enumerate(text) for _ in _FORMS[ord(char)]))
    # Both change one character into one: the offsets stay.
    if _LOOK_ALIKE.search(changed):
        changed = _MIXED_WORD.sub(_latin, changed)
    if _CHINESE_DIGIT.search(changed):
        changed = _CHINESE_NUMBER.sub(_ascii_digits, changed)
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
    # Decimal digits of every script, and those in circles that NFKC leaves.
    digit = unicodedata.digit(char, None)
    if digit is not None:
        return str(digit)
    if char in _STRIKES:
        return ""
    # By Unicode category: every dash, every space, and what is not seen at all (joiners, marks).
    match unicodedata.category(char):
        case "Pd":
            return "-"
        case "Zs":
            return " "
        case "Cf":
            return ""
        case _:
            return _PUNCTUATION.get(char, char)


_STRIKES = frozenset(
    map(chr, (0x305, *range(0x332, 0x339), 0x33F, *range(0x20D0, 0x20E4), *range(0xFE00, 0xFE10)))
)
"""Marks that strike through, underline or box a character, and variation selectors."""

_PUNCTUATION = {
    "\N{MINUS SIGN}": "-",
    "\N{HYPHEN BULLET}": "-",
    "\N{IDEOGRAPHIC FULL STOP}": "。",
    "\N{RIGHT SINGLE QUOTATION MARK}": "'",
    "\N{FRACTION SLASH}": "/",
    "\N{INCREMENT}": "\N{GREEK CAPITAL LETTER DELTA}",
    "\N{BULLET}": "·",
    "\N{KATAKANA MIDDLE DOT}": "·",
    "\N{HYPHENATION POINT}": "·",
}

_FORMS = _Forms()

_LOOK_ALIKES = str.maketrans(
    # Cyrillic, Armenian, then Greek (Unicode's confusables.txt, the single letters of fonts in use)
    "АВЕЅІЈКМНОРСТУХаеѕіјорсухһԁԛԝУ" + "օհոսԼՏ" + "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧοικνρτυϲ",
    "ABESIJKMHOPCTYXaesijopcyxhdqwY" + "ohnuLS" + "ABEZHIKMNOPTYXoikvptuc",
)
_LETTERS = "".join(map(chr, _LOOK_ALIKES))
_LOOK_ALIKE = re.compile(f"[{_LETTERS}]")
_MIXED_WORD = re.compile(f"[A-Za-z0-9@._{_LETTERS}-]+")


def _latin(word: re.Match[str]) -> str:
    # A word of another script that only happens to hold look-alikes keeps them.
    mixed = any(char.isascii() and char.isalnum() for char in word[0])
    return word[0].translate(_LOOK_ALIKES) if mixed else word[0]


_CHINESE_DIGITS = "〇零一二三四五六七八九幺壹贰叁肆伍陆柒捌玖貳參陸"
_DIGITS = str.maketrans(_CHINESE_DIGITS, "001234567891123456789236")
_CHINESE_DIGIT = re.compile(f"[{_CHINESE_DIGITS}]")
_CHINESE_NUMBER = re.compile(f"[0-9{_CHINESE_DIGITS}](?:[ -]?[0-9{_CHINESE_DIGITS}]){{6,}}")
# One or two are a word beside a number: a name's last (张三), or "once" (一下).
_CHINESE_RUN = re.compile(f"[{_CHINESE_DIGITS}](?:[ -]?[{_CHINESE_DIGITS}]){{2,}}")


_WHOLE_NUMBER = re.compile("[0-9]{7}")


def _ascii_digits(number: re.Match[str]) -> str:
    if _WHOLE_NUMBER.search(number[0]):  # what stands beside a whole number is no part of it
        return number[0]
    return _CHINESE_RUN.sub(lambda run: run[0].translate(_DIGITS), number[0])

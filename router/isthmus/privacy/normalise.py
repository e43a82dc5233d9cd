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
    if text.isascii() and not _CONTROL.search(text):
        return Normalised(text, None)
    changed = text.translate(_FORMS)
    offsets = None
    if _moves(text):
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


_in_place: set[str] = set()
"""Characters that are known to have a form of one character."""


def _moves(text: str) -> bool:
    unknown = set(text) - _in_place
    moving = {char for char in unknown if len(_FORMS[ord(char)]) != 1}
    _in_place.update(unknown - moving)
    return bool(moving)


def _form(char: str) -> str:
    if char in _CONTROLS:
        return _CONTROLS[char]
    if char.isascii():
        return char
    # Decimal digits of every script, and those in circles that NFKC leaves.
    digit = unicodedata.digit(char, None)
    if digit is not None:
        return str(digit)
    if char in _STRIKES or char in _IGNORED:
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

_IGNORED = frozenset(
    chr(code)
    for first, last in (
        *((0x34F, 0x34F), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F), (0x2065, 0x2065)),
        *((0x3164, 0x3164), (0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0xE0000, 0xE0FFF)),
    )
    for code in range(first, last + 1)
)
"""What Unicode's Default_Ignorable_Code_Point lists beyond the category Cf."""

_CONTROLS = {chr(code): "" for code in (*range(0x20), *range(0x7F, 0xA0))}
# A separator of fields is no part of a value (Hive and FIX write 0x01, ASCII 0x1C to 0x1F), and a
# page's or a record's end is a line's.
_CONTROLS |= dict.fromkeys("\x01\x1c\x1d\x1e\x1f", " ") | dict.fromkeys("\v\f\x85", "\n")
_CONTROLS |= {char: char for char in "\t\n\r"}
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")

_PUNCTUATION = {
    "\N{LINE SEPARATOR}": "\n",
    "\N{PARAGRAPH SEPARATOR}": "\n",
    "\N{BRAILLE PATTERN BLANK}": " ",
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

"""Numbers that are written in English words."""

from __future__ import annotations

import re
from collections.abc import Iterator

from isthmus.privacy.detectors.context import Context
from isthmus.privacy.detectors.numbers import MOST_DIGITS, Number

_WORDS = {
    word: str(digit)
    for digit, words in enumerate(
        ("zero oh o nil", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    )
    for word in words.split()
}
_REPEATS = {"double": 2, "triple": 3}
_LEAST_WORDS = 7
_SPELLED_WORD = "(?:" + "|".join((*_WORDS, *_REPEATS)) + ")"
_SPELLED = re.compile(
    rf"(?<![A-Za-z0-9]){_SPELLED_WORD}(?:[ ,.-]{{1,3}}{_SPELLED_WORD}){{6,24}}(?![A-Za-z0-9])",
    re.IGNORECASE,
)


def spelled_numbers(context: Context) -> Iterator[Number]:
    """Numbers of seven digits and more that are spelled out in English."""
    text = context.text
    lowered = text.lower()
    if sum(lowered.count(word) for word in _WORDS if len(word) > 2) < _LEAST_WORDS:
        return
    for found in _SPELLED.finditer(text):
        words = re.findall("[a-z]+", found[0].lower())
        digits, repeat = "", 1
        for word in words:
            if word in _REPEATS:
                repeat = _REPEATS[word]
            else:
                digits += _WORDS[word] * repeat
                repeat = 1
        if _LEAST_WORDS <= len(digits) <= MOST_DIGITS:
            yield Number(context, [found.span()], spelled=digits)

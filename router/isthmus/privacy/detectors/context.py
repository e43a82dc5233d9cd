"""What the words beside a value say it is: the nearest one that names a kind of value counts."""

from __future__ import annotations

import re
from typing import NamedTuple

from isthmus.privacy.detectors.vocabulary import CHINESE, LATIN

BEFORE_CHARS = 48
"""How far before a value its name is looked for."""

AFTER_CHARS = 24
"""How much after it is read: a word counts that begins `NEAR` it."""


class Clue(NamedTuple):
    """A word beside a value: the label that it names, and how many characters lie between."""

    label: str
    gap: int


NEAR = 6
"""A word so near a value speaks of this one and no other."""

NAME_GAP = 20
"""How far before a value the word may stand that alone makes it one."""

# What ends a word's hold on what follows: a sentence, a line of its own, another number.
ENDS_NAME = re.compile(
    r"(?:(?<![Nn][or])(?<!NO)(?<![Nn]um)(?<![Ll]ic)(?<![Aa]cct)\.|[!?])\s|\n\s*\n|\d|[。！？；;]"
)


class Context:
    """The words of one text, asked for by place. Candidates share places: answers are kept."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._before: dict[int, Clue | None] = {}
        self._after: dict[int, Clue | None] = {}

    def before(self, start: int) -> Clue | None:
        """The nearest naming word that ends at or before `start`."""
        if start not in self._before:
            self._before[start] = _last(self.text[max(0, start - BEFORE_CHARS) : start].lower())
        return self._before[start]

    def after(self, end: int) -> Clue | None:
        """The nearest naming word that starts at or near after `end`."""
        if end not in self._after:
            self._after[end] = _first(self.text[end : end + AFTER_CHARS].lower())
        return self._after[end]

    def names(self, label: str, start: int, end: int, within: int = BEFORE_CHARS) -> bool:
        """Whether the nearest word before (or, failing that, right after) names `label`."""
        before = self.before(start)
        if before is not None and before.gap <= within:
            if before.label == label:
                return True
            if before.gap <= NEAR:
                return False
        after = self.after(end)
        return after is not None and after.label == label and after.gap <= NEAR


_WORD = re.compile(r"a/c(?![a-z])|[a-zà-ɏ]+")
_LATIN_WORDS = {
    phrase: str(label) for label, phrases in LATIN.items() for phrase in phrases.split()
}
_LATIN_ENDS = frozenset(
    end + plural
    for phrase in _LATIN_WORDS
    for end in (phrase.rsplit("_", 1)[-1],)
    for plural in ("", "s")
)
_PHRASE_WORDS = max(phrase.count("_") + 1 for phrase in _LATIN_WORDS)


def _by_pair(at: slice) -> dict[str, tuple[tuple[str, str], ...]]:
    """The Chinese words by their two characters at `at`, the longest first."""
    words = [(word, str(label)) for label, words in CHINESE.items() for word in words.split()]
    # A document's number is the document's: 驾驶证号 is not somebody's 证号.
    words += [(f"{word}号", label) for word, label in words if word[-1] in "证照證"]
    words.sort(key=lambda item: -len(item[0]))
    pairs = {word[at] for word, _ in words}
    return {pair: tuple(item for item in words if item[0][at] == pair) for pair in pairs}


_CHINESE_ENDS, _CHINESE_STARTS = _by_pair(slice(-2, None)), _by_pair(slice(0, 2))


def _last(window: str) -> Clue | None:
    """The naming word nearest the window's end."""
    best = None
    plain = window.replace("'", "")  # "driver's license"
    words = list(_WORD.finditer(plain))
    for at in range(len(words) - 1, -1, -1):
        label = _phrase(words, at)
        if label is not None:
            best = Clue(label, len(plain) - words[at].end())
            break
    if window.isascii():
        return best
    nearest = -1 if best is None else len(window) - best.gap
    for end in range(len(window), max(1, nearest), -1):
        for word, label in _CHINESE_ENDS.get(window[end - 2 : end], ()):
            if window.endswith(word, 0, end):
                return Clue(label, len(window) - end)
    return best


def _first(window: str) -> Clue | None:
    """The naming word nearest the window's start."""
    best = None
    plain = window.replace("'", "")
    words: list[re.Match[str]] = []
    for found in _WORD.finditer(plain):
        words.append(found)
        if found.start() > NEAR:
            break
        label = _phrase(words, len(words) - 1)
        if label is not None:
            best = Clue(label, found.start())
            break
    if window.isascii():
        return best
    nearest = NEAR + 1 if best is None else best.gap
    for start in range(min(nearest, len(window) - 1)):
        for word, label in _CHINESE_STARTS.get(window[start : start + 2], ()):
            if window.startswith(word, start):
                return Clue(label, start)
    return best


def _phrase(words: list[re.Match[str]], last: int) -> str | None:
    """The label that the word at `last` names, alone or with those before it."""
    if words[last][0] not in _LATIN_ENDS:
        return None
    for first in range(max(0, last + 1 - _PHRASE_WORDS), last + 1):
        phrase = "_".join([word[0] for word in words[first : last + 1]])
        label = _LATIN_WORDS.get(phrase) or _LATIN_WORDS.get(phrase.removesuffix("s"))
        if label is not None:
            return label
    return None

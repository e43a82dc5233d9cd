r"""The form of a placeholder, `[PERSON_k3f7]`, and every form in which models write it back.

Square brackets, capitals and an underscore are what small models copy: of 29 placeholders in eight
tasks Qwen2.5-Coder-1.5B gave 19 of this form back as they were and 8 without their brackets, but 2
of the form `⟦PERSON·k3f7⟧` (23 of `<PERSON_k3f7>`, 21 of `{PERSON_k3f7}`). It is ASCII, so JSON and
URLs keep it; the code is a letter, a digit, a letter, a digit (no vowels, no look-alikes), which no
word is and which a following digit cannot extend.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from functools import cached_property

LETTERS = "bcdfghjkmnpqrstvwxz"
DIGITS = "23456789"

Choose = Callable[[str], str]
"""One of the characters of a text, at random: `secrets.choice`."""


def new_code(choose: Choose) -> str:
    """A random code."""
    return choose(LETTERS) + choose(DIGITS) + choose(LETTERS) + choose(DIGITS)


def written(label: str, code: str) -> str:
    """The placeholder of `code`."""
    return f"[{label}_{code}]"


_OPEN, _CLOSE = (
    r"[\[\uff3b\u3010\u3014\u3016\u27e6\u2772<{]",
    r"[\]\uff3d\u3011\u3015\u3017\u27e7\u2773>}]",
)
_SPACES = r" \t\u00a0\u2000-\u200b\u202f\u2060\u3000\ufeff"
_MARKS = r"_\-\u2010-\u2015\u2212\ufe58\ufe63\uff0d\uff3f\u00b7\u2022\u2027\u30fb:.#/|~"
_GAP = f"[{_SPACES}]{{0,2}}"
_CODE = (f"[{LETTERS}]", f"[{DIGITS}]", f"[{LETTERS}]", f"[{DIGITS}]")
_NOT_BEFORE, _NOT_AFTER = "(?<![A-Za-z0-9])", "(?![A-Za-z0-9])"
_LONGEST = 80
"""No form of a placeholder is longer than this, in characters."""


class Forms:
    """Everything that stands for one of some placeholders.

    With brackets: any kind of them, spaces, other marks for the underscore, another word for the
    label (a translation), any case, Markdown's backslashes, a URL's `%5B`. Without: label and code,
    or the code alone.
    """

    def __init__(
        self, labels: Collection[str], codes: Collection[str], *, in_json: bool = False
    ) -> None:
        escape = r"(?:\\\\)?" if in_json else r"\\?"  # JSON writes a backslash as two
        separator = f"{escape}[{_SPACES}{_MARKS}]{{0,3}}"
        close_ = f"{escape}(?:{_CLOSE}|%5D)"
        known = "(?P<{}>" + "|".join(sorted(codes)) + ")"
        named = [_letters(label, escape) for label in sorted(labels)]
        word = [r"[^\W\d_]{1,16}", f"{escape}[{_SPACES}{_MARKS}]{{1,3}}"]
        opened = [[*label, separator] for label in named] + [word, []]
        bare = [[*label, f"{escape}[ {_MARKS}]?"] for label in named] + [[]]
        self._full = (
            f"{escape}(?:{_OPEN}|%5B){_GAP}(?:{_any(opened)}){known.format('a')}{_GAP}{close_}"
            f"|{_NOT_BEFORE}(?:{_any(bare)}){known.format('b')}{_NOT_AFTER}"
        )
        held = [
            [f"{escape}(?:{_OPEN}|%5B)", _GAP, *a, *_CODE, _GAP, r"(?:\\{1,3}|%5?)"] for a in opened
        ]
        held += [[*a, *_CODE] for a in bare]
        starts = [_nested(atoms) for atoms in held]
        cut = len(opened)
        self._held = (
            rf"(?:{'|'.join(starts[:cut])}|\\{{1,3}}|\\{{0,2}}%5?"
            f"|{_NOT_BEFORE}(?:{'|'.join(starts[cut:])}))$"
        )

    @cached_property
    def _full_pattern(self) -> re.Pattern[str]:
        return re.compile(self._full, re.IGNORECASE)

    @cached_property
    def _held_pattern(self) -> re.Pattern[str]:
        return re.compile(self._held.replace("$", r"\Z"), re.IGNORECASE)

    def find(self, text: str, start: int = 0) -> tuple[int, int, str] | None:
        """The first placeholder from `start`: where it begins and ends, and its code."""
        found = self._full_pattern.search(text, start)
        if found is None:
            return None
        return found.start(), found.end(), (found["a"] or found["b"]).lower()

    def undecided(self, text: str, start: int = 0) -> int:
        """Where the suffix of `text` begins that may still become a placeholder, or its length."""
        found = self._held_pattern.search(text, max(start, len(text) - _LONGEST))
        return len(text) if found is None else found.start()


def _letters(label: str, escape: str) -> list[str]:
    between = f"{escape}[{_SPACES}{_MARKS}]?"
    return [between if char == "_" else re.escape(char) for char in label]


def _any(sequences: list[list[str]]) -> str:
    return "|".join("".join(atoms) for atoms in sequences)


def _nested(atoms: list[str]) -> str:
    """A pattern of every beginning of a sequence."""
    pattern = ""
    for atom in reversed(atoms):
        pattern = f"(?:{atom}{pattern})?" if pattern else f"(?:{atom})?"
    return pattern[:-1]  # the first one must be there

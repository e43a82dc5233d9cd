r"""The form of a placeholder, `[PERSON_k3f7]`, and every form in which models write it back.

Square brackets, capitals and an underscore are what small models copy: of 29 placeholders in eight
tasks Qwen2.5-Coder-1.5B gave 19 of this form back as they were and 8 without their brackets, but 2
of the form `⟦PERSON·k3f7⟧` (23 of `<PERSON_k3f7>`, 21 of `{PERSON_k3f7}`). It is ASCII, so JSON and
URLs keep it; the code is a letter, a digit, a letter, a digit (no vowels, no look-alikes), which no
word is and which a following digit cannot extend.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache

LETTERS = "bcdfghjkmnpqrstvwxz"
DIGITS = "23456789"

Choose = Callable[[str], str]
"""One of the characters of a text, at random: `secrets.choice`."""


def new_code(choose: Choose) -> str:
    """A random code."""
    return choose(LETTERS) + choose(DIGITS) + choose(LETTERS) + choose(DIGITS)


def codes_in(text: str) -> set[str]:
    """Everything in `text` that could be taken for a code, inside of words too."""
    return set(_ANY_CODE.findall(text.lower()))


def written(label: str, code: str) -> str:
    """The placeholder of `code`."""
    return f"[{label}_{code}]"


def code_of(placeholder: str) -> str:
    """The code of a placeholder as it was `written`."""
    return placeholder[-5:-1]


_OPEN, _CLOSE = (
    r"[\[\uff3b\u3010\u3014\u3016\u27e6\u2772<{]",
    r"[\]\uff3d\u3011\u3015\u3017\u27e7\u2773>}]",
)
_SPACES = r" \t\u00a0\u2000-\u200b\u202f\u2060\u3000\ufeff"
_MARKS = r"_\-\u2010-\u2015\u2212\ufe58\ufe63\uff0d\uff3f\u00b7\u2022\u2027\u30fb:.#/|~"
_GAP = f"[{_SPACES}]{{0,2}}"
_CODE = (f"[{LETTERS}]", f"[{DIGITS}]", f"[{LETTERS}]", f"[{DIGITS}]")
_ANY_CODE = re.compile(f"(?=({''.join(_CODE)}))")  # looks ahead: codes may overlap
_NOT_BEFORE, _NOT_AFTER = "(?<![A-Za-z0-9])", "(?![A-Za-z0-9])"
_LONGEST = 80
"""No form of a placeholder is longer than this, in characters."""


class Forms:
    """Everything that stands for one of some placeholders.

    With brackets: any kind of them, spaces, other marks for the underscore, another word for the
    label (a translation), any case, Markdown's backslashes, a URL's `%5B`. Without: label and code,
    or the code alone. `alone` has the code of each label that stands for one value: `[PERSON]` and
    `[Person]` are that value's, where the model dropped the code.
    """

    def __init__(
        self,
        labels: Collection[str],
        codes: Collection[str],
        *,
        in_json: bool = False,
        alone: Mapping[str, str] | None = None,
    ) -> None:
        self._codes = frozenset(codes)
        self._alone = alone or {}
        self._full, self._held = _patterns(frozenset(labels), in_json)

    def find(self, text: str, start: int = 0) -> tuple[int, int, str] | None:
        """The first placeholder from `start`: where it begins and ends, and its code."""
        while (found := self._full.search(text, start)) is not None:
            label = found["l"]
            code = (
                self._alone.get(label.upper().replace(" ", "_"))
                if label
                else (found["a"] or found["b"]).lower()
            )
            if code in self._codes:
                return found.start(), found.end(), code
            start = found.start() + 1
        return None

    def undecided(self, text: str, start: int = 0) -> int:
        """Where the suffix of `text` begins that may still become a placeholder, or its length."""
        found = self._held.search(text, max(start, len(text) - _LONGEST))
        return len(text) if found is None else found.start()


@lru_cache(64)
def _patterns(labels: frozenset[str], in_json: bool) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What may be a placeholder of one of `labels`, and what may become one.

    Any code matches: thousands of them in a pattern would each be tried at every word.
    """
    escape = r"(?:\\\\)?" if in_json else r"\\?"  # JSON writes a backslash as two
    separator = f"{escape}[{_SPACES}{_MARKS}]{{0,3}}"
    close_ = f"{escape}(?:{_CLOSE}|%5D)"
    code = "".join(_CODE)
    named = [_letters(label, escape) for label in sorted(labels)]
    word = [r"[^\W\d_]{1,16}", f"{escape}[{_SPACES}{_MARKS}]{{1,3}}"]
    opened = [[*label, separator] for label in named] + [word, []]
    bare = [[*label, f"{escape}[ {_MARKS}]?"] for label in named] + [[]]
    full = (
        f"{escape}(?:{_OPEN}|%5B){_GAP}(?:{_any(opened)})(?P<a>{code}){_GAP}{close_}"
        f"|{_NOT_BEFORE}(?:{_any(bare)})(?P<b>{code}){_NOT_AFTER}"
        # Neither an index (row[EMAIL]) nor Markdown's link ([Email](…), [Email]: …).
        rf"|(?-i:(?<![\w\])\\])\[(?P<l>{'|'.join(labels_alone(labels))})\](?![(\[:]))"
    )
    held = [
        [f"{escape}(?:{_OPEN}|%5B)", _GAP, *a, *_CODE, _GAP, r"(?:\\{1,3}|%5?)"] for a in opened
    ]
    held += [[*a, *_CODE] for a in bare]
    starts = [_nested(atoms) for atoms in held]
    cut = len(opened)
    starts[:0] = [rf"\[(?:{'|'.join(labels_alone(labels))})\]"]  # what follows decides
    cut += 1
    suffix = (
        rf"(?:{'|'.join(starts[:cut])}|\\{{1,3}}|\\{{0,2}}%5?"
        rf"|{_NOT_BEFORE}(?:{'|'.join(starts[cut:])}))\Z"
    )
    return re.compile(full, re.IGNORECASE), re.compile(suffix, re.IGNORECASE)


def labels_alone(labels: Collection[str]) -> list[str]:
    """How models write a label without its code, longest first."""
    names = {name for label in labels for name in (label, label.replace("_", " "))}
    shown = {one for name in names for one in (name, name.capitalize(), name.title())}
    return [re.escape(one) for one in sorted(shown, key=lambda one: (-len(one), one))]


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

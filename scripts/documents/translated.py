"""README.zh.md beside README.md: the same sections, blocks, figures, code and links.

What a machine cannot see, whether a sentence says the same, a person answers for: each section of
the translation names the English section that it was made from, by its hash.

python -m documents.translated           # ends with 1 where the English one has moved on
python -m documents.translated --seen    # the translation was brought up to date: says so in it
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
ENGLISH: Final = ROOT / "README.md"
CHINESE: Final = ROOT / "README.zh.md"

_PART: Final = re.compile(r"(?ms)^```.*?^```$|^#{1,4} [^\n]*$")
_HASH: Final = re.compile(r"<!-- en:([0-9a-f]{12}) -->\n")
_BLOCK: Final = re.compile(r"(?ms)^```.*?^```$")
_CODE: Final = re.compile(r"`[^`\n]+`")
_LINK: Final = re.compile(r"\]\(([^)\s]+)\)")
_FIGURE: Final = re.compile(r"\d+(?:[.,:]\d+)*")
_PICTURE: Final = re.compile(r"-(?:en|zh)(?=\.png$)")
"""What tells one language's picture of the page from the other's."""
_LANGUAGES: Final = frozenset({"README.md", "README.zh.md"})
"""The links from one language to the other."""


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, and all until the next one."""

    heading: str
    text: str

    @property
    def digest(self) -> str:
        """Of its text, as the translation names it."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:12]

    @property
    def level(self) -> int:
        """Of its heading."""
        return len(self.heading) - len(self.heading.lstrip("#"))

    def has(self) -> dict[str, Counter[str]]:
        """What a translation has in common with it, by kind."""
        prose = _BLOCK.sub("", _HASH.sub("", self.text))
        plain = _LINK.sub("]", _CODE.sub("", prose))
        return {
            "block": Counter(_BLOCK.findall(self.text)),
            "code": Counter(_CODE.findall(prose)),
            "link": Counter(
                _PICTURE.sub("", to) for to in _LINK.findall(prose) if to not in _LANGUAGES
            ),
            "figure": Counter(_FIGURE.findall(plain)),
        }


def sections(text: str) -> list[Section]:
    """The sections of a page; a `#` inside of a block is no heading."""
    starts = [found.start() for found in _PART.finditer(text) if found.group()[0] == "#"]
    pieces = [text[a:b] for a, b in zip(starts, [*starts[1:], len(text)], strict=True)]
    return [Section(piece.split("\n", 1)[0], piece) for piece in pieces]


def differences(english: str, chinese: str) -> list[str]:
    """What a translation lacks or has too much, a line each; nothing of the hashes."""
    theirs, ours = sections(english), sections(chinese)
    if [one.level for one in theirs] != [one.level for one in ours]:
        return [f"{len(ours)} sections for {len(theirs)}: the headings are not the same"]
    found = []
    for original, translation in zip(theirs, ours, strict=True):
        there, here = original.has(), translation.has()
        for kind in there:
            for what, words in (
                ("lacks", there[kind] - here[kind]),
                ("has", here[kind] - there[kind]),
            ):
                # Of a block its first line tells which.
                found += [
                    f"{translation.heading}: {what} the {kind} {word.splitlines()[0]}"
                    for word in words
                ]
    return found


def outdated(english: str, chinese: str) -> list[str]:
    """The headings of English sections that changed since they were translated."""
    return [
        original.heading
        for original, translation in zip(sections(english), sections(chinese), strict=True)
        if _HASH.findall(translation.text) != [original.digest]
    ]


def seen(english: str, chinese: str) -> str:
    """The translation, each section naming the English one as it is now."""
    made = []
    for original, translation in zip(sections(english), sections(chinese), strict=True):
        heading, _, rest = _HASH.sub("", translation.text).partition("\n")
        made.append(f"{heading}\n<!-- en:{original.digest} -->\n{rest}")
    return "".join(made)


def main() -> None:
    """Check, or with `--seen` write the hashes."""
    english, chinese = ENGLISH.read_text(encoding="utf-8"), CHINESE.read_text(encoding="utf-8")
    wrong = differences(english, chinese)
    if not wrong and "--seen" in sys.argv[1:]:
        CHINESE.write_text(seen(english, chinese), encoding="utf-8")
    elif not wrong:
        wrong = [f"changed in English: {heading}" for heading in outdated(english, chinese)]
    if wrong:
        told = "\n".join(f"README.zh.md: {line}" for line in wrong)
        sys.exit(f"{told}\nbring the translation up to date, then: make translated")


if __name__ == "__main__":
    main()

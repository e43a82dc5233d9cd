"""English names by the phrase around them, in whatever case they are written.

The phrase says that somebody stands here ("tell priya", "my boss deepak"); the tables say that the
word is a name, or none that English has.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from isthmus.privacy.names.english_words import CALENDAR, NO_INTRODUCTION
from isthmus.privacy.names.lexicon import Lexicon

LEAST_SHARE = 0.02
"""How many in a hundred have a given name that is likelier a name than a rare word."""

_WORD = r"[a-z\u00c0-\u024f][a-z\u00c0-\u024f'’-]{2,14}"
_NAME = rf"({_WORD}(?: {_WORD})?)"
_KIN = (
    "boss|manager|coworker|colleague|neighbou?r|landlord|roommate|therapist|doctor|teacher|friend"
    "|bestie|buddy|wife|husband|partner|girlfriend|boyfriend|gf|bf|fianc[eé]e?|ex|son|daughter|kid"
    "|brother|sister|bro|sis|cousin|uncle|aunt|nephew|niece|grandma|grandpa|mom|mum|dad"
)
SPOKEN = re.compile(
    rf"(?<![\w@#/.])(?:"
    rf"(?:hi|hey|hello|yo|dear|bye|thanks|thank|thx|congrats|happy birthday) {_NAME}"
    r"(?=[ ]?(?:[,.!?\n]|\Z)| (?:can|could|did|do|are|how|what|i|u|you|please|pls|for)\b)"
    rf"|(?:tell|told|ask|asked|cc|texted|emailed|met|dating|(?:love|miss) (?:u|you)"
    rf"|(?:talk(?:ed|ing)?|spoke) (?:to|with)|met with) {_NAME}\b"
    rf"|my (?:{_KIN}) {_NAME}\b"
    rf"|(?:this is|it['’]?s|i['’]?m|i am) {_NAME}(?= (?:from|here|speaking)\b)"
    r")",
    re.IGNORECASE,
)
INITIALS = re.compile(
    r"(?<![\w.])(?!(?:U\. ?[SKN]|E\. ?U|D\. ?C|P\. ?[SO]|A\. ?[ID]|B\. ?C|N\. ?Y|L\. ?A|I\. ?T)\.)"
    r"(?:[A-Z]\. ?){1,3}([A-Z][a-z\u00c0-\u024f]{2,}(?:-[A-Z][a-z]+)?)\b"
)
SURNAME_FIRST = re.compile(r"(?m)^[ \t>*-]*([A-Z][\w'’-]+), ([A-Z][a-z]+|[A-Z]{3,})\b(?=[^,\n]|$)")
AND_BEFORE, AND_BEHIND = (
    re.compile(r"(?<!\w)([a-z]{3,}) (?:and|&) \Z"),
    re.compile(r" (?:and|&) ([a-z]{3,})(?!\w)"),
)


def spoken(text: str, known: Lexicon) -> Iterator[tuple[int, int]]:
    """Who is spoken to or of, has initials, or stands in a list as "Smith, Robert"."""
    for found in SPOKEN.finditer(text):
        group = found.lastindex or 0
        start, words = found.start(group), found[group].split(" ")
        words = [re.sub(r"['’]s?\Z", "", word) for word in words]
        if not _may_be_name(words[0], known):
            continue
        length = len(words[0])
        if len(words) > 1 and _may_be_surname(words[1], known):
            length += 1 + len(words[1])
        yield start, start + length
    for found in INITIALS.finditer(text):
        if found[0].count(".") > 1 or known.surname(found[1]) > 0.01:
            yield found.span()
    for found in SURNAME_FIRST.finditer(text):
        if known.surname(found[1]) > 0.005 and known.given(found[2]) >= LEAST_SHARE:
            yield found.start(1), found.end(2)


def coupled(text: str, start: int, end: int, known: Lexicon) -> Iterator[tuple[int, int]]:
    """The given names in small letters that "and" couples with the person `text[start:end]`."""
    before = AND_BEFORE.search(text[max(0, start - 24) : start])
    behind = AND_BEHIND.match(text, end)
    if before and known.given(before[1]) >= LEAST_SHARE:
        at = max(0, start - 24)
        yield at + before.start(1), at + before.end(1)
    if behind and known.given(behind[1]) >= LEAST_SHARE:
        yield behind.span(1)


def _may_be_name(word: str, known: Lexicon) -> bool:
    lower = word.lower()
    if lower in NO_INTRODUCTION or lower in CALENDAR or lower in known.stop_words:
        return False
    share = known.given(word)
    return share >= LEAST_SHARE or (not known.word(word) and (share > 0 or len(word) > 3))


def _may_be_surname(word: str, known: Lexicon) -> bool:
    if word.lower() in known.stop_words:
        return False
    return known.surname(word) > (0.05 if known.word(word) else 0) or word.istitle()

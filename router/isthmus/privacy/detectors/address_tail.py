"""The rest of an address behind its street: units, a town, a state, a postcode, a country."""

from __future__ import annotations

import re
from typing import NamedTuple

from isthmus.privacy.detectors import gazetteer as g

UNIT = (
    r"(?:apt|apartment|suite|studio|ste|unit|flat|room|rm|floor|fl|bldg|building|lot|trlr|penthouse"
    r"|tower|block|blk|wing|sector|street|box|level|p\.?o\.? box|dept|door)"
    r"\b\.? ?#?(?:\d{1,5}[A-Za-z]?(?!\w)|[A-Z]\d{0,4}(?!\w))"
    r"|# ?\d{1,3}-\d{1,5}(?!\w)|# ?\d{1,5}[A-Za-z]?(?!\w)|\d{1,3}(?:st|nd|rd|th) (?:floor|fl)\b"
)
"""A part of a building and its number. To be matched without regard to case."""

_UNITS = re.compile(
    rf"\.?(?: \d{{1,2}}(?= #))?(?:,? ?\n? ?(?:\?{{3}} )?(?:{UNIT})){{1,3}}", re.IGNORECASE
)
_POSTCODE = (
    r"(?:[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}|[A-Z]\d[A-Z][ -]?\d[A-Z]\d|\d{5}-\d{4}|\d{5,6}"
    r"|\d{4}-\d{3}|\d{3} \d{2}(?! \d)|\d{2}-\d{3}|[A-Z]\d[\dW] ?[A-Z\d]{4}|\d{4}(?: [A-Z]{2})?"
    r"|[A-Z]{1,2}-\d{4,5})(?![\w-])(?![.,]\d)"
)
_SEPARATOR = re.compile(r"\.?,? ?\n ?,? ?(?:\?{3} )?| - |,? ")
_FIRM = re.compile(
    rf"(?:(?P<unit>(?i:{UNIT}))|(?:{g.STATES})(?![^\W_]),? ?{_POSTCODE}"
    rf"|(?P<state>(?:{g.STATES})(?=[,.?!]|\s*(?:\n|$)))"
    rf"|{_POSTCODE}|(?i:{g.COUNTRIES})(?![^\W_])(?: \(\w{{2,12}}\))?(?:,? {_POSTCODE})?)"
)
_TOWN = re.compile(
    r"(?:\d{3,5} )?(?P<words>[^\W\d_]{1,25}(?:['’.-][^\W\d_]{1,20}){0,3}(?:(?<=St)\.|(?<=Col)\.)?"
    r"(?![^\W_])"
    r"(?:[ -][^\W\d_]{1,25}(?:['’.-][^\W\d_]{1,20}){0,3}(?![^\W_])){0,3})"
    r"(?: \([^()\n]{2,24}\))?(?! ?[:=@])"
)
_CAPITAL_TOWN = re.compile(r"(?![a-z])[^\W\d_]{2,24}(?:-[^\W\d_]{2,24})?(?! ?[:=@])(?![^\W_])")
_WEAK = re.compile(r"\W*#? ?(?:\d{1,4}(?: [A-Z]{2})?|\d{6})")  # "#8" and "3174" prove nothing
_NATION = re.compile(rf"(?:{g.COUNTRIES})(?![^\W_])")
_REGION = re.compile(r"[A-Za-z]{1,3}(?= ?(?:\n|$)| \d{4,6}(?!\w))")
_PARTS = 8


class Tail(NamedTuple):
    end: int
    firm: bool
    """Whether it holds a unit, a state, a postcode or a country."""
    united: bool
    coded: bool
    """Whether it ends with a postcode or a country."""


def read_tail(text: str, end: int, *, small: bool) -> Tail:
    """Where the address ends that goes on with units, a town, a state, a postcode, a country.

    `small`: the whole text is written without capitals, so that none can be asked for.
    """
    units = _UNITS.match(text, end)
    firm = units.end() if units else end
    soft = at = firm
    lines = towns = 0
    sure = units is not None and not _WEAK.fullmatch(units[0])
    coded = False  # a postcode came: only a country may follow
    for _ in range(_PARTS):
        separator = _SEPARATOR.match(text, at)
        if separator is None:
            break
        part = (_NATION if coded else _FIRM).match(text, separator.end())
        if part is None and coded and not towns and "\n" not in separator[0]:
            town = _CAPITAL_TOWN.match(text, separator.end())  # 8001 Zürich
            if town is not None:
                firm = soft = town.end()
            break
        if part is not None:
            firm = soft = at = part.end()
            sure = sure or not _WEAK.fullmatch(part[0])
            coded = coded or part.lastgroup not in {"unit", "state"}
            lines = 0
            continue
        if coded:
            break
        part = _REGION.match(text, separator.end()) if "," in separator[0] else None
        if part is not None:
            at = part.end()
            continue
        part = _TOWN.match(text, separator.end())
        if part is None:
            break
        last = _town_end(part, small=small)
        towns += 1
        lines += "\n" in separator[0]
        if last is None or lines > 2 or towns > 3:
            break
        at = last
        if not lines and not small:
            soft = last
    return Tail(max(firm, soft), firm=sure, united=units is not None, coded=coded)


def _town_end(part: re.Match[str], *, small: bool) -> int | None:
    """Where a town's name ends: its words start in capitals, but for the small ones."""
    end = None
    for word in re.finditer(r"[^\s]+", part["words"]):
        kind = word[0].rstrip(".,").lower()
        if kind in g.FUNCTION_WORDS and kind not in g.SMALL_WORDS:
            break
        if not (small or word[0][0].upper() == word[0][0] or kind in g.SMALL_WORDS):
            break
        if kind not in g.SMALL_WORDS or word[0][0].isupper():
            end = part.start("words") + word.end()
    whole = end is not None and end == part.end("words")
    return part.end() if whole else end

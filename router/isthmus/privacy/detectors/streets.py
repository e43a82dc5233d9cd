"""Reads the words around a number: whether they are a street, and where its address ends."""

from __future__ import annotations

import re
from typing import NamedTuple

from isthmus.privacy.detectors import gazetteer as g
from isthmus.privacy.detectors.address_tail import UNIT, Tail, read_tail
from isthmus.privacy.detectors.numbers import IN_CONTEXT, LIKELY

_NEXT = re.compile(
    r" (?P<word>[^\W\d_][^\W_]{0,30}(?:['’./-][^\W_]{1,20}){0,3}\.?|\d{1,5}(?:st|nd|rd|th)?(?!\w))"
)
_YEARS = re.compile(r"(?:19|20)\d\d(?:-(?:(?:19|20)?\d\d)?)?")
_COMMA = re.compile(r", [^\W\d_]")
_LAST = re.compile(r"(?:[^\W\d_][^\W_]{0,30}(?:['’.-][^\W_]{1,20}){0,3}\.?|[Cc]/)(?P<end>,?)")
_STREET_WORDS = 6
_BACK_CHARS = 40

_UNIT_BEFORE = re.compile(rf"(?<!\w)(?:{UNIT}),? $", re.IGNORECASE)
_LEAD = re.compile(r"[^\W\d_]+['’]?[^\W\d_]*")


class _Word(NamedTuple):
    text: str
    start: int
    end: int

    @property
    def bare(self) -> str:
        return self.text.rstrip(".").lower()


class Found(NamedTuple):
    """An address in a text, and how sure it is."""

    start: int
    end: int
    score: float


class StreetReader:
    """Reads the words around one number."""

    def __init__(
        self, text: str, start: int, end: int, tails: dict[int, Tail], *, small: bool
    ) -> None:
        """Of the number's place. `tails`: those of `text` that were read, by where they begin."""
        self.text, self.start, self.end, self.small = text, start, end, small
        self._tails = tails

    def numbered(self) -> Found | None:
        """Number first: "10 Downing Street", "63 Avenue du Golf", "213 Pilekrogen 53 Apt. 2"."""
        words = self._after(self.end)
        if not words or not (
            self._is_name(words[0]) or words[0].text[0].isdigit() or self._is_prefix(words[0])
        ):
            return None
        end, sure = self._street(words)
        tail = self._tail(end or words[-1].end)
        year = _YEARS.fullmatch(self.text, self.start, self.end) is not None
        if end is not None and (tail.firm or (sure and not year)):
            return Found(self._with_unit(), tail.end, LIKELY)
        if end is None and (not self._numbers_first(words) or _COMMA.match(self.text, self.end)):
            return None
        # No street's word: what follows has to be a unit or a postcode, or a word before says so.
        if (tail.firm and not year) or self._said():
            return Found(self.start, tail.end, IN_CONTEXT)
        return None

    def _with_unit(self) -> int:
        """The start, with the unit that stands before the house: "Flat 3, 14 High Street"."""
        low = max(0, self.start - 24)
        unit = _UNIT_BEFORE.search(self.text[low : self.start])
        return self.start if unit is None else low + unit.start()

    def _street(self, words: list[_Word]) -> tuple[int | None, bool]:
        """Where the street's name ends, and whether its word is one that means nothing else."""
        named = next((word for word in words[:2] if not word.text[0].isdigit()), words[0])
        if self._is_prefix(named) and len(words) > 1 and named is not words[-1]:
            return words[-1].end, named.bare not in g.WORDS_TOO
        for at in range(len(words) - 1, 0, -1):
            kind = words[at].bare
            if kind in g.STREETS and not (kind in {"st", "dr"} and self._goes_on(words[at])):
                sure = kind in g.SURE_STREETS or (
                    words[at].text[0].isupper() and kind not in g.WEAK_STREETS
                )
                return words[at].end, sure and (
                    words[at].text[0].isupper() or kind not in {"st", "dr", "drive"}
                )
        if any(
            word.bare in g.AFTER_NAMES or (len(word.text) > 5 and g.SUFFIX.search(word.bare))
            for word in words
        ):
            return words[-1].end, words[-1].text[0].isdigit()
        return None, False

    def _goes_on(self, word: _Word) -> bool:
        """Whether a name follows: "St. John", "Dr. Martin"."""
        follows = _NEXT.match(self.text, word.end)
        return follows is not None and word.text.endswith(".") and follows["word"][0].isupper()

    def _numbers_first(self, words: list[_Word]) -> bool:
        named = any(len(word.text) > 2 and not word.text.isupper() for word in words)
        return named and all(self._is_name(word) or word.text[0].isdigit() for word in words)

    def _is_prefix(self, word: _Word) -> bool:
        small = word.text.islower() and not self.small
        return word.bare in g.PREFIXES and not (small and word.bare in g.WORDS_TOO)

    def named(self) -> Found | None:
        """Number last: "Rua do Arenque 1634", "Vesterskovvej 79", "P.O. Box 12"."""
        words = self._before(self.start)
        if not words:
            return None
        if words[-1].bare in g.UNIT_WORDS:  # "Flat 3, Johnson House, Leeds LS1 4AP"
            tail = self._tail(self.end)
            return Found(words[-1].start, tail.end, IN_CONTEXT) if tail.firm else None
        kinds = [word.bare for word in words]
        start = None
        comma = self.text[words[-1].end : words[-1].end + 1] == ","
        for at, kind in enumerate(kinds):
            if self._is_prefix(words[at]) and (at + 1 < len(words) or kind in {"c/", "box"}):
                start = words[at].start
                break
        if kinds[-1] == "box":
            boxed = re.search(
                r"(?:p\.? ?o\.? ?|post ?|gpo )box $", self.text[: self.start][-12:], re.IGNORECASE
            )
            if boxed is None:
                return None
            start = self.start - len(boxed[0])
        if (
            start is None
            and not comma
            and (g.SUFFIX.search(kinds[-1]) or kinds[-1] in g.AFTER_NAMES)
        ):
            start = words[0].start
        tail = self._tail(self.end)
        if start is not None:
            return Found(start, tail.end, LIKELY)
        if not comma and self._is_name(words[-1]) and kinds[-1] not in g.NO_STREETS:
            if words[-1].text.isupper() and not (tail.firm or self.small):
                return None
            names = [w for w in words if self._is_name(w) and w.bare not in g.LEADS]
            if not names:
                return None
            first = names[0]
            self.start = first.start
            if self._said() or (tail.united and len(words) < _STREET_WORDS):
                return Found(first.start, tail.end, IN_CONTEXT)
        return None

    def _after(self, end: int) -> list[_Word]:
        """The name's words that follow on the line."""
        words: list[_Word] = []
        if _COMMA.match(self.text, end):  # "21, rue de Lyon"
            end += 1
        while len(words) < _STREET_WORDS and (found := _NEXT.match(self.text, end)):
            word = _Word(found["word"], found.start("word"), found.end())
            digit = word.text[0].isdigit()
            kind = word.bare
            if digit and words and not words[-1].text[0].isdigit() and not word.text[-1].isalpha():
                words.append(word)  # the number that ends a European name
                break
            if not digit and kind in g.UNIT_WORDS and words:
                break
            street = kind in g.STREETS or kind in g.PREFIXES or kind in g.AFTER_NAMES
            if not (digit or self._is_name(word) or kind in g.SMALL_WORDS or street):
                break
            if kind in g.FUNCTION_WORDS and kind not in g.SMALL_WORDS and word.text.islower():
                break
            words.append(word)
            end = found.end()
        while words and words[-1].bare in g.SMALL_WORDS:
            words.pop()
        return words

    def _before(self, start: int) -> list[_Word]:
        """The name's words that stand before on the line."""
        words: list[_Word] = []
        while len(words) < _STREET_WORDS:
            if self.text[start - 1 : start] != " ":
                break
            low = max(0, start - _BACK_CHARS)
            # The word's start: after a space, a line's end, or what is no part of a word.
            first = 1 + max(self.text.rfind(char, low, start - 1) for char in " \n:(\"'")
            found = _LAST.fullmatch(self.text, max(low, first), start - 1)
            if found is None or (found["end"] and words):
                break
            end = start - 1 - len(found["end"])
            word = _Word(self.text[found.start() : end], found.start(), end)
            kind = word.bare
            known = (
                kind in g.PREFIXES
                or kind in g.SMALL_WORDS
                or kind in g.AFTER_NAMES
                or kind == "box"
            )
            if not (known or self._is_name(word)) or (
                kind in g.FUNCTION_WORDS and kind not in g.SMALL_WORDS
            ):
                break
            words.append(word)
            start = word.start
        words.reverse()
        while words and words[0].bare in g.SMALL_WORDS:
            words.pop(0)
        return words

    def _is_name(self, word: _Word) -> bool:
        if self.small:
            return word.text[0].isalpha() and word.bare not in g.FUNCTION_WORDS
        return word.text[0].isupper() or (
            word.text[0].isalpha() and word.text[0].upper() == word.text[0]
        )

    def _said(self) -> bool:
        """Whether the words before say that an address comes: "he lives at", "address:"."""
        before = self.text[max(0, self.start - 56) : self.start].rstrip(" \n\"'")
        words = [word.lower() for word in _LEAD.findall(before)][-7:]
        if before.endswith((":", "=")):
            return any(word in g.LEADS or word.endswith("地址") for word in words[-4:])
        if before.endswith("?"):
            return words[-1:] in (["following"], ["address"], ["live"])
        linked = bool(words) and words[-1] in g.LINKS and before[-1].isalpha()
        return linked and any(word in g.LEADS for word in words)

    def _tail(self, end: int) -> Tail:
        tail = self._tails.get(end)
        if tail is None:  # one number's street ends where the next number does
            tail = self._tails[end] = read_tail(self.text, end, small=self.small)
        return tail

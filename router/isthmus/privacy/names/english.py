"""People, places and organisations in English text: spaCy's small model, judged once more.

The model was made on news, so that in letters, chat and comments it takes many a first name for a
company or a place, and misses those in small letters. What it marks as any name is therefore
weighed again: by the tables of given names and surnames, by whether English has the word at all,
and by the words beside it. A weight of 1 is about even odds.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from isthmus.privacy.base import Label, Span
from isthmus.privacy.names.english_words import (
    ADDRESS_LIKE,
    CALENDAR,
    CONTRACTED,
    FIRM,
    INTRODUCED,
    NO_INTRODUCTION,
    NO_NAME,
    NUMBER_AFTER,
    NUMBER_BEFORE,
    OTHER_BEFORE,
    PERSON_AFTER,
    PERSON_BEFORE,
    STREET,
)
from isthmus.privacy.names.lexicon import MODEL_PACKAGE, Lexicon, lexicon
from isthmus.privacy.names.spoken import coupled, spoken

BY_MODEL, BY_CONTEXT, PLACE = 0.85, 0.8, 0.6
"""Scores: the model's people; a phrase's; places and organisations."""

LEAST_WEIGHT = 1.0
"""Who weighs as much is a person, though the model does not say so."""

PIECE_CHARS = 4_096
"""How much the model reads at once: its memory grows with it."""

_LATIN = "[A-Za-z\u00aa\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff]"
WORD = re.compile(rf"{_LATIN}+(?:['’.-]{_LATIN}+)*\.?(?<!\.\.)")
IDENTIFIER = re.compile(r"^(?!Mc|Mac|De|Di|Du|La|Le|Van|Fitz).*[a-z][A-Z]")
"""Names of code ("UserService") have a capital inside, and few people's do ("McDonald")."""
SIGN = re.compile(r"[\\{}()\[\]=<>_\d@/|]")
"""What code and formulas have and names have not."""
OVER = re.compile(r"\s*[<(\[{|]|,(?=\d)")
"""Where a name ends that the model read beyond it."""
NO_HAN = re.compile(r"[^\u3400-\u9fff]+")
LATIN = re.compile(_LATIN + "{3}")
PLACES = frozenset({"GPE", "LOC", "FAC"})
NO_NAMES = frozenset({"DATE", "TIME", "PERCENT", "MONEY", "QUANTITY", "ORDINAL", "CARDINAL"})


class _Token(NamedTuple):
    start: int
    end: int
    text: str
    bare: str
    """Without a possessive or a full stop."""


class EnglishNames:
    """Names by the model, the tables and phrases such as "my name is"."""

    name = "english_names"
    labels: frozenset[str] = frozenset({Label.PERSON, Label.LOCATION, Label.ORG})

    def detect(self, text: str) -> Iterator[Span]:
        """People, places and organisations; nothing in text without Latin words."""
        pieces = list(_pieces(text))
        # Side by side: Chinese text has many short ones.
        read = _model().pipe(piece for _, piece in pieces) if pieces else ()
        for (start, piece), document in zip(pieces, read, strict=True):
            for span in _names(piece, lexicon(), document.ents):
                yield Span(start + span.start, start + span.end, span.label, span.score)


def _names(text: str, known: Lexicon, entities: Any) -> Iterator[Span]:
    """The names in one piece of text, in which the model marked `entities`."""
    found = [*introduced(text), *_Reading(text, known).names(entities)]
    told = list(spoken(text, known))
    people = [(span.start, span.end) for span in found if span.label == Label.PERSON]
    for start, end in (*people, *told):
        told += coupled(text, start, end, known)
    for start, end in told:
        yield Span(start, end, Label.PERSON, BY_CONTEXT)
    for span in found:  # a part of who is told of is that one
        if not any(start <= span.start and span.end <= end for start, end in told):
            yield span


def introduced(text: str) -> Iterator[Span]:
    """Names that a title, a greeting, a signature or a form announces."""
    for found in INTRODUCED.finditer(text):
        group = found.lastindex or 0
        first = found[group].split()[0].rstrip(".")
        value = first.isupper() and first.lower() in NO_NAME  # "Patient MRN: 40517533"
        if first.lower() not in NO_INTRODUCTION and not value:
            yield Span(*found.span(group), Label.PERSON, BY_CONTEXT)


class _Reading:
    """One piece of text while its names are weighed."""

    def __init__(self, text: str, known: Lexicon) -> None:
        self._text = text
        self._known = known
        self._tokens = [
            _Token(*found.span(), found[0], re.sub(r"(?:['’]s|\.)$", "", found[0]))
            for found in WORD.finditer(text)
        ]
        self._starts = [token.start for token in self._tokens]
        self._taken = bytearray(len(text))
        """Characters of addresses, links, imports and what has been judged."""
        for found in ADDRESS_LIKE.finditer(text):
            self._taken[found.start() : found.end()] = b"\1" * len(found[0])

    def names(self, entities: Any) -> Iterator[Span]:
        """The names among the model's `entities`, and those that it did not mark."""
        for entity in entities:
            if entity.label_ not in NO_NAMES:
                yield from self._marked(entity.start_char, entity.end_char, entity.label_)
        at = 0
        while at < len(self._tokens):
            run = self._run(at)
            at += len(run)
            yield from self._unmarked(at - len(run), run)

    def _marked(self, start: int, end: int, kind: str) -> Iterator[Span]:
        if over := OVER.search(self._text, start + 3, end):  # "Ann Lee (ann@…", "Ann Lee</name>"
            end = over.start()
        at = bisect_left(self._starts, start)
        run = [
            token
            for token in self._tokens[at : bisect_left(self._starts, end)]
            if token.start + len(token.bare) <= end + 1  # "Callahan's" begins with the name
        ]
        for number in range(1, len(run)):
            if "\n" in self._text[run[number - 1].end : run[number].start]:
                del run[number:]
                break
        while run and CONTRACTED.fullmatch(run[0].text):
            at, run = at + 1, run[1:]
        if kind == "PERSON" and len(run) > 1 and self._only_precedes(at, run):
            at, run = at + 1, run[1:]
        if not run:
            return
        at, run = self._whole(at, run)
        start, end = run[0].start, run[-1].start + len(run[-1].bare)
        if self._names_values(run):
            self._taken[start:end] = b"\1" * (end - start)
            return
        linked = 1 in self._taken[start:end]
        in_address = linked or (self._number_beside(start, end) and not self._listed(run))
        self._taken[start:end] = b"\1" * (end - start)
        if kind == "PERSON":
            if not in_address and self._is_name(run):
                yield Span(start, end, Label.PERSON, BY_MODEL)
        elif not in_address and self._may_be_person(run):
            weight = self._name_weight(run, kind) + self._context_weight(at, run)
            if weight >= LEAST_WEIGHT:
                yield Span(start, end, Label.PERSON, _score(weight))
                return
        if linked or self._is_code(start, end):
            return
        if kind in PLACES and not IDENTIFIER.search(run[0].text):  # no place is a "FedEx"
            yield Span(start, end, Label.LOCATION, PLACE)
        elif kind in {"ORG", *PLACES} and self._may_be_organisation(run):
            yield Span(start, end, Label.ORG, PLACE)

    def _unmarked(self, at: int, run: list[_Token]) -> Iterator[Span]:
        first, word = run[0], run[0].bare
        start, end = first.start, run[-1].start + len(run[-1].bare)
        if self._taken[start] or len(word) < 3 or word.lower() in CALENDAR:
            return
        if (
            IDENTIFIER.search(word)
            or self._number_beside(start, end)
            or {t.bare.lower() for t in run} & (FIRM | STREET)
            or self._names_values(run)
        ):
            return
        share = self._known.given(word)
        if word[0].isupper() and (word[1:].islower() or share):
            weight = self._name_weight(run, "") + self._context_weight(at, run)
            weight -= 0.0 if share else 0.5
            if self._known.word(word) and (at == 0 or self._begins_sentence(start)):
                weight -= 1.25
            if weight >= LEAST_WEIGHT:
                yield Span(start, end, Label.PERSON, _score(weight))
        elif share and (surname := self._surname_after(at)):
            yield Span(start, surname.start + len(surname.bare), Label.PERSON, _score(1.0))
        elif share > 0.004 and len(word) >= 4 and not self._known.word(word):
            yield Span(start, start + len(word), Label.PERSON, _score(1.0))

    def _whole(self, at: int, run: list[_Token]) -> tuple[int, list[_Token]]:
        """The run with the given name before it or the surname behind it that the model left."""
        known = self._known
        if len(run) > 1 or known.word(run[0].bare) or not run[0].text.istitle():
            return at, run
        if at and (before := self._tokens[at - 1]).text.istitle():
            beside = self._text[before.end : run[0].start] == " "
            new = not known.word(before.text) and len(before.text) > 2
            if beside and known.surname(run[0].bare) and (known.given(before.text) or new):
                return at - 1, [before, *run]
        if at + 1 < len(self._tokens) and known.given(run[0].bare):
            behind = self._tokens[at + 1]
            beside = self._text[run[0].end : behind.start] == " "
            name = known.surname(behind.bare) or not known.word(behind.bare)
            if beside and behind.bare.istitle() and name:
                return at, [*run, behind]
        return at, run

    def _listed(self, run: list[_Token]) -> bool:
        """Whether it is a whole name behind a comma: "…9580, Theresa Callahan" is no address."""
        comma = self._text[: run[0].start].endswith(", ")
        names = self._known.given(run[0].bare) and self._known.surname(run[-1].bare)
        return bool(comma and len(run) > 1 and names)

    def _names_values(self, run: list[_Token]) -> bool:
        """Whether each word names a value ("SSN", "Hotline", "X-Auth-Token"), or is a pronoun's."""
        return all(
            CONTRACTED.fullmatch(token.text)
            or (token.bare.lower() in NO_NAME and not self._known.given(token.bare))
            or (token.bare.count("-") > 1 and any(map(self._known.word, token.bare.split("-"))))
            for token in run
        )

    def _surname_after(self, at: int) -> _Token | None:
        """The surname behind the given name at `at`, in small letters; not where both are words."""
        if at + 1 == len(self._tokens):
            return None
        first, last = self._tokens[at : at + 2]
        if self._text[first.end : last.start] != " " or self._taken[last.start]:
            return None
        common = self._known.word(first.bare) and self._known.word(last.bare)
        known = len(last.bare) > 2 and self._known.surname(last.bare) > 0.001
        return last if known and not common else None

    def _run(self, at: int) -> list[_Token]:
        """The token at `at`, and capitalised ones behind it that are no words, or surnames too."""
        run = [self._tokens[at]]
        known, first = self._known, run[0].bare
        given = known.given(first)
        if first[0].isupper() and (given or not known.word(first)):
            for token in self._tokens[at + 1 : at + 4]:
                beside = self._text[run[-1].end : token.start] == " "
                name = not known.word(token.bare) or (given and known.surname(token.bare))
                if not (beside and token.text[0].isupper() and name) or self._taken[token.start]:
                    break
                run.append(token)
        return run

    def _only_precedes(self, at: int, run: list[_Token]) -> bool:
        """Whether a word has its capital from its place before a name ("Call Jane")."""
        known, first = self._known, run[0]
        common = known.word(first.bare) and not known.given(first.bare)
        begins = at == 0 or self._begins_sentence(first.start)
        rare = known.surname(first.bare) < 0.01
        return begins and common and rare and known.given(run[1].bare) >= 0.02

    def _is_name(self, run: list[_Token]) -> bool:
        """Whether what the model took for a person can be one."""
        lower = [token.bare.lower() for token in run]
        if (STREET | FIRM) & set(lower) or len(run) > 5:
            return False
        if self._is_code(run[0].start, run[-1].end):
            return False
        if not any(token.text[0].isupper() for token in run):
            known = self._known
            return any(
                known.given(w) >= 0.02 or (known.surname(w) > 0.01 and not known.word(w))
                for w in lower
            )
        return any(
            self._known.given(word)
            or (
                token.text[0].isupper()
                and not self._known.word(word)
                and not self._is_abbreviation(token)
            )
            for token, word in zip(run, lower, strict=True)
        )

    def _is_abbreviation(self, token: _Token) -> bool:
        """Whether it is in capitals and no surname: "Model XPS" is nobody."""
        return token.bare.isupper() and len(token.bare) < 5 and not self._known.surname(token.bare)

    def _is_code(self, start: int, end: int) -> bool:
        """Whether `text[start:end]` has signs that names have not, or is called or indexed."""
        if self._text[start - 1 : start] == ">" and self._text[end : end + 1] == "<":
            return False  # what an element holds
        beside = self._text[end : end + 1] in {*"({[_=<"} or self._text[start - 1 : start] in {
            *"_<$"
        }
        return beside or SIGN.search(self._text, start, end) is not None

    def _may_be_organisation(self, run: list[_Token]) -> bool:
        """Not small letters alone, nor an abbreviation that is a word (ATM, ASAP)."""
        if FIRM & {token.bare.lower() for token in run}:
            return True
        if len(run) == 1 and run[0].bare.isupper() and self._known.word(run[0].bare):
            return False
        return any(token.text[0].isupper() for token in run)

    def _may_be_person(self, run: list[_Token]) -> bool:
        """Whether what the model took for something else has the form of a person's name."""
        if len(run) > 3 or not run[0].text[0].isupper() or IDENTIFIER.search(run[0].text):
            return False
        if (STREET | FIRM | CALENDAR) & {token.bare.lower() for token in run}:
            return False
        return all(
            token.text.endswith(".")
            or (len(token.bare) > 2 and (not token.bare.isupper() or self._known.given(token.bare)))
            for token in run
        )

    def _name_weight(self, run: list[_Token], kind: str) -> float:
        """How much the words themselves speak for a name; `kind` is the model's label."""
        known, words = self._known, [token.bare for token in run]
        common = known.word(words[0])
        total = 0.0
        if share := known.given(words[0]):
            total += 2.0 if share >= 0.02 or not common else 0.75
        elif not common:
            total += 1.0
        if len(words) > 1:
            total += 1.0 * (known.surname(words[-1]) > 0.001)
            total += 0.5 * (not any(map(known.word, words)))
            # A name's later parts are names too.
            total -= 1.0 * any(known.word(w) and not known.surname(w) for w in words[1:])
        if kind in PLACES:
            total -= 1.5 if common else 0.5
        return total - 0.5 * (kind == "NORP")

    def _context_weight(self, at: int, run: list[_Token]) -> float:
        """How much the words beside speak for a person."""
        tokens, text = self._tokens, self._text
        before = tokens[at - 1].bare.lower() if at else ""
        after = tokens[at + len(run)] if at + len(run) < len(tokens) else None
        end = run[-1].start + len(run[-1].bare)
        rest = text[end : end + 4].lstrip()
        total = 0.0
        if (
            (
                rest[:1] in {"'", "’"} and rest[1:].lstrip()[:1] == "s"  # "Ann's"
            )
            or (after and text[end : after.start] == " " and after.text.lower() in PERSON_AFTER)
        ):
            total += 0.75
        elif rest[:1] == "," or text[max(0, run[0].start - 3) : run[0].start].rstrip()[-1:] == ",":
            total += 0.5  # spoken to, or listed
        total += 0.5 * (before in PERSON_BEFORE)
        return total - 1.0 * (before in OTHER_BEFORE)

    def _number_beside(self, start: int, end: int) -> bool:
        return (
            NUMBER_AFTER.match(self._text, end) is not None
            or NUMBER_BEFORE.search(self._text[max(0, start - 8) : start]) is not None
        )

    def _begins_sentence(self, start: int) -> bool:
        return re.search(r"[.!?:\n\"]\s*$", self._text[max(0, start - 4) : start]) is not None


def _score(weight: float) -> float:
    """0.5 for what is barely a name, up to 0.8."""
    return round(min(0.5 + 0.15 * (weight - LEAST_WEIGHT), 0.8), 3)


@lru_cache(maxsize=1)
def _model() -> Any:
    import importlib

    package = importlib.import_module(MODEL_PACKAGE)
    # The reader of names has its own vectors: it needs neither parts of speech nor sentences.
    return package.load(
        exclude=["tok2vec", "tagger", "parser", "senter", "attribute_ruler", "lemmatizer"]
    )


def _pieces(text: str) -> Iterator[tuple[int, str]]:
    """What is in Latin letters, in pieces of at most `PIECE_CHARS`, cut where a line ends."""
    for part in NO_HAN.finditer(text):
        start, end = part.span()
        while end - start > PIECE_CHARS:
            window = text[start : start + PIECE_CHARS]
            cut = max(window.rfind("\n"), window.rfind(". ")) + 1 or window.rfind(" ") + 1
            yield start, window[: cut or PIECE_CHARS]
            start += cut or PIECE_CHARS
        if LATIN.search(text, start, end):
            yield start, text[start:end]

"""A value whose naming word stands in another message: "your card number?", then digits alone.

The words beside a value carry what its form does not prove, and people give them a turn of their
own. So the end of one message is read as the name of what the next begins with, and what a bare
value is called afterwards as its name too. Identity, money and secrets alone count: of the others
a form proves itself, or a placeholder would not hide much.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from isthmus.privacy.base import Label, Span
from isthmus.privacy.detectors import STRUCTURED
from isthmus.privacy.detectors.context import Context
from isthmus.privacy.normalise import normalise
from isthmus.privacy.scanner import Scanner

_LABELS = frozenset[str](
    {Label.SECRET, Label.BANK_CARD, Label.IBAN, Label.ACCOUNT, Label.IMEI, Label.PLATE}
    | {Label.ID_CN, Label.US_SSN, Label.NATIONAL_ID, Label.PASSPORT, Label.DRIVER_LICENSE}
)
_LEAST_SCORE = 0.5
_NAME_CHARS, _VALUE_CHARS, _VALUE_WORDS = 64, 48, 4
_SECRET_NAMED = re.compile(
    r"pass ?(?:word|code|phrase)|passwd|\bpwd\b|\bpin\b|secret|token|\bkey\b|credential|otp"
    r"|(?:verification|security|access|door) code|密码|口令|密钥|令牌|私钥|验证码|暗号",
    re.IGNORECASE,
)
_SENTENCES = re.compile(r"[.!?。！？]+(?:\s+|(?<=[。！？])(?=.))|\n+")
# "…是多少呢？", "…, please?": what a question ends with behind the name.
_ASKING = re.compile(
    r"(?:[ ,]*(?:please|pls|then|again|now)|[,， ]*(?:请|吧|呢|吗|啊|呀)"
    r"|(?:是|为|叫)?(?:多少|什么|啥|几号?)|(?:发|告诉|给|报)(?:给|一下)?(?:我|下)?(?:一下)?"
    r"|[ ?!.:？！。：,，…])+$",
    re.IGNORECASE,
)
_GIVING = re.compile(
    r"(?:(?:it'?s|it is|that'?s|is|sure|yes|ok(?:ay)?|well|here(?: it is| you (?:go|are))?"
    r"|好的?|是的?|嗯|行|喏|给你)[ ,.:!，。：！]{1,3}){1,3}",
    re.IGNORECASE,
)

_scanner = Scanner(STRUCTURED)


def named_elsewhere(earlier: str, later: str) -> Iterator[str]:
    """The labels of values in one of two messages that the other one names."""
    yield from _named(_last_sentence(earlier), later)
    if len(earlier) <= _VALUE_CHARS:  # "hunter2", then "that's the password"
        yield from _named(_SENTENCES.split(later[:_NAME_CHARS], maxsplit=1)[0], earlier)


def _last_sentence(text: str) -> str:
    pieces = [piece for piece in _SENTENCES.split(text[-4 * _NAME_CHARS :]) if piece.strip()]
    return pieces[-1][-_NAME_CHARS:] if pieces else ""


def _named(name: str, answer: str) -> Iterator[str]:
    """The labels of what `answer` begins with when `name` says what it is."""
    asked = _ASKING.sub("", normalise(name).text)
    given = answer.lstrip()
    lead = _GIVING.match(given)
    given = given[lead.end() if lead else 0 :][:_VALUE_CHARS].split("\n", 1)[0]
    if not given or not _names(asked) or not _is_bare(given):
        return
    alone = {span.label for span in _scanner.find(given)}
    found: set[str] = set()
    for link in (": ", " is "):
        text = f"{asked}{link}{given}"
        begin = len(text) - len(given)
        found |= {span.label for span in _scanner.find(text) if _counts(span, begin)}
    yield from sorted(found - alone)


def _counts(span: Span, begin: int) -> bool:
    return span.start >= begin and span.label in _LABELS and span.score >= _LEAST_SCORE


def _names(asked: str) -> bool:
    """Whether there is a word that names a value: most messages end with none."""
    clue = Context(asked).before(len(asked))
    return (clue is not None and clue.label in _LABELS) or bool(_SECRET_NAMED.search(asked))


def _is_bare(given: str) -> bool:
    """Whether a value stands there and hardly anything besides."""
    return len(given.split()) <= _VALUE_WORDS or any(map(str.isdigit, given[:24]))

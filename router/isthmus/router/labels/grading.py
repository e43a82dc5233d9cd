"""Whether an answer is right: exact graders for what has a gold answer, checks for what has rules.

`choice` finds the option that an answer commits to, `number` its final number, `contains` looks for
the gold answer's words in it (normalised as SQuAD's evaluation does, arXiv 1606.05250: case,
punctuation and articles do not count). A `rubric` is a set of rules that must all hold. What an
answer says and then takes back is graded by what it says last.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import Any

from isthmus.core.errors import InvalidRequest


class Grader(StrEnum):
    """How an answer is graded."""

    CHOICE = "choice"
    NUMBER = "number"
    CONTAINS = "contains"
    RUBRIC = "rubric"
    JUDGE = "judge"
    """By a model, which `isthmus.router.labels.judge` asks."""


@dataclass(frozen=True, slots=True)
class Gold:
    """What an answer is held against. `answers` are alternatives: any of them will do."""

    grader: Grader
    answers: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    """The options' letters, for `choice`."""
    rubric: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.grader in {Grader.CHOICE, Grader.NUMBER, Grader.CONTAINS} and not self.answers:
            raise InvalidRequest("has no gold answer", field="answer")
        if self.grader is Grader.CHOICE and not set(self.answers) <= set(self.labels):
            raise InvalidRequest("must be one of the labels", field="answer")
        if self.grader is Grader.NUMBER and None in map(final_number, self.answers):
            raise InvalidRequest("is no number", field="answer")
        if self.grader is Grader.CONTAINS and not all(map(_words, self.answers)):
            raise InvalidRequest("has no word to look for", field="answer")
        if self.grader is Grader.RUBRIC:
            _check_rubric(self.rubric)

    def grade(self, answer: str) -> bool:
        """Whether `answer` is right. A `judge`'s question is not for here: `ValueError`."""
        match self.grader:
            case Grader.CHOICE:
                return chosen(answer, self.labels) in self.answers
            case Grader.NUMBER:
                number = final_number(answer)
                return number is not None and any(
                    _same(number, final_number(gold)) for gold in self.answers
                )
            case Grader.CONTAINS:
                return any(contains(answer, gold) for gold in self.answers)
            case Grader.RUBRIC:
                return all(_RULES[name](answer, value) for name, value in self.rubric.items())
            case Grader.JUDGE:
                raise ValueError("a judge is a model: ask it")


# --- choice ---

_MARKS = r"[\s*_`\"'“”‘’(（\[【{<#]*"
_COMMITS = (
    r"(?:answer|choice|option|solution|答案|答|选项|正确的?是)"
    r"(?:\s+(?:would|should|must|could|to\s+the\s+question))*"
    r"(?:\s*(?:is|are|be|was|:|：|=|→|是|为|應該是|应该是|应为)\s*)+"
    r"(?:(?:option|choice|letter|选项)\s*)?"
)
_PICKS = r"(?:选择?|我选|\\boxed\s*)\s*(?:选项)?\s*[:：]?\s*"
_IS_RIGHT = r"\s*[)）\]】.]?\s*(?:is|was)\s+(?:the\s+)?(?:correct|right|best|true)\b|\s*(?:是)?正确"


def chosen(answer: str, labels: Sequence[str]) -> str | None:
    """The label that `answer` commits to; None when it commits to none, or to several alike.

    In this order: what it says the answer is (the last time that it does), an option that it calls
    right, a label that it begins with, the only label that stands alone in it. "A" as an article
    is no label.
    """
    text = unicodedata.normalize("NFKC", answer).strip()
    known = {label.casefold(): label for label in labels}
    if not text or not known:
        return None
    one = "(" + "|".join(re.escape(label) for label in labels) + ")"
    # "A or B" commits to neither.
    alone = one + rf"(?![\w'’])(?!\s*(?:or|and|/|&|或|和)\s*[(（]?(?:{one[1:-1]})\b)"
    for pattern, flags in (
        (_COMMITS + _MARKS + alone + _NO_ARTICLE, re.IGNORECASE),
        (_PICKS + _MARKS + alone, 0),
        (r"(?<![A-Za-z'’])" + one + "(?:" + _IS_RIGHT + ")", 0),
    ):
        found = re.findall(pattern, text, flags)
        if found:
            return known[found[-1].casefold()]
    bare = re.fullmatch(_MARKS + one + r"[\s*_`\"'“”’)）\]】}>.。:：,!]*", text, re.IGNORECASE)
    first = bare or re.match(_MARKS + one + _BEGINS, text)
    if first:
        return known[first[1].casefold()]
    named = set(re.findall(r"(?<![\w'’])" + one + r"(?![\w'’])" + _NO_ARTICLE, text))
    return known[named.pop().casefold()] if len(named) == 1 else None


_NO_ARTICLE = r"(?!\s+[a-z]+\b(?<!\bbecause)(?<!\bsince)(?<!\bis)(?<!\bas)(?<!\band)(?<!\bor))"
"""Not before a word, as in "A dog", but for those that go on about an option, as in "A because"."""
_BEGINS = (
    r"(?:\s*[)）\]】}>.。:：,，、*_`\"'“”]|\s*[-–—]|\s*\n|\s*$|"
    r"\s+(?:because|since|is|as)\b|\s*(?:因为|是))"
)


# --- number ---

_NUMBER = re.compile(
    r"(?P<sign>(?<![\w)\]}])[-+]\s?[$€£¥]?|[$€£¥]\s?[-+]?)?"
    r"(?:"
    r"(?P<whole>\d[\d,]*)\s+(?P<over>\d+)\s*/\s*(?P<under>\d+)(?![\d/])"
    r"|(?P<top>\d[\d,]*(?:\.\d+)?)\s*/\s*(?P<bottom>\d[\d,]*(?:\.\d+)?)(?![\d/])"
    r"|(?P<plain>\d[\d,]*(?:\.\d+)?|\.\d+)(?:(?:e|\s?[×x]\s?10\s?\^\s?)(?P<power>[-+]?\d{1,2})(?![\d.]))?"
    r")"
)
_FINAL = re.compile(r"####\s*([^\n]*\d[^\n]*)")
_BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_STATES = re.compile(
    r"(?:answer|答案)(?:\s*(?:is|are|was|:|：|=|是|为)\s*)+([^\n]*)", re.IGNORECASE
)


def final_number(answer: str) -> Fraction | None:
    r"""The number that `answer` ends up with; None when there is none.

    What stands after the last `####`, in the last `\boxed{}`, after the last "the answer is", else
    its last number. Currency, percent signs and thousands separators do not count; digits may be
    any script's; fractions, mixed numbers, and a decimal comma before one or two digits are read.
    """
    text = _plain_numbers(answer)
    for pattern in (_FINAL, _BOXED, _STATES):
        for part in reversed(pattern.findall(text)):
            # Of "3 + 4 = 7" what comes out.
            found = _NUMBER.search(part.rpartition("=")[2]) or _NUMBER.search(part)
            if found and (value := _value(found)) is not None:
                return value
    values = [value for found in _NUMBER.finditer(text) if (value := _value(found)) is not None]
    return values[-1] if values else None


def is_settled(text: str) -> bool:
    """Whether a final number stands in `text`, its line ended: what follows changes nothing."""
    return text.endswith("\n") and bool(_FINAL.search(text) or _BOXED.search(text))


def _plain_numbers(text: str) -> str:
    """`text` with ASCII digits, and numbers as one would type them."""
    # A vulgar fraction is a number of its own: 1½ is not 11/2.
    text = re.sub(r"(?<=\d)(?=[¼-¾⅐-⅞])", " ", text)
    # Spaces that do not break, and apostrophes, part thousands; a plain space parts numbers.
    text = re.sub(r"(?<=\d)[\u00a0\u202f\u2009’'](?=\d{3}(?!\d))", "", text)
    text = unicodedata.normalize("NFKC", text).replace("⁄", "/").replace("−", "-")
    text = "".join(str(unicodedata.digit(c)) if _is_foreign_digit(c) else c for c in text)
    text = text.replace("٬", ",").replace("٫", ".")
    text = re.sub(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r" \1/\2", text)
    text = text.replace("{,}", ",").replace("\\,", "").replace("\\!", "").replace("\\$", "$")
    # A comma before anything but three digits parts no thousands.
    return re.sub(r"(?<![\d,.])(\d+),(\d{1,2})(?![\d,.])", r"\1.\2", text)


def _is_foreign_digit(char: str) -> bool:
    return char.isdigit() and not char.isascii()


def _value(found: re.Match[str]) -> Fraction | None:
    part = {
        name: text.replace(",", "").rstrip(".")
        for name, text in found.groupdict().items()
        if text is not None and name != "sign"
    }
    try:
        if "whole" in part:
            value = int(part["whole"]) + Fraction(int(part["over"]), int(part["under"]))
        elif "top" in part:
            value = Fraction(part["top"]) / Fraction(part["bottom"])
        else:
            value = Fraction(f"{part['plain']}e{part.get('power') or 0}")
    except (ValueError, ZeroDivisionError):
        return None
    return -value if "-" in (found["sign"] or "") else value


def _same(a: Fraction, b: Fraction | None) -> bool:
    return b is not None and abs(a - b) <= Fraction(1, 10**6) * max(Fraction(1), abs(b))


# --- contains ---


def contains(answer: str, gold: str) -> bool:
    """Whether the words of `gold` stand in `answer` next to each other, in order."""
    haystack, needle = _words(answer), _words(gold)
    return f" {needle} " in f" {haystack} " if needle else False


_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_SCRIPTIO_CONTINUA = re.compile(r"([぀-ヿ㐀-䶿一-鿿豈-﫿가-힯])")


def _words(text: str) -> str:
    """The words of `text`, one space between them; each Chinese character is a word of its own."""
    text = unicodedata.normalize("NFKD", text.casefold())
    text = "".join(c for c in text if not unicodedata.combining(c))
    text = unicodedata.normalize("NFC", text).replace("'", "").replace("’", "")
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text)
    text = "".join(c if c.isalnum() or c in "+%$€£" else " " for c in text)
    text = _SCRIPTIO_CONTINUA.sub(r" \1 ", text)
    bare = " ".join(_ARTICLES.sub(" ", text).split())
    return bare or " ".join(text.split())


# --- rubric ---


def _is_json(answer: str, wanted: Any) -> bool:
    fenced = re.fullmatch(r"\s*```(?:json)?\s*\n(.*?)\n?```\s*", answer, re.DOTALL)
    try:
        json.loads(fenced[1] if fenced else answer)
    except (ValueError, RecursionError):
        return not wanted
    return bool(wanted)


_RULES: Mapping[str, Callable[[str, Any], bool]] = {
    "all_of": lambda answer, golds: all(contains(answer, gold) for gold in golds),
    "any_of": lambda answer, golds: any(contains(answer, gold) for gold in golds),
    "none_of": lambda answer, golds: not any(contains(answer, gold) for gold in golds),
    "matches": lambda answer, pattern: re.search(pattern, answer) is not None,
    "min_words": lambda answer, count: len(_words(answer).split()) >= count,
    "max_words": lambda answer, count: len(_words(answer).split()) <= count,
    "json": _is_json,
}
"""What a rubric may ask for, by name."""


def _check_rubric(rubric: Mapping[str, Any]) -> None:
    if not rubric:
        raise InvalidRequest("has no rule", field="rubric")
    for name, value in rubric.items():
        if name not in _RULES:
            raise InvalidRequest(f"has no rule but {', '.join(_RULES)}", field="rubric")
        if name.endswith("_of"):
            good = (
                isinstance(value, list)
                and bool(value)
                and all(isinstance(one, str) and _words(one) for one in value)
            )
        elif name.endswith("_words"):
            good = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        elif name == "matches":
            good = isinstance(value, str) and _compiles(value)
        else:
            good = isinstance(value, bool)
        if not good:
            raise InvalidRequest(f"has a value for {name} that it cannot use", field="rubric")


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True

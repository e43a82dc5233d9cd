"""What a device's finished answer to a question with options says of itself, as named numbers.

A right answer and its reasons agree: the option that is named is the one that the reasons lead to,
the last number is the option's, the sums add up, and the text comes to its end. None of it needs
another model or the answer's log-probabilities. Of a long answer its start and its end are read.
"""

from __future__ import annotations

import re
from collections import Counter
from math import log1p
from typing import Final

import numpy as np
from numpy.typing import NDArray

from isthmus.router.learned.question import Question

F32 = NDArray[np.float32]

HEAD_CHARS: Final = 1_000
TAIL_CHARS: Final = 2_000

_NAMED = re.compile(
    r"(?:answer|option|choice)(?: is| would be|:)?[ :]*\(?\b([A-P])\b\)?(?![a-z'])"
    r"|\\boxed\{\(?([A-P])\)?\}"
)
_CONCLUDES = re.compile(r"(?i)\b(?:the|correct|final|best) answer\b|\\boxed|答案")
_WORD = re.compile(r"[a-z]+|\d+(?:[.,]\d+)*", re.IGNORECASE)
_NUMBER = re.compile(r"-?\d+(?:,\d{3})*(?:\.\d+)?|-?\.\d+")
_POWER = re.compile(r"\\(?:times|cdot)\s*10\s*\^\s*\{?\s*(-?\d+)|[x×*]\s*10\s*\^\s*\{?\s*(-?\d+)")
_SENTENCE = re.compile(r"[.!?](?:\s|$)|\n|[。！？]")
_SUM = re.compile(
    r"(?<![\d.)*/^-])(?<![-+*/×÷^] )(\d+(?:\.\d+)?)\s*([-+*/×÷]|\\times|\\cdot|\\div)\s*"
    r"(\d+(?:\.\d+)?)\s*=\s*\$?(-?\d+(?:\.\d+)?)"
)
_STOP = frozenset(
    re.findall(
        r"\w+",
        "a an the of to in on at is are was were be by for with and or that which it its as from "
        "this these those has have had not than then there their they he she his her will would",
    )
)
"""Words that say nothing of a subject."""
_HEDGES: Final = {
    "hedge": r"\b(?:may|might|could|perhaps|possibly|likely|probably|seems?|appears?|suggests?)\b",
    "negation": r"\b(?:not|no|none|never|neither|without|cannot)\b",
    "however": r"\b(?:however|although|but|while|whereas|despite)\b",
    "therefore": r"\b(?:therefore|thus|hence|so|because|since)\b",
    "assumes": r"\b(?:assum\w+|suppos\w+|given that|let us|let's)\b",
    "near": r"\b(?:approximately|approx|about|roughly|closest|nearest|round\w*)\b|≈|\\approx",
    "gives_up": r"\b(?:insufficient|cannot be determined|not provided|not given|not listed|"
    r"does not match|do not match|none of the (?:options|above|given)|without (?:more|additional)|"
    r"need more|not enough|incorrect|mistake|error|re-?evaluate|apologi\w+|unclear)\b",
    "steps": r"\b(?:first|second|third|next|then|finally|step)\b",
    "means": r"\b(?:refers? to|is defined as|is a (?:type|form|kind|measure)|"
    r"is known as|is called)\b",
    "refers": r"we refer to wikipedia",
    "generally": r"\b(?:generally|typically|usually|often|most|common\w*|tend\w*)\b",
    "only": r"\b(?:only|always|all|must|every|any)\b",
    "solves": r"\b(?:calculat\w+|comput\w+|substitut\w+|solv\w+|formula|equation|using)\b",
}
_HEDGE = {name: re.compile(pattern, re.IGNORECASE) for name, pattern in _HEDGES.items()}

NAMES: Final = (
    "named", "outside", "at", "at_share", "is_last", "options", "chars", "read_all", "ends",
    "sentences", "words", "distinct", "repeated", "word_length", "digits", "numbers", "equals",
    "latex", "lines", "concludes", "concludes_at", "last_sentence",
    "sums", "sums_right", "sums_wrong",
    "chosen_number", "chosen_is_last_number", "chosen_number_told", "other_is_last_number",
    "others_told", "last_number_near", "number_gap",
    "chosen_in_text", "best_other_in_text", "lead_in_text", "rank_in_text",
    "chosen_in_end", "best_other_in_end", "lead_in_end",
    "chosen_own_in_text", "best_other_own", "lead_own", "rank_own",
    "chosen_verbatim", "others_verbatim", "lead_position",
    "chosen_chars", "chosen_longest", "chosen_in_stem", "lead_in_stem", "all_or_none",
    "copies_stem", "new_words", "stem_told", "mentions_letters",
    *_HEDGE,
)  # fmt: skip


def named_option(answer: str) -> str | None:
    """The letter that an answer names as its own, the last one it does; None: no option."""
    last = None
    for last in _NAMED.finditer(answer):  # noqa: B007
        pass
    return None if last is None else last[1] or last[2]


def vector(
    question: Question, answer: str, *, chars: int | None = None, letter: str | None = None
) -> F32:
    """The features, in the order of `NAMES`. [len(NAMES)]

    `chars` is the answer's length where only a part of it is at hand; `letter` is the option that
    was read from it, where somebody has.
    """
    length = len(answer) if chars is None else chars
    if len(answer) > HEAD_CHARS + TAIL_CHARS:
        answer = f"{answer[:HEAD_CHARS]} {answer[-TAIL_CHARS:]}"
    text = answer.strip()
    letter = letter or named_option(text)
    at = ord(letter) - ord("A") if letter else -1
    options = question.options
    concludes = [m.start() for m in _CONCLUDES.finditer(text)]
    body = text[: concludes[-1]] if concludes else text
    words = [w.lower() for w in _WORD.findall(text)]
    counts = Counter(words)
    grams = Counter(zip(words, words[1:], words[2:], words[3:], strict=False))
    n = max(1, len(words))
    sentences = [s for s in _SENTENCE.split(body) if s.strip()]
    chosen = at if 0 <= at < len(options) else None
    form = [
        float(letter is not None),
        float(at >= len(options) > 0),
        at,
        at / max(1, len(options) - 1),
        float(0 <= at == len(options) - 1),
        len(options),
        log1p(length),
        len(text) / max(1, length),
        float(text[-1:] in ".!?)。}`"),
        log1p(len(sentences)),
        log1p(len(words)),
        len(counts) / n,
        sum(c - 1 for c in grams.values()) / n,
        sum(map(len, words)) / n,
        sum(map(str.isdigit, text)) / max(1, len(text)),
        log1p(len(_NUMBER.findall(text))),
        log1p(text.count("=")),
        log1p(text.count("\\")),
        log1p(text.count("\n")),
        len(concludes),
        concludes[-1] / len(text) if concludes else 2.0,
        log1p(len(sentences[-1])) if sentences else 0.0,
        *_sums(text),
        *_numbers(options, chosen, body),
        *_overlaps(options, chosen, body, sentences, question.stem),
        *_stem(question.stem, body),
        sum(1 for _ in re.finditer(r"\(([A-P])\)", text)),
        *(log1p(len(pattern.findall(text))) for pattern in _HEDGE.values()),
    ]
    return np.array(form, np.float32)


def _sums(text: str) -> list[float]:
    right = wrong = 0
    for a, sign, b, told in _SUM.findall(text):
        x, y, z = float(a), float(b), float(told)
        if sign in "/÷\\div" and sign != "\\" and y == 0:
            continue
        value = {"+": x + y, "-": x - y}.get(sign)
        if value is None:
            value = x / y if sign in {"/", "÷", "\\div"} else x * y
        if abs(value - z) <= 0.01 * max(1.0, abs(value)):
            right += 1
        else:
            wrong += 1
    return [log1p(right + wrong), log1p(right), log1p(wrong)]


def _values(text: str) -> list[float]:
    values = []
    for match in _NUMBER.finditer(text):
        value = float(match[0].replace(",", ""))
        if power := _POWER.match(text, match.end() + (text[match.end() : match.end() + 1] == " ")):
            value *= 10.0 ** max(-40, min(40, int(power[1] or power[2])))
        values.append(value)
    return values


def _near(a: float, b: float, tolerance: float = 0.006) -> bool:
    return abs(a - b) <= tolerance * max(abs(a), abs(b))


def _numbers(options: tuple[str, ...], chosen: int | None, body: str) -> list[float]:
    of_options = [next(iter(_values(option)), None) for option in options]
    told = _values(body)
    if not told or all(value is None for value in of_options):
        return [float(chosen is not None and of_options[chosen] is not None), *[0.0] * 4, -1.0, 9.0]
    last = told[-1]
    mine = None if chosen is None else of_options[chosen]
    others = [v for i, v in enumerate(of_options) if v is not None and i != chosen]
    gap = 9.0 if mine is None else min(9.0, abs(last - mine) / max(abs(last), abs(mine), 1e-30))
    return [
        float(mine is not None),
        float(mine is not None and _near(last, mine)),
        float(mine is not None and any(_near(value, mine) for value in told)),
        float(any(_near(last, value) for value in others)),
        sum(any(_near(value, one) for one in told) for value in others) / max(1, len(others)),
        float(any(_near(last, v, 0.06) for v in of_options if v is not None)),
        gap,
    ]


def _overlaps(
    options: tuple[str, ...], chosen: int | None, body: str, sentences: list[str], stem: str
) -> list[float]:
    if not options or chosen is None:
        return [0.0] * 19
    sets = [_content(option) for option in options]
    spread = Counter(word for words in sets for word in words)
    own = [{w for w in words if spread[w] == 1} for words in sets]
    text, end, asked = _content(body), _content(" ".join(sentences[-2:])), _content(stem)
    in_text = [_share(words, text) for words in sets]
    in_end = [_share(words, end) for words in sets]
    own_in = [_share(words, text) for words in own]
    in_stem = [_share(words, asked) for words in sets]
    lower = body.lower()
    found = [lower.rfind(option.lower().strip(" .")) for option in options]
    others = [i for i in range(len(options)) if i != chosen]

    def against(shares: list[float]) -> list[float]:
        best = max((shares[i] for i in others), default=0.0)
        return [shares[chosen], best, shares[chosen] - best]

    def rank(shares: list[float]) -> float:
        return sum(shares[i] > shares[chosen] for i in others) / max(1, len(others))

    lengths = [len(option) for option in options]
    last_other = max((found[i] for i in others), default=-1)
    return [
        *against(in_text), rank(in_text),
        *against(in_end),
        *against(own_in), rank(own_in),
        float(found[chosen] >= 0),
        sum(found[i] >= 0 for i in others) / max(1, len(others)),
        (found[chosen] - last_other) / max(1, len(body)),
        log1p(lengths[chosen]), lengths[chosen] / max(lengths),
        in_stem[chosen], in_stem[chosen] - max((in_stem[i] for i in others), default=0.0),
        float(re.search(r"(?i)\b(?:all|none|both|neither) of\b", options[chosen]) is not None),
    ]  # fmt: skip


def _content(text: str) -> set[str]:
    return {_stemmed(w.lower()) for w in _WORD.findall(text)} - _STOP


def _stemmed(word: str) -> str:
    """Without the ending that number and tense change; enough to compare an answer's own words."""
    for ending in ("ations", "ation", "ings", "ing", "ies", "ed", "es", "s", "ly"):
        if word.endswith(ending) and len(word) > len(ending) + 3:
            return word[: -len(ending)]
    return word


def _share(words: set[str], inside: set[str]) -> float:
    return len(words & inside) / len(words) if words else 0.0


def _stem(stem: str, body: str) -> list[float]:
    asked, told = _content(stem), _content(body)
    first = body[:60].strip().lower()
    return [
        float(len(first) > 20 and first[:30] in stem.lower()),
        len(told - asked) / max(1, len(told)),
        len(asked & told) / max(1, len(asked)),
    ]

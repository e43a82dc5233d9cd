"""What can be read off a prompt in a fraction of a millisecond, as one vector of named numbers.

The features are about form and kind, not about which words occur: lengths, scripts, numbers, the
options and how alike they are, what is asked for, which fields' words turn up. They are meant to
carry over to subjects that no labelled question is about. Counts enter as `log(1 + count)`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from itertools import chain, combinations
from math import log1p

import numpy as np
from numpy.typing import NDArray

from isthmus.router.learned.lexicon import WORDS
from isthmus.router.learned.question import Question

HAN = re.compile(r"[\u3400-\u9fff]")
LATEX = re.compile(r"\\[a-zA-Z]+|\$")
OPERATOR = re.compile(r"[=+*/^<>×÷≤≥]|\d\s?-\s?\d")
CAPITALS = re.compile(r"[A-Z]{2,}")
NAME = re.compile(r"[a-z,;] [A-Z][a-z]")
SENTENCE_ENDS = (". ", "? ", "! ", ".\n", "?\n", "!\n", "。", "！", "？")
CODE = ("```", "()", "{", "}", ";", "==", "->", ">>>", "def ", "class ", "](", "):")
BLANKS = ("___", "()", "( )", "……")
EXCEPTS = (" EXCEPT", " NOT ", "LEAST", "FALSE", "INCORRECT", " except", "不正确", "错误的")
ROMANS = (" I ", "I.", " II", "III", " IV", "I,", "I)")
QUOTES = ('"', "“", "”", "「", "」")
VERDICT = re.compile(
    r"(?i)\b(?:true|false|yes|no|wrong|not wrong|correct|incorrect|both|neither)\b"
)
ALL_OR_NONE = re.compile(r"(?i)\b(?:all|none|both|neither|any) of the")
QUESTION_WORDS = frozenset(("which", "what", "who", "when", "where", "why", "how"))
_ENDINGS = (
    "tion", "sion", "ment", "ity", "ism", "ist", "logy", "aphy", "ence", "ance", "ical", "ous",
    "ive", "ate", "ase", "itis", "osis", "emia", "ine", "ide",
)  # fmt: skip
LEARNED = (*_ENDINGS, *(f"{ending}s" for ending in _ENDINGS))
"""Endings of learned words."""
TAIL_WORDS = 25
"""How many of the stem's last words are taken for what it asks."""

_TOPIC = {name: i for i, name in enumerate(WORDS)}
_TOPICS_OF: dict[str, tuple[int, ...]] = {}
_HAN_WORDS: list[tuple[str, int]] = []
for _topic, _words in WORDS.items():
    for _word in dict.fromkeys(_words.split()):
        if HAN.search(_word):
            _HAN_WORDS.append((_word, _TOPIC[_topic]))
        else:
            _TOPICS_OF[_word] = (*_TOPICS_OF.get(_word, ()), _TOPIC[_topic])

OPTION_NAMES = (
    "options", "option_chars", "option_chars_most", "option_spread", "option_numbers",
    "option_words", "option_alike", "option_in_stem", "option_verdicts", "option_all_or_none",
    "option_share", "option_sorted", "option_upper", "option_same_start", "option_formulas",
    "option_number_range",
)  # fmt: skip
FORM_NAMES = (
    "chars", "stem_chars", "words", "stem_words", "word_chars", "longest_word", "long_words",
    "learned_words", "distinct_words", "sentences", "sentence_words", "lines", "han", "digits",
    "upper", "beyond_ascii", "marks", "numbers", "distinct_numbers", "largest_number", "decimals",
    "latex", "operators", "code", "single_letters", "blanks", "quotes", "acronyms", "names",
    "commas", "brackets", "question_marks", "ends_asking", "ends_open", "except", "roman",
    "tools", "tool_words", "starts_asking", "form_cue", "form_bare", "form_reasoned", *OPTION_NAMES,
)  # fmt: skip
NAMES: tuple[str, ...] = (
    *FORM_NAMES,
    *(f"{view}.{topic}" for view in ("about", "share", "asked") for topic in WORDS),
)
"""The features' names, in order. A trained file is tied to them."""


def features(question: Question) -> NDArray[np.float32]:
    """The features of `question`, [len(NAMES)]; all finite."""
    tokens = list(chain(question.stem_tokens, *question.option_tokens))
    counts = Counter(tokens)
    words = {token: count for token, count in counts.items() if token[0].isalpha()}
    stem_words = [token for token in question.stem_tokens if token[0].isalpha()]
    about = _topics(words.items(), question.text)
    word_count = max(1, sum(words.values()))
    return np.array(
        [
            *_form(question, tokens, words, stem_words),
            *_options(question, frozenset(stem_words)),
            *map(log1p, about),
            *(count / word_count for count in about),
            *_topics(Counter(stem_words[-TAIL_WORDS:]).items(), question.stem[-2 * TAIL_WORDS :]),
        ],
        np.float32,
    )


def _form(
    question: Question, tokens: list[str], words: dict[str, int], stem_words: list[str]
) -> list[float]:
    text, stem = question.text, question.stem
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    word_count, chars = max(1, sum(words.values())), max(1, len(text))
    letters = long = learned = single = 0
    for word, count in words.items():
        letters += len(word) * count
        long += count if len(word) >= 8 else 0
        learned += count if len(word) > 5 and word.endswith(LEARNED) else 0
        single += count if len(word) == 1 and word not in "ai" else 0
    numbers = [token for token in tokens if token[0].isdigit()]
    sentences = max(1, _found(SENTENCE_ENDS, stem) + (stem[-1:] in ".?!"))
    tool_words = sum(len(re.split(r"[._]", tool)) for tool in question.tools)
    return [
        log1p(question.chars),
        log1p(len(stem)),
        log1p(word_count),
        log1p(len(stem_words)),
        letters / word_count,
        max(map(len, words), default=0),
        long / word_count,
        learned / word_count,
        len(words) / word_count,
        log1p(sentences),
        log1p(len(stem_words) / sentences),
        log1p(stem.count("\n")),
        _share(points, 0x3400, 0x9FFF),
        sum(map(len, numbers)) / chars,
        _share(points, 0x41, 0x5A),
        _share(points, 0x80, 0x10FFFF),
        (len(tokens) - sum(words.values()) - len(numbers)) / max(1, len(tokens)),
        log1p(len(numbers)),
        log1p(len(set(numbers))),
        max(map(_size, numbers), default=0.0),
        log1p(sum("." in number for number in numbers)),
        log1p(_count(LATEX, text)),
        log1p(_count(OPERATOR, text)),
        log1p(_found(CODE, text)),
        log1p(single),
        log1p(_found(BLANKS, stem)),
        log1p(_found(QUOTES, stem)),
        log1p(_count(CAPITALS, text)),
        log1p(_count(NAME, stem)),
        log1p(stem.count(",")),
        log1p(stem.count("(")),
        log1p(stem.count("?") + stem.count("？")),
        float(stem.endswith(("?", "？"))),
        float(stem[-1:].isalnum() or stem.endswith((":", "："))),
        log1p(_found(EXCEPTS, stem)),
        log1p(_found(ROMANS, text)),
        log1p(len(question.tools)),
        tool_words / max(1, len(question.tools)),
        float(bool(stem_words) and stem_words[0] in QUESTION_WORDS),
        *(float(form in question.forms) for form in ("cue", "bare", "reasoned")),
    ]


def _options(question: Question, stem_words: frozenset[str]) -> list[float]:
    options = question.options
    if not options:
        return [0.0] * len(OPTION_NAMES)
    count = len(options)
    lengths = [len(option) for option in options]
    mean = sum(lengths) / count
    sets = [frozenset(tokens) for tokens in question.option_tokens]
    alike = [len(a & b) / max(1, len(a | b)) for a, b in combinations(sets, 2)]
    numbers = [[t for t in tokens if t[0].isdigit()] for tokens in question.option_tokens]
    sizes = [_size(found[0]) for found in numbers if found]
    sorted_sizes = sorted(sizes)
    return [
        count,
        log1p(mean),
        log1p(max(lengths)),
        (max(lengths) - min(lengths)) / (1 + mean),
        sum(2 * sum(map(len, n)) > size for n, size in zip(numbers, lengths, strict=True)) / count,
        log1p(sum(map(len, sets)) / count),
        sum(alike) / len(alike),
        sum(len(s & stem_words) / max(1, len(s)) for s in sets) / count,
        sum(bool(VERDICT.search(option)) for option in options) / count,
        sum(bool(ALL_OR_NONE.search(option)) for option in options),
        sum(lengths) / max(1, len(question.text)),
        float(len(sizes) > 2 and sizes in (sorted_sizes, sorted_sizes[::-1])),
        sum(option[:1].isupper() for option in options) / count,
        1 - (len({option.split(" ", 1)[0] for option in options}) - 1) / count,
        sum(bool(OPERATOR.search(option) or LATEX.search(option)) for option in options) / count,
        sorted_sizes[-1] - sorted_sizes[0] if sizes else 0.0,
    ]


def _topics(counts: Iterable[tuple[str, int]], text: str) -> list[float]:
    """How often each list's words occur; Chinese words are looked for in `text`."""
    found = [0.0] * len(WORDS)
    for word, count in counts:
        for topic in _TOPICS_OF.get(word, ()):
            found[topic] += count
    if HAN.search(text):
        for word, topic in _HAN_WORDS:
            found[topic] += text.count(word)
    return found


def _count(pattern: re.Pattern[str], text: str) -> int:
    return len(pattern.findall(text))


def _found(marks: tuple[str, ...], text: str) -> int:
    return sum(map(text.count, marks))


def _share(points: NDArray[np.uint32], low: int, high: int) -> float:
    """The share of code points from `low` to `high`."""
    # Unsigned: what is below `low` wraps around to far above.
    return float(np.count_nonzero(points - np.uint32(low) <= high - low)) / max(1, points.size)


def _size(number: str) -> float:
    """log(1 + |number|) of a token of digits, dots and commas; groups as in 1,000."""
    try:
        return log1p(min(float(number.replace(",", "")), 1e12))
    except ValueError:  # 1.2.3
        return log1p(len(number))

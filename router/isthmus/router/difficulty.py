"""How hard a request looks: a weighted sum of named terms, each open to reading and argument.

A first estimate from the text alone, before anything ran. It knows nothing of the pair of models;
a learned and calibrated score can take its place behind the same `Difficulty`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from isthmus.core.chat import ChatRequest, Role
from isthmus.router.learned.question import read_of


@dataclass(frozen=True, slots=True)
class Term:
    """One reason why a request is hard. `value` is 0 to 1, `weight` what it is worth at most."""

    name: str
    value: float
    weight: float

    @property
    def contribution(self) -> float:
        """What the term adds to the score."""
        return self.value * self.weight


@dataclass(frozen=True, slots=True)
class Difficulty:
    """The score, 0 (easy) to 1 (hard): the sum of the terms' contributions, cut off at 1."""

    score: float
    terms: tuple[Term, ...] = ()


def difficulty(request: ChatRequest) -> Difficulty:
    """The difficulty of the last user message of `request`, in the light of its conversation.

    Of a long message its start and its end are read, as the learned look does.
    """
    asked = next((m.text for m in reversed(request.messages) if m.role is Role.USER), "")
    read = _Read.of(read_of(asked))
    terms = [Term("length", _clip((len(asked) - 60) / 1500), 0.25)]
    terms += [Term(name, _clip(measure(read)), weight) for name, weight, measure in TEXT_TERMS]
    history = sum(len(m.text) for m in request.messages) - len(asked)
    terms.append(Term("history", _clip(history / 8000), 0.15))
    terms.append(Term("answer_length", _clip(((request.max_tokens or 0) - 256) / 1024), 0.10))
    return Difficulty(min(1.0, sum(term.contribution for term in terms)), tuple(terms))


def _clip(value: float) -> float:
    return min(1.0, max(0.0, value))


_WORD = re.compile(r"[a-z]+(?:\+\+)?")


@dataclass(frozen=True, slots=True)
class _Read:
    """A message, taken apart once for all terms."""

    text: str
    lower: str
    words: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> _Read:
        lower = text.lower()
        return cls(text, lower, tuple(_WORD.findall(lower)))


@dataclass(frozen=True, slots=True)
class _Hits:
    """Counts words, phrases and marks; `enough` of them make the term whole."""

    enough: int
    words: frozenset[str]
    phrases: tuple[str, ...]
    """Anywhere in the text in lower case; Chinese has no gaps between words."""
    marks: re.Pattern[str]

    @classmethod
    def of(cls, enough: int, words: str, phrases: str, marks: str) -> _Hits:
        return cls(
            enough,
            frozenset(words.split()),
            tuple(phrases.split("|")),
            re.compile(marks, re.MULTILINE),
        )

    def __call__(self, read: _Read) -> float:
        found = sum(word in self.words for word in read.words)
        found += sum(map(read.lower.count, self.phrases))
        return (found + len(self.marks.findall(read.text))) / self.enough


def _foreign(read: _Read) -> float:
    """The share of letters that are not Latin: a small model saw little of their languages."""
    if read.text.isascii():
        return 0.0
    letters = [char for char in read.text if char.isalpha()]
    return sum(char > "\u024f" for char in letters) / len(letters) if letters else 0.0


CODE = _Hits.of(
    3,
    "def class return python javascript typescript java rust golang c++ sql regex bash algorithm "
    "function code debug compile api",
    "```|#include|=>|unit test|select *|代码|函数|算法|编程|程序",
    r"[{};][ \t]{0,9}$|\w\(\)",
)
MATH = _Hits.of(
    3,
    "solve prove proof equation integral derivative probability theorem matrix calculate compute "
    "percent average polynomial prime",
    "how many|how much|证明|计算|方程|概率|求解|多少",
    r"\d\s?[-+*/^=×÷]\s?[\d(x]|\\(?:frac|sum|int|sqrt)|[∑∫√≤≥π]|\$[^$\n]{1,80}\$",
)
STEPS = _Hits.of(
    4,
    "first second third then next finally exactly without",
    "after that|step by step|at least|no more than|make sure|each of|然后|首先|最后|步骤|并且"
    "|不超过",
    r"^[ \t]{0,9}(?:\d{1,3}[.)]|[-*•])\s",
)
REASONING = _Hits.of(
    2,
    "why explain compare contrast analyse analyze evaluate derive deduce infer argue critique "
    "design optimise optimize tradeoff tradeoffs implication implications strategy plan",
    "trade-off|为什么|解释|比较|分析|评价|推理|设计|优化",
    r"(?!)",
)
KNOWLEDGE = _Hits.of(
    3,
    "who invented discovered when where which history theory law treaty disease diagnose diagnosed "
    "diagnosis chemical physics biology economic economics philosophy philosopher legal medical",
    "capital of|what year|according to|谁|哪|何时|历史|理论|法律|医学",
    r"^[ \t]{0,9}\(?[A-Ea-e][.)]\s",
)
LONG_ANSWER = _Hits.of(
    1,
    "essay article report story detailed comprehensive long",
    "in depth|详细|文章|报告|论文|作文",
    r"\d{3,} words|\d{3,}字",
)

TEXT_TERMS: tuple[tuple[str, float, Callable[[_Read], float]], ...] = (
    ("code", 0.35, CODE),
    ("math", 0.35, MATH),
    ("steps", 0.25, STEPS),
    ("reasoning", 0.25, REASONING),
    ("knowledge", 0.20, KNOWLEDGE),
    ("foreign_language", 0.25, _foreign),
    ("long_answer", 0.15, LONG_ANSWER),
)
"""Name, weight and measure of each term of the text."""

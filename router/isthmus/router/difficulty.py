"""How hard a request looks: a weighted sum of named terms, each open to reading and argument.

A first estimate from the text alone, before anything ran. It knows nothing of the pair of models;
a learned and calibrated score can take its place behind the same `Difficulty`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from isthmus.core.chat import ChatRequest, Role


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
    """The difficulty of the last user message of `request`, in the light of its conversation."""
    asked = next((m.text for m in reversed(request.messages) if m.role is Role.USER), "")
    text = asked[:MAX_CHARS]
    terms = [Term(name, _clip(measure(text)), weight) for name, weight, measure in TEXT_TERMS]
    history = sum(len(m.text) for m in request.messages) - len(asked)
    terms.append(Term("history", _clip(history / 8000), 0.15))
    terms.append(Term("answer_length", _clip(((request.max_tokens or 0) - 256) / 1024), 0.10))
    return Difficulty(min(1.0, sum(term.contribution for term in terms)), tuple(terms))


MAX_CHARS = 20_000
"""What is read of a message, in characters: the score is saturated long before."""


def _clip(value: float) -> float:
    return min(1.0, max(0.0, value))


def _hits(pattern: str, enough: int, flags: re.RegexFlag = re.IGNORECASE) -> Callable[[str], float]:
    """Counts matches of `pattern`; `enough` of them make the term whole."""
    compiled = re.compile(pattern, flags)
    return lambda text: sum(1 for _ in compiled.finditer(text)) / enough


def _length(text: str) -> float:
    return (len(text) - 60) / 1500


def _foreign(text: str) -> float:
    """The share of letters that are not Latin: a small model saw little of their languages."""
    letters = [char for char in text if char.isalpha()]
    return sum(ord(char) > 0x24F for char in letters) / len(letters) if letters else 0.0


CODE = (
    r"```|\bdef \w+\(|\bclass \w+|#include|\bSELECT\b.{1,80}\bFROM\b|\breturn\b|=>|[{};][ \t]{0,9}$"
    r"|\w\(\)|\b(?:python|javascript|typescript|java|rust|golang|c\+\+|sql|regex|bash|algorithm|function|"
    r"code|debug|compile|unit tests?|api)\b|代码|函数|算法|编程|程序"
)
MATH = (
    r"\d\s?[-+*/^=×÷]\s?[\d(x]|\\(?:frac|sum|int|sqrt)|[∑∫√≤≥π]|\$[^$\n]{1,80}\$"
    r"|\b(?:solve|prove|proof|equation|integral|derivative|probability|theorem|matrix|calculate|"
    r"compute|percent|average|how many|how much|polynomial|prime)\b|证明|计算|方程|概率|求解|多少"
)
STEPS = (
    r"^[ \t]{0,9}(?:\d{1,3}[.)]|[-*•])\s|\b(?:first|second|third|then|next|finally|after that|"
    r"step by step|at least|no more than|exactly|without|make sure|each of)\b"
    r"|然后|首先|最后|步骤|并且|不超过"
)
REASONING = (
    r"\b(?:why|explain|compare|contrast|analy[sz]e|evaluate|derive|deduce|infer|argue|critique|"
    r"design|optimi[sz]e|trade-?offs?|implications?|strategy|plan)\b"
    r"|为什么|解释|比较|分析|评价|推理|设计|优化"
)
KNOWLEDGE = (
    r"\b(?:who|capital of|invented|discovered|when|where|which|what year|history|theory|law|treaty|"
    r"disease|diagnos\w*|chemical|physics|biology|economics?|philosoph\w*|legal|medical|"
    r"according to)\b"
    r"|^[ \t]{0,9}\(?[A-E][.)]\s|谁|哪|何时|历史|理论|法律|医学"
)
LONG_ANSWER = (
    r"\b(?:essay|article|report|story|detailed|in depth|comprehensive|long|\d{3,} words)\b"
    r"|详细|文章|报告|论文|作文|\d{3,}字"
)

TEXT_TERMS: tuple[tuple[str, float, Callable[[str], float]], ...] = (
    ("length", 0.25, _length),
    ("code", 0.35, _hits(CODE, 3, re.IGNORECASE | re.MULTILINE)),
    ("math", 0.35, _hits(MATH, 3)),
    ("steps", 0.25, _hits(STEPS, 4, re.IGNORECASE | re.MULTILINE)),
    ("reasoning", 0.25, _hits(REASONING, 2)),
    ("knowledge", 0.20, _hits(KNOWLEDGE, 3, re.IGNORECASE | re.MULTILINE)),
    ("foreign_language", 0.25, _foreign),
    ("long_answer", 0.15, _hits(LONG_ANSWER, 1)),
)
"""Name, weight and measure of each term of the text."""

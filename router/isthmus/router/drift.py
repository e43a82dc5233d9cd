"""Whether the two tiers still agree as they used to: if not, a model or its use has changed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

_QUICK, _SLOW = 0.1, 0.01
"""What the latest comparison weighs in the recent and in the usual agreement."""


def agreement(one: str, other: str) -> float:
    """How alike two answers are, 0 to 1: the Dice coefficient of their character bigrams.

    Without regard to case and spaces; two empty answers agree.
    """
    left, right = _bigrams(one), _bigrams(other)
    total = left.total() + right.total()
    return 2 * (left & right).total() / total if total else 1.0


def _bigrams(text: str) -> Counter[str]:
    words = " ".join(text.casefold().split())
    return Counter(map("".join, pairwise(f" {words} "))) if words else Counter()


@dataclass(slots=True)
class Drift:
    """Recent agreement against the usual."""

    count: int = 0
    recent: float = 0.0
    usual: float = 0.0

    def observe(self, agreed: float) -> None:
        """Take one comparison in."""
        self.count += 1
        # The plain mean at first: a moving one would hang on its first value.
        self.recent += max(_QUICK, 1 / self.count) * (agreed - self.recent)
        self.usual += max(_SLOW, 1 / self.count) * (agreed - self.usual)

    @property
    def drift(self) -> float:
        """Below 0: the tiers agree less than they used to. 0 while nothing was compared."""
        return self.recent - self.usual

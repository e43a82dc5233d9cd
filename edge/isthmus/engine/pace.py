"""What steps cost on this device, measured as they run, and how much prompt one may hold.

While answers are being written, a step takes in so much of the waiting prompts that it lasts at
most about `STRETCH` times as long as without them; when nobody writes, a whole chunk. What a step
took longer than that the next ones make up for: they take in nothing until it is paid back.
"""

from __future__ import annotations

from collections import deque
from statistics import median

import numpy as np
from numpy.typing import NDArray

STRETCH = 1.8
"""How much longer a running answer waits for its next token because of others' prompts, on average:
somewhat less than the double that is promised, since what a step costs alone is known from before.
"""
MIN_CHUNK = 8
"""Prompt tokens that a step takes in at least when it takes in any: fewer cost nearly as much."""
REMEASURE = 64
"""After this many mixed steps one is run without prompts: its time is what the others aim at. And
after so many without them one takes some in, however long it will last."""
_RECENT = 7
_FORGET = 200
"""After so many steps a size that did not come up is guessed again: it may have been a bad moment
that it was measured at, or a shorter context."""
_ROW_GUESS = 0.25
"""What another row costs of a step with one, before two sizes were measured."""
_TELLING = 32
"""Prompt tokens that a step without writing needs to tell what one costs."""
_WEIGHT = 0.3
"""Of a new measurement in the moving mean."""


class Pace:
    """The measured costs of one plan's steps."""

    def __init__(self) -> None:
        # Medians: a step during which the thread lost its core tells nothing about the step.
        self._recent: dict[int, deque[float]] = {}
        self._rows = np.empty(0)
        self._seconds = np.empty(0)
        self._seen: dict[int, int] = {}
        self._steps = 0
        self._prompt_token_s: float | None = None
        self._mixed = 0
        self._debt_s = 0.0
        """Time that prompts took from running answers beyond their due."""

    def observe(self, rows: int, prompt_tokens: int, seconds: float) -> None:
        """Take in one step: `rows` were written on (drafts included), `prompt_tokens` read."""
        if prompt_tokens == 0:
            self._observe_writing(rows, seconds)
        own = float(self.writing_s(rows, 0)[0]) if rows and self.measured else 0.0
        if prompt_tokens > 0:
            self._observe_reading(rows, own, prompt_tokens, seconds)
        over = (seconds if prompt_tokens else own) - STRETCH * own
        most = REMEASURE * (STRETCH - 1) * own
        self._debt_s = min(max(0.0, self._debt_s + over), most)

    def _observe_writing(self, rows: int, seconds: float) -> None:
        self._mixed = 0
        self._steps += 1
        self._seen[rows] = self._steps
        self._recent.setdefault(rows, deque(maxlen=_RECENT)).append(seconds)
        for size in [n for n, step in self._seen.items() if self._steps - step > _FORGET]:
            del self._seen[size], self._recent[size]
        self._rows = np.array(sorted(self._recent), float)
        self._seconds = np.array([median(self._recent[int(n)]) for n in self._rows])

    def _observe_reading(self, rows: int, own: float, prompt_tokens: int, seconds: float) -> None:
        self._mixed += rows > 0
        before = self._prompt_token_s
        if rows == 0 and before is not None and prompt_tokens < _TELLING:
            return  # a small step's fixed costs say little about a token
        token_s = max(seconds - own, 0.1 * seconds) / prompt_tokens
        self._prompt_token_s = (
            token_s if before is None else (1 - _WEIGHT) * before + _WEIGHT * token_s
        )

    @property
    def measured(self) -> bool:
        """Whether the cost of a step is known at all."""
        return len(self._rows) > 0

    def writing_s(self, rows: int, more: int) -> NDArray[np.float64]:
        """Seconds of a step without prompts that has rows, rows + 1, … rows + more. [more + 1]"""
        wanted = np.arange(rows, rows + more + 1)
        known = np.interp(wanted, self._rows, self._seconds)
        if len(self._rows) > 1:
            risen = self._seconds[-1] - self._seconds[0]
            slope = max(0.0, risen / (self._rows[-1] - self._rows[0]))
        else:
            slope = _ROW_GUESS * self._seconds[0]
        beyond: NDArray[np.float64] = known + slope * np.maximum(0, wanted - self._rows[-1])
        return beyond

    def prompt_room(self, rows: int, most: int) -> int:
        """How many prompt tokens the next step may take in beside `rows` that are written on."""
        if rows == 0:
            return most
        if not self.measured or self._debt_s > 0 or self._mixed >= REMEASURE:
            return 0
        if self._prompt_token_s is None:
            return min(MIN_CHUNK, most)
        spare_s = (STRETCH - 1) * float(self.writing_s(rows, 0)[0])
        return min(max(int(spare_s / self._prompt_token_s), MIN_CHUNK), most)

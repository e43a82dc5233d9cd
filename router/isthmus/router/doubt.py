"""The second look, after prefill: what the device's model says of its own doubt.

The first token's distribution and the hidden state behind it cost nothing more than a dot product:
the model has read the whole prompt by then and computed both. A head fitted on labelled questions
turns them into a probability. It holds for the very build that it was fitted on: four bits shift
the hidden state, so that another file of the same model gets none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from isthmus.core.events import FirstToken

F32 = NDArray[np.float32]

FEATURES: Final = ("prior", "margin", "entropy", "logprob")
"""What the head reads besides the hidden state: the logit of the first look's probability, and the
first token's statistics."""


@dataclass(frozen=True, slots=True)
class Build:
    """A model file as it is: the head of one says nothing of another."""

    sha256: str
    """Of the model file, in lower-case hex."""
    quantization: str
    """As the catalogue names it."""


@dataclass(frozen=True, slots=True, eq=False)
class SecondLook:
    """A calibrated logistic head over the first token and the hidden state."""

    build: Build
    """What it was fitted on, and alone holds for."""
    bias: float
    weights: F32
    """[len(FEATURES)]"""
    hidden_weights: F32
    """[hidden]; empty: the hidden state did not help."""
    questions: int = 0
    """How many labelled questions it was fitted on."""

    def rate(self, first: FirstToken, *, prior: float) -> float:
        """P(the device's answer is good enough), 0 to 1.

        `prior` is what the first look said (`Quality.edge`). Raises `ValueError` when the hidden
        state is missing or of another width.
        """
        features = np.array([_logit(prior), first.margin, first.entropy, first.logprob], np.float32)
        score = self.bias + float(self.weights @ features)
        if self.hidden_weights.size:
            if len(first.hidden) != self.hidden_weights.size:
                raise ValueError(
                    f"the hidden state has {len(first.hidden)} values, the head reads "
                    f"{self.hidden_weights.size}: it was fitted on another model"
                )
            score += float(self.hidden_weights @ np.asarray(first.hidden, np.float32))
        return 1 / (1 + math.exp(-max(-30.0, min(30.0, score))))


def _logit(p: float) -> float:
    p = min(max(p, 1e-4), 1 - 1e-4)
    return math.log(p / (1 - p))

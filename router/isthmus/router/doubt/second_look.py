"""The second look, after prefill: what the device's model says of its own doubt.

The first token's distribution and the hidden state behind it cost nothing more than a dot product:
the model has read the whole prompt by then and computed both. A head fitted on labelled questions
turns them into a probability. It holds for the very build that it was fitted on: four bits shift
the hidden state, so that another file of the same model gets none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from isthmus.core.events import FirstToken
from isthmus.router.learned.section import Section

F32 = NDArray[np.float32]

SECTION: Final = "second_look"
FEATURES: Final = ("prior", "margin", "entropy", "logprob")
"""What the head reads besides the hidden state: the logit of the first look's probability, and the
first token's statistics."""


@dataclass(frozen=True, slots=True)
class Build:
    """A model file as it is: the head of one says nothing of another."""

    sha256: str
    """Of the model file, in lower-case hex: it alone says which build this is."""
    quantization: str = field(default="", compare=False)
    """As the catalogue names it, for people."""


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
        score = self.bias + float(self.weights @ features(first, prior))
        if self.hidden_weights.size:
            if len(first.hidden) != self.hidden_weights.size:
                raise ValueError(
                    f"the hidden state has {len(first.hidden)} values, the head reads "
                    f"{self.hidden_weights.size}: it was fitted on another model"
                )
            score += float(self.hidden_weights @ np.asarray(first.hidden, np.float32))
        return 1 / (1 + math.exp(-max(-30.0, min(30.0, score))))

    @classmethod
    def of(cls, section: Section | None, build: Build) -> SecondLook | None:
        """The head for `build` in a trained file; None where nobody has fitted one.

        Raises `ValueError` for a section that makes no sense.
        """
        return next((look for look in looks(section) if look.build == build), None)


def looks(section: Section | None) -> list[SecondLook]:
    """The heads of all builds in a trained file.

    Raises `ValueError` for a section that makes no sense.
    """
    if section is None:
        return []
    found = []
    try:
        for at, told in enumerate(section.says["builds"]):
            build = Build(str(told["sha256"]), str(told["quantization"]))
            weights, hidden = section.arrays[f"weights{at}"], section.arrays[f"hidden{at}"]
            if weights.shape != (len(FEATURES),) or hidden.ndim != 1:
                raise ValueError
            bias, questions = float(told["bias"]), int(told["questions"])
            found.append(SecondLook(build, bias, weights, hidden, questions))
    except (KeyError, TypeError, ValueError):
        raise ValueError("the second look of the trained file makes no sense") from None
    return found


def section(heads: Sequence[SecondLook], figures: Mapping[str, Any]) -> Section:
    """What `looks` reads: one head a build. `figures`: of each build, by its sha256."""
    builds = [
        {
            "sha256": look.build.sha256,
            "quantization": look.build.quantization,
            "bias": look.bias,
            "questions": look.questions,
        }
        for look in heads
    ]
    arrays = {f"weights{at}": look.weights for at, look in enumerate(heads)}
    arrays |= {f"hidden{at}": look.hidden_weights for at, look in enumerate(heads)}
    return Section({"builds": builds, "figures": dict(figures)}, arrays)


def features(first: FirstToken, prior: float) -> F32:
    """What the head reads besides the hidden state. [len(FEATURES)]"""
    return np.array([_logit(prior), first.margin, first.entropy, first.logprob], np.float32)


def _logit(p: float) -> float:
    p = min(max(p, 1e-4), 1 - 1e-4)
    return math.log(p / (1 - p))

"""Doubt from the logits of a question's options: is the letter that leads the one the cloud takes?

The largest probability alone says how sure the device's model is; it does not say that the model
likes some letters too much, or is surer than it has reason to be, and both differ from task to task
and from build to build. A head learns for one pair and one task, from some thousand answered
questions, how the device's log-probabilities lead to the cloud's letter (matrix scaling, Guo et
al. 2017, arXiv 1706.04599, with the cloud's answer as the label). What is read off is the
probability that the cloud would pick the device's own letter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from isthmus.router.learned.section import Section

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

SECTION: Final = "options"


@dataclass(frozen=True, slots=True, order=True)
class Task:
    """What a head is fitted on, and alone holds for."""

    name: str
    weak: str
    strong: str


@dataclass(frozen=True, slots=True, eq=False)
class OptionHead:
    """Matrix scaling of the options' log-probabilities."""

    bias: F32
    """[options]"""
    weights: F32
    """[options, options] from the device's log-probabilities to the cloud's logits"""
    rows: int = 0
    """How many questions it was fitted on."""

    def agrees(self, logits: F64) -> F64:
        """P(the cloud picks the option that leads). logits: [rows, options]; gives [rows]"""
        lead = logits.argmax(axis=1)
        scores = log_softmax(logits) @ self.weights.T.astype(np.float64) + self.bias
        told: F64 = np.exp(log_softmax(scores))[np.arange(len(lead)), lead]
        return told


def largest_probability(logits: F64) -> F64:
    """The baseline, and what is left where no head was fitted. logits: [rows, options]"""
    told: F64 = np.exp(log_softmax(logits)).max(axis=1)
    return told


def log_softmax(logits: F64) -> F64:
    """Log-probabilities of each row. logits: [rows, options]"""
    below = logits - logits.max(axis=1, keepdims=True)
    out: F64 = below - np.log(np.exp(below).sum(axis=1, keepdims=True))
    return out


@dataclass(frozen=True, slots=True, eq=False)
class OptionHeads:
    """The heads of all pairs and tasks that somebody has labelled."""

    heads: Mapping[Task, OptionHead]

    def agrees(self, task: Task, logits: F64) -> tuple[F64, bool]:
        """P(the cloud picks the option that leads), and whether a head for `task` said so.

        Without one it is the largest probability: right in its order, not as a number. logits:
        [rows, options]
        """
        head = self.heads.get(task)
        if head is None or len(head.bias) != logits.shape[1]:
            return largest_probability(logits), False
        return head.agrees(logits), True

    def section(self, provenance: Mapping[str, Any]) -> Section:
        """What `of` reads."""
        tasks = sorted(self.heads)
        says = [
            {"task": t.name, "weak": t.weak, "strong": t.strong, "rows": self.heads[t].rows}
            for t in tasks
        ]
        arrays = {
            f"{part}{i}": getattr(self.heads[task], part)
            for i, task in enumerate(tasks)
            for part in ("bias", "weights")
        }
        return Section({"tasks": says, "provenance": dict(provenance)}, arrays)

    @classmethod
    def of(cls, section: Section | None) -> OptionHeads:
        """The heads in a file. Raises `ValueError` for a section that makes no sense."""
        if section is None:
            return cls({})
        heads = {}
        try:
            for i, told in enumerate(section.says["tasks"]):
                bias, weights = section.arrays[f"bias{i}"], section.arrays[f"weights{i}"]
                if bias.ndim != 1 or weights.shape != (len(bias), len(bias)):
                    raise ValueError
                task = Task(str(told["task"]), str(told["weak"]), str(told["strong"]))
                heads[task] = OptionHead(
                    bias.astype(np.float32), weights.astype(np.float32), int(told["rows"])
                )
        except (KeyError, TypeError, ValueError):
            raise ValueError("the option heads of the trained file make no sense") from None
        return cls(heads)


def fit(logits: F64, picked: NDArray[np.int64], *, strength: float = 1.0) -> OptionHead:
    """Fit a head. logits: [rows, options]; picked: [rows] the cloud's option, -1: it gave none.

    `strength` is scikit-learn's C. Options that the cloud never picks are left impossible. Needs
    scikit-learn.
    """
    from sklearn.linear_model import LogisticRegression

    known = picked >= 0
    options = logits.shape[1]
    model = LogisticRegression(C=strength, max_iter=500)
    model.fit(log_softmax(logits[known]), picked[known])
    bias = np.full(options, _NEVER, np.float32)
    weights = np.zeros((options, options), np.float32)
    if len(model.classes_) == 2:  # scikit-learn keeps one row for two classes
        bias[model.classes_] = [0.0, model.intercept_[0]]
        weights[model.classes_[1]] = model.coef_[0]
    else:
        bias[model.classes_], weights[model.classes_] = model.intercept_, model.coef_
    return OptionHead(bias, weights, int(known.sum()))


_NEVER: Final = -30.0

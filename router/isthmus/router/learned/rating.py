"""Many prompts rated at once."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from isthmus.router.learned.features import NAMES, features
from isthmus.router.learned.general import General
from isthmus.router.learned.ngrams import Grams, grams
from isthmus.router.learned.pair import Calibration, inputs
from isthmus.router.learned.question import parse

_WARM = 50


def scores(
    general: General, prompts: Sequence[str], known: Calibration | None = None
) -> NDArray[np.float32]:
    """What each prompt would gain by escalating, [rows]: of a known pair, else in general."""
    x, found = _read(prompts)
    gain = general.gain(x, found)
    if known is None:
        return gain
    rated = known.rate(inputs(general.standard(x), gain, found))
    return rated[:, 1] - rated[:, 0]


def seen(general: General, prompts: Sequence[str]) -> NDArray[np.float32]:
    """What the heads of a pair see of each prompt: [rows, INPUTS]."""
    x, found = _read(prompts)
    return inputs(general.standard(x), general.gain(x, found), found)


def _read(prompts: Sequence[str]) -> tuple[NDArray[np.float32], list[Grams]]:
    questions = [parse(prompt) for prompt in prompts]
    x = np.array([features(q) for q in questions], np.float32).reshape(-1, len(NAMES))
    return x, [grams(question) for question in questions]


def times_ms(
    general: General, prompts: Sequence[str], known: Calibration | None = None
) -> NDArray[np.float64]:
    """How long each prompt takes when it is rated alone, the best of three: [rows] ms.

    The best, so that what else the machine does is left out as far as it can be.
    """
    for prompt in prompts[:_WARM]:
        scores(general, [prompt], known)
    taken = np.zeros((len(prompts), 3))
    for row, prompt in zip(taken, prompts, strict=True):
        for at in range(3):
            began_s = time.perf_counter()
            scores(general, [prompt], known)
            row[at] = 1e3 * (time.perf_counter() - began_s)
    best: NDArray[np.float64] = taken.min(axis=1)
    return best

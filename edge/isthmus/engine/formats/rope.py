"""Rotary positions stretched for longer contexts: each frequency divided by a factor of its own.

The formulas are those of transformers' `modeling_rope_utils.py`; llama.cpp keeps llama3's factors
in the file and computes the others alike (ggml's `rope_yarn`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.engine.errors import ModelDamaged, ModelNotSupported
from isthmus.engine.formats.bounds import FREQUENCY, MULTIPLIER, POSITIONS, STRETCH

SUPPORTED = ("default", "linear", "llama3", "yarn", "longrope")


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """`factors` divide the frequencies, `attention` multiplies the scores of attention."""

    factors: tuple[float, ...] = ()
    """[head_dim / 2], or none"""
    attention: float = 1.0


def rope_scaling(
    scaling: Mapping[str, Any], *, base: float, head_dim: int, context: int
) -> RopeScaling:
    """The factors that a config.json's `rope_scaling` or `rope_parameters` describes.

    Raises `ModelNotSupported` for a kind that is not in `SUPPORTED`, `ModelDamaged` for a number
    that is missing or out of range.
    """
    kind = scaling.get("rope_type", scaling.get("type")) or "default"
    numbers = _Numbers(scaling)
    pairs = head_dim // 2
    match kind:
        case "default":
            return RopeScaling()
        case "linear":
            return RopeScaling((numbers.of("factor"),) * pairs)
        case "llama3":
            return RopeScaling(_llama3(numbers, base, pairs))
        case "yarn":
            return _yarn(numbers, base, pairs, context)
        case "longrope" if scaling.get("short_factor") == scaling.get("long_factor"):
            return _longrope(numbers, scaling.get("long_factor"), pairs, context)
    raise ModelNotSupported(
        f"rope scaling {kind!r} is not supported; supported are {', '.join(SUPPORTED)} (longrope "
        "with equal short and long factors)"
    )


_BOUNDS = {
    "factor": STRETCH,
    "attention_factor": MULTIPLIER,
    "original_max_position_embeddings": POSITIONS,
}


class _Numbers:
    """Numbers by name, with errors that say which."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def of(self, name: str, default: float | None = None) -> float:
        value = self._values.get(name)
        if value is None and default is not None:
            return default
        within = _BOUNDS.get(name, FREQUENCY)
        return float(within.check(f"the rope scaling's {name}", value))


def _frequencies(base: float, pairs: int) -> NDArray[np.float64]:
    turns: NDArray[np.float64] = base ** (-np.arange(pairs, dtype=np.float64) / pairs)
    return turns


def _llama3(numbers: _Numbers, base: float, pairs: int) -> tuple[float, ...]:
    factor, trained = numbers.of("factor"), numbers.of("original_max_position_embeddings")
    low, high = numbers.of("low_freq_factor"), numbers.of("high_freq_factor")
    if low >= high:
        raise ModelDamaged("the rope scaling's low_freq_factor is not below its high_freq_factor")
    turns = trained * _frequencies(base, pairs) / (2 * math.pi)  # over the trained context
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    return tuple((1 / ((1 - smooth) / factor + smooth)).tolist())


def _yarn(numbers: _Numbers, base: float, pairs: int, context: int) -> RopeScaling:
    """YaRN (arXiv 2309.00071)."""
    factor = numbers.of("factor")
    trained = numbers.of("original_max_position_embeddings", context)

    def pair_with(turns: float) -> float:
        """The pair that turns so many times over the trained context."""
        return pairs * math.log(trained / (turns * 2 * math.pi)) / math.log(base)

    low = max(math.floor(pair_with(numbers.of("beta_fast", 32))), 0)
    high = min(math.ceil(pair_with(numbers.of("beta_slow", 1))), 2 * pairs - 1)
    ramp = np.clip((np.arange(pairs) - low) / max(high - low, 1e-3), 0, 1)
    magnitude = numbers.of("attention_factor", 0.1 * math.log(factor) + 1 if factor > 1 else 1.0)
    return RopeScaling(tuple((1 / (ramp / factor + 1 - ramp)).tolist()), magnitude**2)


def _longrope(numbers: _Numbers, factors: Any, pairs: int, context: int) -> RopeScaling:
    if not isinstance(factors, list) or len(factors) != pairs:
        raise ModelDamaged(f"the rope scaling's long_factor is not a list of {pairs} numbers")
    named = {f"long_factor[{i}]": factor for i, factor in enumerate(factors)}
    checked = _Numbers(named)
    trained = numbers.of("original_max_position_embeddings", context)
    stretched = numbers.of("factor", context / trained)
    usual = math.sqrt(1 + math.log(stretched) / math.log(trained)) if stretched > 1 else 1.0
    magnitude = numbers.of("attention_factor", usual)
    return RopeScaling(tuple(map(checked.of, named)), magnitude**2)

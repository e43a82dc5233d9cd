"""The numbers in a model file, held to what a model can mean by them.

Others would be found out far from where they were read: as NaN in an answer, as a division by zero,
as memory for a head of two billion values. The bounds are wide; no model that is known comes near.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from isthmus.engine.errors import ModelDamaged


@dataclass(frozen=True, slots=True)
class Bounds:
    """From `least` to `most`, both included."""

    least: float
    most: float

    def check(self, name: str, value: Any) -> float:
        """A finite number within the bounds. Raises `ModelDamaged`, which says `name`."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ModelDamaged(f"{name} is missing or not one number")
        if not self.least <= value <= self.most:  # nor is NaN
            raise ModelDamaged(
                f"{name} must be from {self.least:,.10g} to {self.most:,.10g}, but is {value}"
            )
        return value

    def check_whole(self, name: str, value: Any) -> int:
        """The same for a whole number."""
        number = self.check(name, value)
        if number != int(number):
            raise ModelDamaged(f"{name} must be a whole number, but is {value}")
        return int(number)


SIZE = Bounds(1, 2**31 - 1)
"""Layers, heads, and the sides of matrices."""
HEAD_DIM = Bounds(2, 2**16)
POSITIONS = Bounds(2, 2**31 - 1)
ROPE_BASE = Bounds(2, 1e15)
NORM_EPS = Bounds(1e-15, 0.1)
MULTIPLIER = Bounds(1e-6, 1e6)
"""Constants that a model multiplies by."""
STRETCH = Bounds(1, 1e6)
"""How much longer a context was made."""
FREQUENCY = Bounds(1e-3, 1e6)
"""What a rotary frequency is divided by, and how often one turns."""


def check_heads(where: object, heads: int, kv_heads: int, head_dim: int) -> None:
    """Raise `ModelDamaged`, which says `where`, for heads that no attention can have."""
    if heads % kv_heads or head_dim % 2:
        raise ModelDamaged(
            f"{where}: {heads} heads of width {head_dim} cannot share {kv_heads} key/value heads"
        )

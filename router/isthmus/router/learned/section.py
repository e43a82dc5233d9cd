"""A part of the trained file: what it says, and its arrays. What they mean its reader knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Section:
    """Named arrays, with JSON beside them."""

    says: Mapping[str, Any] = field(default_factory=dict)
    """Settings, provenance, figures."""
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """float32, int32, int16 or int8."""

    def finite(self) -> bool:
        """Whether every number is one."""
        return all(bool(np.isfinite(array).all()) for array in self.arrays.values())

"""What GPUs have: memory, bandwidth, and operations a second."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from importlib import resources
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from isthmus.core.errors import InvalidRequest


class Gpu(BaseModel):
    """One GPU, as the maker describes it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    memory_gib: float = Field(gt=0)
    bandwidth_gb_s: float = Field(gt=0)
    """Reading its own memory, 10^9 bytes a second."""
    tflops: dict[int, float]
    """Dense matrix products, 10^12 operations a second, by the bits of what is multiplied."""
    source: str

    @field_validator("tflops")
    @classmethod
    def _has_16(cls, tflops: dict[int, float]) -> dict[int, float]:
        if not all(value > 0 for value in tflops.values()) or 16 not in tflops:
            raise ValueError("needs a figure above zero for 16 bits")
        return tflops

    def tflops_at(self, bits: int) -> float:
        """The operations at `bits`; what it has no units for, it widens to 16."""
        return self.tflops.get(bits, self.tflops[16])


def known() -> dict[str, Gpu]:
    """The GPUs that are known by name."""
    text = resources.files("isthmus.cloud.planning").joinpath("gpus.toml").read_text("utf-8")
    return {name: Gpu.model_validate(entry) for name, entry in tomllib.loads(text).items()}


def named(name: str, more: Mapping[str, Any] | None = None) -> tuple[str, Gpu]:
    """A GPU of `gpus.toml` or of `more`, whatever the case. Raises `InvalidRequest`."""
    gpus = known() | dict(more or {})
    by_lower = {one.lower(): one for one in gpus}
    if (found := by_lower.get(name.lower())) is None:
        near = difflib.get_close_matches(name.lower(), by_lower, n=1)
        hint = f"did you mean {by_lower[near[0]]!r}? " if near else ""
        raise InvalidRequest(
            f"no GPU is called {name!r} here; {hint}known are {', '.join(gpus)}", field="--gpu"
        )
    return found, gpus[found]

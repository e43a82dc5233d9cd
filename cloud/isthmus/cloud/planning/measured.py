"""What was measured of a GPU, and the share of its data sheet that it reached.

A TOML file of points, as `vllm bench serve` prints them, and of GPUs that are not known by name::

    [[measured]]
    gpu = "A10"
    model = "llama-2-7b"
    prompt_tokens = 350
    ttft_ms = 65.0
    tpot_ms = 29.0
    source = "vllm bench serve, vLLM 0.32, one request at a time"

    [gpu.mine]
    memory_gib = 11
    bandwidth_gb_s = 448
    tflops = { 16 = 60 }
    source = "its data sheet"
"""

from __future__ import annotations

import statistics
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from isthmus.cloud.planning import models
from isthmus.cloud.planning.capacity import Setup
from isthmus.cloud.planning.gpus import Gpu
from isthmus.core.errors import ConfigError
from isthmus.core.misspelt import wrong_settings


class Point(BaseModel):
    """One measurement."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gpu: str
    model: str
    weights: str = "fp16"
    kv_cache: str = "auto"
    tensor_parallel: int = Field(default=1, ge=1)
    prompt_tokens: int = Field(ge=1)
    batch: int = Field(default=1, ge=1)
    """Answers that were written at once."""
    ttft_ms: float | None = Field(default=None, gt=0)
    tpot_ms: float | None = Field(default=None, gt=0)
    source: str


class MeasuredFile(BaseModel):
    """A file of points."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    measured: list[Point] = Field(default_factory=list)
    gpu: dict[str, Gpu] = Field(default_factory=dict)


def read(path: Path) -> MeasuredFile:
    """The points of a file. Raises `ConfigError`."""
    try:
        return MeasuredFile.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", field="--measured") from None
    except ValidationError as error:
        where, why = wrong_settings(error, MeasuredFile)[0]
        raise ConfigError(f"{path}: {where}: {why}", field="--measured") from None
    except ValueError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}", field="--measured") from None


def corrected(setup: Setup, gpu: str, points: Sequence[Point]) -> tuple[Setup, list[str]]:
    """`setup` with the efficiencies that were measured on this GPU, and where they come from.

    Points of this very model count alone where there are any. Of several the median is taken. A
    time tells of what it was bound by: that of a short prompt, or of a large batch, is left out.
    """
    here = [point for point in points if point.gpu.lower() == gpu.lower()]
    here = [point for point in here if point.model == setup.model.name] or here
    compute: list[float] = []
    bandwidth: list[float] = []
    sources: list[str] = []
    for point in here:
        model = setup.model if point.model == setup.model.name else models.named(point.model)
        measured = replace(
            setup,
            model=model,
            weights=point.weights,
            kv_cache=point.kv_cache,
            tensor_parallel=point.tensor_parallel,
        )
        batch, context = point.batch, point.prompt_tokens
        if point.ttft_ms is not None and measured.is_bound_by_operations(context):
            compute.append(measured.mfu(point.ttft_ms / 1000, context))
            sources.append(point.source)
        if point.tpot_ms is not None and not measured.is_bound_by_operations(batch, context):
            bandwidth.append(measured.mbu(point.tpot_ms / 1000, batch, context))
            sources.append(point.source)
    return replace(
        setup,
        compute_efficiency=statistics.median(compute) if compute else 1.0,
        bandwidth_efficiency=statistics.median(bandwidth) if bandwidth else 1.0,
    ), list(dict.fromkeys(sources))

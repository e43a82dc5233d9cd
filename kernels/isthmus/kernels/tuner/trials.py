"""One variant checked against the reference and then timed: what runs in the child process."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from isthmus.kernels.base import F32, KVType, QuantizedWeight
from isthmus.kernels.errors import BackendLost
from isthmus.kernels.opencl import layouts
from isthmus.kernels.opencl.backend import OpenCLBackend
from isthmus.kernels.opencl.layouts import Layout, PackedWeight, WeightForm
from isthmus.kernels.opencl.products import Epilogue, Part, place
from isthmus.kernels.opencl.programs import ProgramCache
from isthmus.kernels.opencl.runtime import Device, open_device
from isthmus.kernels.opencl.trial import Trial
from isthmus.kernels.opencl.variants import Variant, default_choices, uniform_choices
from isthmus.kernels.selftest import disagreement
from isthmus.kernels.tuner.ceiling import Ceiling, measure
from isthmus.kernels.tuner.problem import Problem

_SEED = 20_261_122
_EPS = 1e-5
_TOLERANCE = 2e-3
"""Of the largest result."""
_HALF_TOLERANCE = 3e-2
"""The same where a variant adds up in half precision."""
_STEPS_TOLERANCE = 5e-3
"""The same of whole steps, where the cache may round to another of its 8 bits."""
_COLD_BYTES = 48 << 20
"""Weights that are read in turns, so that none comes out of a cache."""
_MOST_COPIES = 128
_KEPT_LAYOUTS = 3


@dataclass(frozen=True, slots=True)
class Setup:
    """What the child process opens."""

    device: str | None
    limited: bool = False
    programs: Path | None = None
    """A folder for compiled programs."""


@dataclass(frozen=True, slots=True)
class Job:
    """A variant to try. With `seconds` of 0 it is checked alone."""

    problem: Problem
    variant: str
    tile: int
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of it."""

    error: str | None = None
    """Why it cannot be used."""
    seconds: float | None = None
    """Of one launch, in the best of some rounds: what else runs here only ever adds to it."""


@dataclass(frozen=True, slots=True)
class StepsJob:
    """Whole steps of a small model to check.

    None is the default choices, with each type of a cache.
    """

    algorithms: tuple[str, str] | None = None
    """For one token and for several."""


@dataclass(frozen=True, slots=True)
class CeilingJob:
    """A question for what the device can do at most."""


class Evaluator:
    """Answers jobs on one device. Weights stay on it from one job of a problem to the next."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._device = open_device(
            setup.device, limited=setup.limited, programs=ProgramCache(setup.programs)
        )
        self._material: _Material | None = None

    def __call__(self, job: Job | StepsJob | CeilingJob) -> Outcome | Ceiling:
        """Try. Errors that the device reports are outcomes; others are the child's end."""
        if isinstance(job, CeilingJob):
            return measure(self._device)
        try:
            return self._steps(job) if isinstance(job, StepsJob) else self._try(job)
        except (BackendLost, ValueError, MemoryError) as error:
            return Outcome(error=str(error) or type(error).__name__)

    def _steps(self, job: StepsJob) -> Outcome:
        choices, kv_types = default_choices(self._device.capabilities), None
        if job.algorithms is not None:
            choices, kv_types = uniform_choices(*job.algorithms, most=4), (KVType.FLOAT32,)
        backend = OpenCLBackend(
            device=self._setup.device, limited=self._setup.limited, choices=choices
        )
        return Outcome(disagreement(backend, tolerance=_STEPS_TOLERANCE, kv_types=kv_types))

    def _try(self, job: Job) -> Outcome:
        if self._material is None or self._material.problem != job.problem:
            self._material = None  # before the next is made
            self._material = _Material(job.problem)
        material = self._material
        variant = Variant.parse(job.variant)
        copies = material.copies if job.seconds else 1
        packed, placed = material.placed(variant.layout, copies, self._device)
        tokens = 1 if job.tile == 1 else job.tile
        several = 1 if variant.tokens == 1 else max(tokens, variant.tokens) + 3  # a part of a tile
        limits = self._device.capabilities
        normed = job.problem.normed and variant.norms(packed.form, limits)
        trials = [
            Trial(
                self._device,
                packed,
                variant,
                max_tokens=several,
                parts=parts,
                epilogue=job.problem.epilogue,
                norm=material.norm if normed else None,
            )
            for parts in placed
        ]
        error = material.disagreement(trials[0], variant, several, normed=normed)
        if error is not None:
            return Outcome(error=error)
        if not job.seconds:
            self._device.forget_programs()
            return Outcome()
        return Outcome(seconds=_timed(self._device, trials, tokens, job.seconds))


class _Material:
    """A random weight and input, the right answer, and the weight on the device."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        rng = np.random.default_rng(_SEED)
        self._weight = random_weight(rng, problem.form)
        self._x = rng.standard_normal((72, problem.form.cols)).astype(np.float32)
        self._before = rng.standard_normal((72, problem.form.rows)).astype(np.float32)
        scale = rng.uniform(0.5, 1.5, problem.form.cols).astype(np.float32)
        self.norm = (scale, _EPS)
        dense = self._weight.dequantize()
        self._plain = self._x @ dense.T
        first = self._x[:1]
        self._normed = (
            first / np.sqrt(np.mean(first * first) + np.float32(_EPS)) * scale
        ) @ dense.T
        self._placed: dict[
            Layout, tuple[PackedWeight, list[tuple[Part, ...]], list[PackedWeight]]
        ] = {}
        self.copies = max(1, min(_MOST_COPIES, _COLD_BYTES // problem.nbytes))

    def placed(
        self, layout: Layout, copies: int, device: Device
    ) -> tuple[PackedWeight, list[tuple[Part, ...]]]:
        """The weight in an order, and `copies` of it on the device. Some orders are kept."""
        found = self._placed.pop(layout, None)
        if found is None:
            while len(self._placed) >= _KEPT_LAYOUTS:
                del self._placed[next(iter(self._placed))]
            found = (layouts.pack(self._weight, layout), [], [])
        self._placed[layout] = found  # the latest is the last
        packed, placed, held = found
        while len(placed) < copies:
            held.append(PackedWeight(packed.form, layout, packed.data.copy()))
            placed.append(place(held[-1], device))  # which may be read in place
        return packed, placed[:copies]

    def disagreement(
        self, trial: Trial, variant: Variant, tokens: int, *, normed: bool
    ) -> str | None:
        """How far off a variant is, or None when it is right."""
        plain = self._normed if normed else self._plain[:tokens]
        before = None
        wanted = plain
        if self.problem.epilogue is Epilogue.ADD:
            before = self._before[:tokens]
            wanted = plain + before
        elif self.problem.epilogue is Epilogue.SWIGLU:
            gate, up = plain[:, 0::2], plain[:, 1::2]
            wanted = gate / (1 + np.exp(-gate)) * up
        found = trial.run(self._x[:tokens], before)
        off = float(np.abs(found - wanted).max() / np.abs(wanted).max())
        allowed = _HALF_TOLERANCE if variant.tunables.get("fp16") else _TOLERANCE
        if off <= allowed:  # NaN is no agreement
            return None
        return f"wrong: off by {off:.2g} of the largest result, {allowed:g} is allowed"


def _timed(device: Device, trials: list[Trial], tokens: int, seconds: float) -> float:
    """Of one launch, in the best of some rounds over all copies."""
    rounds: list[float] = []
    end = time.perf_counter() + seconds
    while len(rounds) < 3 or time.perf_counter() < end:
        began = time.perf_counter()
        for trial in trials:
            trial.send(tokens)
        device.finish()
        rounds.append((time.perf_counter() - began) / len(trials))
        if len(rounds) >= 2 and sum(rounds) * len(trials) > 20 * seconds:
            break  # far too slow to be worth more
    return min(rounds)


def random_weight(rng: np.random.Generator, form: WeightForm) -> QuantizedWeight:
    """A weight of this form whose packing loses nothing. [rows, cols]"""
    groups = -(-form.cols // form.group)
    centre = 1 << (form.bits - 1)
    codes = rng.integers(1, 2**form.bits, (form.rows, form.cols), dtype=np.uint8)
    spread = rng.uniform(0.5, 1.0, (form.rows, groups)) / (centre * np.sqrt(form.cols))
    scales: F32 = spread.astype(np.float16).astype(np.float32)
    minimums = -centre * scales
    if not form.symmetric:
        off = rng.uniform(0.9, 1.1, scales.shape)
        minimums = (minimums * off).astype(np.float16).astype(np.float32)
    return QuantizedWeight(form.bits, form.group, codes, scales, minimums)

"""Choose the variants of a model's products on one device, within a budget of time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from isthmus.kernels.opencl.capabilities import Capabilities
from isthmus.kernels.opencl.tuned import Tuned
from isthmus.kernels.opencl.variants import TILES, Choices, Variant, default_choices
from isthmus.kernels.tuner.ceiling import Ceiling, best_of
from isthmus.kernels.tuner.child import Child, ChildFailed
from isthmus.kernels.tuner.problem import Problem
from isthmus.kernels.tuner.search import Found, Search
from isthmus.kernels.tuner.trials import CeilingJob, Job, Outcome

_TRIAL_S = 0.03
_MOST_BYTES = 16 << 20
"""Of a weight in a trial; a larger one is more of the same."""
_EQUAL_SHARE = 0.4
"""Of the time is shared equally among the problems; the rest by the bytes of their weights."""

Progress = Callable[[float, str], None]
"""Called with the seconds gone and with what is tried."""


@dataclass(frozen=True, slots=True)
class Line:
    """What was chosen for one form and tile, for people."""

    shape: str
    tile: int
    variant: str
    seconds: float
    default_seconds: float | None
    """None where the default was wrong, or was not tried."""
    rate: float
    unit: str
    """"GB/s" of weights for one token, "GFLOP/s" for several."""
    of_ceiling: float
    """The rate as a part of the device's read bandwidth, or of its multiply-add rate."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """What a run found."""

    device: Capabilities
    ceiling: Ceiling
    found: tuple[Found, ...]

    @property
    def tuned(self) -> Tuned:
        """The choices, as a file has them."""
        return Tuned.of(
            self.device, {found.problem.key: found.choices for found in self.found if found.choices}
        )

    @property
    def rejected(self) -> dict[str, dict[str, str]]:
        """For each form the variants that failed, with their reasons."""
        return {found.problem.key: found.rejected for found in self.found if found.rejected}

    @property
    def unverified_passed(self) -> list[str]:
        """Variants that none of our devices runs, and that were right on this one."""
        return sorted(
            {
                str(variant)
                for found in self.found
                for tile in TILES
                for variant in found.ranked(tile)
                if not variant.verified
            }
            - {variant for found in self.found for variant in found.rejected}
        )

    def lines(self) -> Iterator[Line]:
        """What was chosen, one after the other."""
        default = default_choices(self.device)
        for found in self.found:
            problem = found.problem.part(_MOST_BYTES)
            for tile, variant in found.choices.items():
                if tile == 1 and problem.joined:
                    continue  # it has no part in a step of one token
                seconds = found.seconds(tile, variant)
                before = found.outcomes[tile].get(default.default[tile])
                if tile == 1:
                    rate, unit = 1e-9 * problem.nbytes / seconds, "GB/s"
                    most = self.ceiling.read_gb_s
                else:
                    products = 2 * problem.form.rows * problem.form.cols * tile
                    rate, unit = 1e-9 * products / seconds, "GFLOP/s"
                    most = self.ceiling.multiply_gflop_s
                yield Line(
                    shape=found.problem.key,
                    tile=tile,
                    variant=str(variant),
                    seconds=seconds,
                    default_seconds=before.seconds if before else None,
                    rate=rate,
                    unit=unit,
                    of_ceiling=rate / most,
                )


def tune(
    child: Child,
    device: Capabilities,
    problems: Sequence[Problem],
    known: Choices,
    *,
    seconds: float,
    progress: Progress,
) -> Tuning:
    """Search for about `seconds`. `child` runs an `Evaluator` on `device`; `known` is in use now.

    Raises `BackendUnavailable` when the device cannot be opened, `ChildFailed` when it cannot even
    run the simplest kernels.
    """
    began = time.monotonic()
    ceiling: Ceiling = child.ask(CeilingJob())
    found: list[Found] = []
    whole = sum(problem.count * problem.nbytes for problem in problems)
    at = 0.0
    for problem in problems:
        part = problem.count * problem.nbytes / whole
        share = _EQUAL_SHARE / len(problems) + (1 - _EQUAL_SHARE) * part
        start, end = at * seconds, (at + share) * seconds
        at += share

        def attempt(asked: Problem, variant: Variant, tile: int) -> Outcome:
            gone = time.monotonic() - began
            progress(gone, f"{asked.key}, {tile} token{'s' * (tile > 1)}: {variant}")
            job = Job(asked.part(_MOST_BYTES), str(variant), tile, _TRIAL_S)
            try:
                outcome = child.ask(job)
            except ChildFailed as error:
                return Outcome(error=str(error))
            if not isinstance(outcome, Outcome):
                raise TypeError("the child answered something else")
            return outcome

        def over(start: float = start, end: float = end) -> float:
            return (time.monotonic() - began - start) / (end - start)

        first = _first(problem, device, known, found)
        found.append(Search(problem, device, attempt, over, first).run())
        ceiling = best_of(ceiling, child.ask(CeilingJob()))
    return Tuning(device, ceiling, tuple(found))


def _first(
    problem: Problem, device: Capabilities, known: Choices, found: Sequence[Found]
) -> dict[int, list[Variant]]:
    """What to begin with: the default, what is in use, and what was chosen for other forms."""
    default = default_choices(device)
    return {
        tile: [
            default.default[tile],
            known.variant(problem.form, tile),
            *(other.choices[tile] for other in reversed(found) if tile in other.choices),
        ]
        for tile in TILES
    }

"""A plan that outlives its backend: when one fails, the next goes on in its place.

The keys and values go with the backend that held them. Whoever runs the plan is told so by
`PlanReplaced` and computes them again from the tokens, which no backend holds.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from isthmus.core.errors import IsthmusError
from isthmus.engine.resident import ResidentPlan
from isthmus.kernels.base import Backend, Batch, KVShape, Op, Step
from isthmus.kernels.errors import BackendLost, BackendUnavailable, InvalidResult

_log = logging.getLogger(__name__)

Loaded = tuple[Backend, Sequence[Op]]
"""A backend, and the model's operators over weights that it packed."""


class PlanReplaced(Exception):
    """The step was not computed: another backend goes on, whose KV pool is empty."""


@dataclass(frozen=True, slots=True, eq=False)
class Runner:
    """A backend that a model can run on, made and loaded when its turn comes."""

    name: str
    load: Callable[[], Loaded]
    """Raises the engine's errors for the model and `BackendUnavailable` for the backend."""
    unloads: bool = True
    """Whether the weights may leave memory while nobody needs them, to be loaded again."""


@dataclass(frozen=True, slots=True)
class Fallback:
    """From which backend to which, and why."""

    source: str
    target: str
    reason: str
    """The error's kind: `device_lost`, `out_of_memory`, … ; `error` when it has none."""


class FallbackPlan:
    """A `Plan` on the first of `runners` that works, and on the next of them when that fails.

    With one runner alone it is strict: that one's errors are told.
    """

    def __init__(self, runners: Sequence[Runner], *, kv: KVShape, max_tokens: int) -> None:
        """Plan on the first runner that can. Raises `BackendUnavailable` when none can."""
        self._left = deque(runners)
        self._strict = len(runners) == 1
        self._kv = kv
        self._max_tokens = max_tokens
        self._reasons: dict[str, str] = {}
        self.fallbacks: Counter[Fallback] = Counter()
        """How often each has happened."""
        self._backend, self._plan = self._next_plan()

    @property
    def backend(self) -> Backend:
        """The backend in use."""
        return self._backend

    @property
    def loaded(self) -> bool:
        """Whether it is in memory."""
        return self._plan.loaded

    @property
    def max_tokens(self) -> int:
        """The most tokens that one batch may hold."""
        return self._max_tokens

    def run(self, batch: Batch) -> Step:
        """Run one step, in memory again if need be.

        Raises `PlanReplaced` when the backend failed and another one goes on, `BackendLost` or
        `BackendUnavailable` when there is none, and what loading the model raises.
        """
        try:
            step = self._plan.run(batch)
            # The largest of a row with a NaN is NaN.
            if step.logits.size and not np.isfinite(step.logits.max(axis=1)).all():
                raise InvalidResult(f"the {self._backend.name} backend returned no numbers")
        except Exception as error:
            raise self._failed(error) from error
        return step

    def copy_block(self, source: int, target: int) -> None:
        """Copy a block of the pool. Raises as `run`."""
        try:
            self._plan.copy_block(source, target)
        except Exception as error:
            raise self._failed(error) from error

    def unload(self) -> None:
        """Free the plan, and the weights when they can be loaded again."""
        with contextlib.suppress(Exception):  # a device that is gone has nothing left to free
            self._plan.unload()

    def close(self) -> None:
        """Free everything."""
        with contextlib.suppress(Exception):
            self._plan.close()

    def _failed(self, error: Exception) -> Exception:
        """Go on from `error` of a step; what to raise in its place."""
        if not _is_the_backends(error):
            return error
        name = self._backend.name
        # The type alone: the text of an error that we did not write could quote a user's.
        told = error.message if isinstance(error, IsthmusError) else type(error).__name__
        if self._left:
            self.close()
        else:
            self.unload()  # the next request tries once more
        if self._strict:
            own = isinstance(error, IsthmusError)
            return error if own else BackendLost(f"the {name} backend failed ({told})")
        self._reasons[name] = told
        if not self._left:
            return BackendUnavailable("every backend has failed", self._reasons)
        self._count(name, error, told)
        try:
            self._backend, self._plan = self._next_plan()
        except IsthmusError as none_left:
            return none_left
        return PlanReplaced()

    def _next_plan(self) -> tuple[Backend, ResidentPlan]:
        """The next runner's plan. Raises `BackendUnavailable`, or what loading the model raises."""
        while True:
            runner = self._left.popleft()
            try:
                backend, ops = runner.load()
                plan = ResidentPlan(
                    backend,
                    ops,
                    kv=self._kv,
                    max_tokens=self._max_tokens,
                    reload=_reload(runner) if runner.unloads else None,
                )
            except Exception as error:
                if self._strict or not _is_the_backends(error):
                    raise
                # No request's text is near yet, so the whole message may be told.
                self._reasons[runner.name] = _message(runner.name, error)
                if not self._left:
                    raise BackendUnavailable("no backend works here", self._reasons) from error
                self._count(runner.name, error, self._reasons[runner.name])
                continue
            return backend, plan

    def _count(self, source: str, error: Exception, told: str) -> None:
        target = self._left[0].name
        self.fallbacks[Fallback(source, target, _reason(error))] += 1
        _log.warning("the %s backend failed: %s; going on with %s", source, told, target)


def _reload(runner: Runner) -> Callable[[], Sequence[Op]]:
    return lambda: runner.load()[1]


def _is_the_backends(error: Exception) -> bool:
    """Whether another backend could do better: a model that is gone is gone for all."""
    return not isinstance(error, IsthmusError) or isinstance(
        error, BackendLost | BackendUnavailable
    )


def _reason(error: Exception) -> str:
    if isinstance(error, BackendLost | BackendUnavailable):
        return error.kind
    return "out_of_memory" if isinstance(error, MemoryError) else "error"


def _message(name: str, error: Exception) -> str:
    if isinstance(error, BackendUnavailable):
        return error.reasons.get(name, error.message)
    return str(error) or type(error).__name__

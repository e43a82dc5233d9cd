"""A plan that outlives its backend: when one fails, the next goes on in its place.

The keys and values go with the backend that held them. Whoever runs the plan is told so by
`PlanReplaced` and computes them again from the tokens, which no backend holds.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from isthmus.core.errors import IsthmusError
from isthmus.engine.resident import ResidentPlan
from isthmus.engine.split import SplitBackend
from isthmus.kernels import LAST_RESORT
from isthmus.kernels.base import Backend, Batch, KVShape, Op, Step
from isthmus.kernels.checks import check_logits
from isthmus.kernels.errors import BackendLost, BackendUnavailable

_log = logging.getLogger(__name__)

RETRY_S = 60.0
"""A backend whose failure may pass is tried again after this long, and then after twice as long."""
_MOST_RETRY_S = 3600.0
SLOWLY = "which takes seconds for a token; isthmus doctor tells what is wrong with the others"
"""What there is to say of the last resort."""
RECOVERED = "recovered"
"""The reason of going back to a backend that had been lost."""

Loaded = tuple[Backend, Sequence[Op]]
"""A backend, and the model's operators over weights that it packed."""


class PlanReplaced(Exception):
    """The step was not computed: another backend goes on, whose KV pool is empty."""


class Steps(Protocol):
    """What there is to run, for whoever heeds that it may be replaced."""

    @property
    def max_tokens(self) -> int:
        """The most tokens that one batch may hold."""
        ...

    def run(self, batch: Batch) -> Step:
        """Run one step. Raises `PlanReplaced` when the pool is another, and empty."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Runner:
    """A backend that a model can run on, made and loaded when its turn comes."""

    name: str
    load: Callable[[], Loaded]
    """Raises the engine's errors for the model and `BackendUnavailable` for the backend."""
    unloads: bool = True
    """Whether the weights may leave memory while nobody needs them, to be loaded again."""
    renew: Callable[[], Loaded] | None = None
    """As `load`, with a backend made anew after the loss of the first; None: it stays lost."""

    @classmethod
    def of(
        cls,
        backend: Backend,
        ops: Sequence[Op],
        *,
        reload: Callable[[], Sequence[Op]] | None = None,
        renew: Callable[[], Loaded] | None = None,
    ) -> Runner:
        """What runs a model that is loaded already."""
        loaded = [ops]

        def load() -> Loaded:
            # Given away once: the plan alone holds the weights, so that they can go.
            if not loaded and reload is not None:
                loaded.append(reload())
            return backend, loaded.pop()

        return cls(backend.name, load, unloads=reload is not None, renew=renew)


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
        self._runners = tuple(runners)
        self._strict = len(runners) == 1
        self._kv = kv
        self._max_tokens = max_tokens
        self._reasons: dict[str, str] = {}
        self.fallbacks: Counter[Fallback] = Counter()
        """How often each has happened."""
        self._lost: int | None = None
        """The best of the runners that may come back."""
        self._pause_s, self._due = RETRY_S, 0.0
        self._broken = False
        """The last runner failed: it has to be made anew."""
        self._at = 0
        self._backend, self._plan = self._next_plan(0)

    @property
    def backend(self) -> Backend:
        """The backend in use."""
        return self._backend

    @property
    def prefill_backend(self) -> str:
        """The name of what computes prompts."""
        backend = self._backend
        return backend.prefill.name if isinstance(backend, SplitBackend) else backend.name

    @property
    def decode_backend(self) -> str:
        """The name of what writes answers."""
        backend = self._backend
        return backend.decode.name if isinstance(backend, SplitBackend) else backend.name

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
            if self._broken:
                self._backend, self._plan = self._made_anew(self._at)
                self._broken = False
            step = self._plan.run(batch)
            check_logits(step.logits, self._backend.name)
            return step
        except Exception as error:
            raise self._failed(error) from error

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

    @property
    def retry_in_s(self) -> float | None:
        """Seconds until a lost backend is worth another try; None: none that could come back."""
        return None if self._lost is None else max(0.0, self._due - time.monotonic())

    def retry(self) -> bool:
        """Try the lost backend on a token; True when it goes on, with an empty KV pool."""
        if self._lost is None:
            return False
        name, lost = self._runners[self._lost].name, self._lost
        self._wait_longer()
        try:
            backend, plan = self._made_anew(lost)
            try:
                check_logits(plan.run(_one_token()).logits, backend.name)
            except BaseException:
                with contextlib.suppress(Exception):
                    plan.close()
                raise
        except Exception as error:
            _log.info("the %s backend still fails: %s", name, _message(name, error))
            if not _may_pass(error):
                self._lost = None
            return False
        self.close()
        self.fallbacks[Fallback(self._backend.name, backend.name, RECOVERED)] += 1
        _log.warning("the %s backend works again and goes on", backend.name)
        self._at, self._lost = lost, None
        self._backend, self._plan = backend, plan
        return True

    def _wait_longer(self) -> None:
        self._due = time.monotonic() + self._pause_s
        self._pause_s = min(2 * self._pause_s, _MOST_RETRY_S)

    def _failed(self, error: Exception) -> Exception:
        """Go on from `error` of a step; what to raise in its place."""
        if not _is_the_backends(error):
            return error
        name = self._backend.name
        # The type alone: the text of an error that we did not write could quote a user's.
        told = error.message if isinstance(error, IsthmusError) else type(error).__name__
        last = self._at + 1 == len(self._runners)
        self._broken = last and self._runners[self._at].renew is not None
        if last and not self._broken:
            self.unload()  # the next request tries once more
        else:
            self.close()
        if self._strict:
            own = isinstance(error, IsthmusError)
            return error if own else BackendLost(f"the {name} backend failed ({told})")
        self._reasons[name] = told
        if last:
            return BackendUnavailable("every backend has failed", self._reasons)
        self._give_up(error, told)
        try:
            self._backend, self._plan = self._next_plan(self._at + 1)
        except IsthmusError as none_left:
            self._broken = True
            return none_left
        return PlanReplaced()

    def _next_plan(self, at: int) -> tuple[Backend, ResidentPlan]:
        """The plan of the first runner from number `at` on that can.

        Raises `BackendUnavailable`, or what loading the model raises.
        """
        for index, runner in enumerate(self._runners[at:], at):
            self._at = index
            try:
                return self._made(runner, runner.load)
            except Exception as error:
                if self._strict or not _is_the_backends(error):
                    raise
                # No request's text is near yet, so the whole message may be told.
                self._reasons[runner.name] = _message(runner.name, error)
                if index + 1 == len(self._runners):
                    raise BackendUnavailable("no backend works here", self._reasons) from error
                self._give_up(error, self._reasons[runner.name])
        raise ValueError("there is no backend to plan on")

    def _made_anew(self, at: int) -> tuple[Backend, ResidentPlan]:
        runner = self._runners[at]
        return self._made(runner, runner.renew or runner.load)

    def _made(self, runner: Runner, load: Callable[[], Loaded]) -> tuple[Backend, ResidentPlan]:
        backend, ops = load()
        reload = _reload(runner) if runner.unloads else None
        plan = ResidentPlan(backend, ops, kv=self._kv, max_tokens=self._max_tokens, reload=reload)
        return backend, plan

    def _give_up(self, error: Exception, told: str) -> None:
        """Count and log that the runner at hand failed and the next is to go on."""
        failed, target = self._runners[self._at], self._runners[self._at + 1].name
        if self._lost is None and _may_pass(error) and failed.renew is not None:
            self._lost = self._at
            self._wait_longer()
        self.fallbacks[Fallback(failed.name, target, _reason(error))] += 1
        how = f", {SLOWLY}" if target == LAST_RESORT else ""
        _log.warning(
            "the %s backend failed: %s; going on with %s%s", failed.name, told, target, how
        )


def _reload(runner: Runner) -> Callable[[], Sequence[Op]]:
    return lambda: runner.load()[1]


def _one_token() -> Batch:
    """The first token of the vocabulary, in the first block."""
    return Batch.of_one([0], [0], greedy=True)


def _may_pass(error: Exception) -> bool:
    return isinstance(error, MemoryError) or (isinstance(error, BackendLost) and error.may_pass)


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

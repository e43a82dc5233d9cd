"""From a model's name to what runs it: the backend that is chosen, and those that stand by."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

from isthmus.core import paths
from isthmus.engine.errors import ModelUnavailable
from isthmus.engine.fallback import SLOWLY, Fallback, Loaded, Runner
from isthmus.engine.model import ModelConfig, TokenizerSpec
from isthmus.engine.phases import preferred
from isthmus.engine.prepared import LoadedModel, load
from isthmus.engine.sources.catalogue import locate, resolve, size_of
from isthmus.engine.split import SplitBackend
from isthmus.engine.timing import Phases
from isthmus.kernels import BACKENDS, LAST_RESORT, create
from isthmus.kernels.base import Backend
from isthmus.kernels.errors import BackendUnavailable

_log = logging.getLogger(__name__)

_AS_FLOATS = 8
"""How much larger a model of 4 bits gets in float32."""
Choose = Callable[[Path, int | None], Phases | None]
"""Says which backends suit the model at a path and that many threads; None: the usual order."""


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """A model, loaded for the backend that is to run it."""

    model: LoadedModel
    backend: Backend
    reload: Callable[[], LoadedModel]
    renew: Callable[[], Loaded]
    """Makes the backend anew, after the loss of the first."""
    standbys: tuple[Runner, ...] = ()
    """Who goes on when it fails, in order."""
    passed_over: Counter[Fallback] | None = None
    """Better ones that do not work here."""


def open_model(
    model: str, *, backend: str = "auto", threads: int | None = None
) -> tuple[LoadedModel, Backend]:
    """Find a model by catalogue name or path and load it for a backend. As `Engine.open`."""
    made = create(backend, threads=threads, cache=paths.cache_dir(), tuned=paths.tuned_dir())
    return load_model(model, made), made


def load_model(model: str, backend: Backend) -> LoadedModel:
    """Find a model by catalogue name or path and load it. As `Engine.open`."""
    name, path = _find(model)
    return replace(load(path, backend), name=name)


def open_runners(
    model: str, *, backend: str, threads: int | None, choose: Choose = preferred
) -> Opened:
    """Open a model with all that may run it. As `Engine.open`."""
    _, path = _find(model)
    if backend != "auto":
        loaded, made = open_model(model, backend=backend, threads=threads)
        same = _Identity.of(loaded)
        renew = partial(_load, model, backend, threads, same)
        return Opened(loaded, made, partial(_load_again, model, made, same), renew)
    phases = choose(path, threads)
    chosen = () if phases is None else (phases.decode, phases.prefill)
    names = [*dict.fromkeys([*chosen, *BACKENDS])]
    first = chosen[0] if chosen else "auto"
    made = create(first, threads=threads, cache=paths.cache_dir(), tuned=paths.tuned_dir())
    if made.name == LAST_RESORT:
        _check_memory(path)
        _log.warning("no other backend works here: going on with %s, %s", made.name, SLOWLY)
    loaded = load_model(model, made)
    at = names.index(made.name)
    same = _Identity.of(loaded)
    standbys = [_standby(model, name, threads, same) for name in names[at:]]
    reload = partial(_load_again, model, made, same)
    passed = pairwise(names[: at + 1])
    passed_over = Counter(Fallback(*pair, BackendUnavailable.kind) for pair in passed)
    if phases is None or phases.prefill == phases.decode:
        return Opened(loaded, made, reload, standbys[0].load, tuple(standbys[1:]), passed_over)
    both = _with_prefill(model, phases.prefill, threads, made, same)
    renew = partial(_load_both, model, phases, threads, same)
    return Opened(loaded, both, reload, renew, tuple(standbys), passed_over)


@dataclass(frozen=True, slots=True, eq=False)
class _Identity:
    """What of a model an engine is built around, and may not change under it."""

    config: ModelConfig
    tokenizer: TokenizerSpec

    @classmethod
    def of(cls, model: LoadedModel) -> _Identity:
        return cls(model.config, model.tokenizer)

    def check(self, again: LoadedModel) -> LoadedModel:
        """`again`, with new weights perhaps. Raises `ModelUnavailable` for another model."""
        if again.config != self.config or not self.tokenizer.same_as(again.tokenizer):
            raise ModelUnavailable(
                f"the file of model {again.name!r} was replaced by another model's while it was "
                "out of memory; restart to use that one, or put the first back"
            )
        return again


def _standby(model: str, backend: str, threads: int | None, same: _Identity) -> Runner:
    load = partial(_load, model, backend, threads, same)
    return Runner(backend, load, renew=load)


def _with_prefill(
    model: str, prefill: str, threads: int | None, decode: Backend, same: _Identity
) -> SplitBackend:
    reads = create(prefill, threads=threads, cache=paths.cache_dir(), tuned=paths.tuned_dir())
    return SplitBackend(reads, decode, lambda: _load_again(model, reads, same).ops)


def _load_both(model: str, phases: Phases, threads: int | None, same: _Identity) -> Loaded:
    made, ops = _load(model, phases.decode, threads, same)
    return _with_prefill(model, phases.prefill, threads, made, same), ops


def _load_again(model: str, backend: Backend, same: _Identity) -> LoadedModel:
    return same.check(load_model(model, backend))


def _load(model: str, backend: str, threads: int | None, same: _Identity) -> Loaded:
    if backend == LAST_RESORT:
        _check_memory(_find(model)[1])
    loaded, made = open_model(model, backend=backend, threads=threads)
    return made, same.check(loaded).ops


def _check_memory(path: Path) -> None:
    """Refuse weights in float32 that memory has no room for: the system would end the process.

    Raises `BackendUnavailable`.
    """
    import psutil

    need, free = _AS_FLOATS * size_of(path), psutil.virtual_memory().available
    if need > free:
        reason = f"its weights take about {need >> 20} MB, and {free >> 20} MB are free"
        raise BackendUnavailable(f"{LAST_RESORT} does not fit", {LAST_RESORT: reason})


def _find(model: str) -> tuple[str, Path]:
    entry = resolve(model)
    path = locate(entry)
    if path is None:
        raise ModelUnavailable(
            f"model {entry.name!r} is not on this machine; get it: isthmus model pull {entry.name}"
        )
    return entry.name, path

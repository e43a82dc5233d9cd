"""From a model's name to what runs it: the backend that is chosen, and those that stand by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

from isthmus.core import paths
from isthmus.engine.catalogue import locate, resolve, size_of
from isthmus.engine.errors import ModelUnavailable
from isthmus.engine.fallback import Fallback, Loaded, Runner
from isthmus.engine.model import ModelConfig, TokenizerSpec
from isthmus.engine.phases import preferred
from isthmus.engine.prepared import LoadedModel, load
from isthmus.engine.split import SplitBackend
from isthmus.engine.timing import Phases
from isthmus.kernels import BACKENDS, LAST_RESORT, create
from isthmus.kernels.base import Backend
from isthmus.kernels.errors import BackendUnavailable

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
        return Opened(loaded, made, partial(_load_again, model, made, _Identity.of(loaded)))
    phases = choose(path, threads)
    chosen = () if phases is None else (phases.decode, phases.prefill)
    names = [*dict.fromkeys([*chosen, *BACKENDS])]
    loaded, made = open_model(model, backend=chosen[0] if chosen else "auto", threads=threads)
    at = names.index(made.name)
    same = _Identity.of(loaded)
    standbys = [Runner(name, partial(_load, model, name, threads, same)) for name in names[at:]]
    reload = partial(_load_again, model, made, same)
    passed = pairwise(names[: at + 1])
    passed_over = Counter(Fallback(*pair, BackendUnavailable.kind) for pair in passed)
    if phases is None or phases.prefill == phases.decode:
        return Opened(loaded, made, reload, tuple(standbys[1:]), passed_over)
    reads = create(
        phases.prefill, threads=threads, cache=paths.cache_dir(), tuned=paths.tuned_dir()
    )
    both = SplitBackend(reads, made, lambda: _load_again(model, reads, same).ops)
    return Opened(loaded, both, reload, tuple(standbys), passed_over)


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

"""How fast each backend runs a model here, measured once and kept: what the choice rests on.

A measurement runs in a process of its own (`python -m isthmus.engine.timing`):
a driver that crashes takes nothing with it, and its memory is gone afterwards.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from isthmus.kernels.base import BLOCK_TOKENS, Backend, Batch, KVShape, KVType, Op, Plan

CHUNK = 128
_DECODED = 8
_PASSES = 3
_LIMIT_S = 120
_FORMAT = 1
SPLIT_GAIN = 1.15
"""Two backends hold the weights twice: how much faster a conversation must be for it."""
_PROMPT, _ANSWER = 512, 128
"""The conversation that is compared."""


@dataclass(frozen=True, slots=True)
class Timing:
    """One backend's speed with one model."""

    prefill_tok_s: float
    """Of a chunk of a prompt."""
    decode_tok_s: float
    """Behind it, one token a step."""
    copy_block_s: float
    """To take a block of keys and values out of its pool and to put one in."""


@dataclass(frozen=True, slots=True)
class Phases:
    """Which backend computes prompts, and which writes answers."""

    prefill: str
    decode: str


def choose(timings: Mapping[str, Timing]) -> Phases:
    """The backends with which a conversation is over soonest; the first of equals.

    Two are taken where they are faster by `SPLIT_GAIN` with the copying of blocks included: the
    prompt goes over once, and the answer comes back for the next turn.
    """

    def seconds(prefill: str, decode: str) -> float:
        reads, writes = timings[prefill], timings[decode]
        alone = _PROMPT / reads.prefill_tok_s + _ANSWER / writes.decode_tok_s
        if prefill == decode:
            return alone
        # A copy is one backend's half and the other's.
        copy_s = (reads.copy_block_s + writes.copy_block_s) / 2
        return SPLIT_GAIN * (alone + copy_s * (_PROMPT + _ANSWER) / BLOCK_TOKENS)

    pairs = [(name, name) for name in timings]
    pairs += [(a, b) for a in timings for b in timings if a != b]
    return Phases(*min(pairs, key=lambda pair: seconds(*pair)))


def time_plan(plan: Plan, vocab: int) -> Timing:
    """Run a chunk and some tokens behind it, some times each; the best counts."""
    tokens = np.arange(CHUNK + _DECODED, dtype=np.int32) % vocab
    blocks = np.arange(-(-(CHUNK + _DECODED) // BLOCK_TOKENS), dtype=np.int32)

    def run_s(first: int, last: int) -> float:
        batch = Batch.of_one(tokens[first:last], blocks, first=first, wanted=1, greedy=True)
        began = time.perf_counter()
        plan.run(batch)
        return time.perf_counter() - began

    def copy_s() -> float:
        began = time.perf_counter()
        plan.write_block(0, plan.read_block(0))
        return time.perf_counter() - began

    # The first of each compiles and warms up; the best of the others is least disturbed.
    chunk_s = min([run_s(0, CHUNK) for _ in range(1 + _PASSES)][1:])
    token_s = min([run_s(CHUNK + i, CHUNK + i + 1) for i in range(_DECODED)][1:])
    return Timing(CHUNK / chunk_s, 1 / token_s, min(copy_s() for _ in range(_PASSES)))


def time_backend(ops: tuple[Op, ...], backend: Backend, vocab: int) -> Timing:
    """Measure a loaded model on a backend."""
    kv = KVShape.for_tokens(CHUNK + _DECODED, KVType.INT8)
    plan = backend.plan(ops, kv=kv, max_tokens=CHUNK)
    try:
        return time_plan(plan, vocab)
    finally:
        plan.close()


def measure(model: Path, backend: str, threads: int | None) -> Timing:
    """`time_backend` in a process of its own. Raises `RuntimeError` when that fails."""
    import subprocess  # an engine that has measured before has no use for it

    command = [sys.executable, "-m", "isthmus.engine.timing"]
    try:
        done = subprocess.run(
            [*command, str(model), backend, str(threads or 0)],
            capture_output=True,
            text=True,
            check=False,
            timeout=_LIMIT_S,
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"it took more than {_LIMIT_S} s") from None
    if done.returncode != 0:
        raise RuntimeError(f"it ended with status {done.returncode}")
    return Timing(**json.loads(done.stdout.splitlines()[-1]))


class Timings:
    """What was measured, in a file of one line each. Safe to delete."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, model: Path, backend: Backend, threads: int | None) -> Timing | None:
        """What was measured of this model on this backend, device and driver; None: nothing."""
        with contextlib.suppress(ValueError, TypeError, KeyError):
            return Timing(**self._all()[_key(model, backend, threads)])
        return None

    def put(self, model: Path, backend: Backend, threads: int | None, timing: Timing) -> None:
        """Keep a measurement. A disk that takes none costs another one at the next start."""
        lines = {**self._all(), _key(model, backend, threads): asdict(timing)}
        told = ",\n".join(f"{json.dumps(key)}: {json.dumps(lines[key])}" for key in sorted(lines))
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(
                "w", dir=self._path.parent, encoding="utf-8", delete=False
            ) as draft:
                draft.write(f'{{"format": {_FORMAT}, "timings": {{\n{told}\n}}}}\n')
            Path(draft.name).replace(self._path)

    def _all(self) -> dict[str, dict[str, float]]:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            read = json.loads(self._path.read_text("utf-8"))
            if read["format"] == _FORMAT:
                return dict(read["timings"])
        return {}


def _key(model: Path, backend: Backend, threads: int | None) -> str:
    stat = model.resolve().stat()
    version = f"{stat.st_size}-{stat.st_mtime_ns}"
    parts = (backend.name, backend.device, backend.driver, backend.layout or "", threads or "")
    return " | ".join(map(str, (*parts, os.fspath(model.resolve()), version)))


def known_or_measured(
    model: Path,
    backends: Mapping[str, Backend],
    threads: int | None,
    timings: Timings,
    *,
    measured: Callable[[Path, str, int | None], Timing] = measure,
    failed: Callable[[str, str], None],
) -> dict[str, Timing]:
    """The timings of `backends`, those measured now that are not known.

    One whose measurement fails is left out, and `failed` is told its name and the reason.
    """
    found = {}
    for name, backend in backends.items():
        timing = timings.get(model, backend, threads)
        if timing is None:
            try:
                timing = measured(model, name, threads)
            except (RuntimeError, OSError, ValueError) as error:
                failed(name, str(error))
                continue
            timings.put(model, backend, threads, timing)
        found[name] = timing
    return found


def main() -> None:
    """Measure and print one JSON object."""
    from isthmus.core import paths
    from isthmus.engine.prepared import load
    from isthmus.kernels import create

    model, name, threads = sys.argv[1:]
    backend = create(
        name, threads=int(threads) or None, cache=paths.cache_dir(), tuned=paths.tuned_dir()
    )
    loaded = load(Path(model), backend)
    timing = time_backend(loaded.ops, backend, loaded.config.vocab)
    sys.stdout.write(json.dumps(asdict(timing)) + "\n")


if __name__ == "__main__":
    main()

"""Measure contenders in turns and sum up: medians, with the spread of the runs."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from isthmus.core.errors import InternalError, Unavailable
from isthmus.engine.bench import base
from isthmus.engine.bench.base import Contender, Hello, Session
from isthmus.engine.bench.prompts import EDITING
from isthmus.engine.errors import ModelUnavailable
from isthmus.engine.sources.catalogue import locate, resolve
from isthmus.kernels import bandwidth
from isthmus.kernels.native import default_threads

PEER_VARIABLE = "ISTHMUS_PEER_PYTHON"
TOLERANCE = 1e-3
"""What the logits of two ways to the same token may differ by in float32."""

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Figure:
    """What the runs of one figure gave."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        """From the smallest to the largest, as a part of the median."""
        return (max(self.values) - min(self.values)) / self.median


@dataclass(slots=True)
class Result:
    """One contender's figures, by name: `prefill_tok_s.512`, `rss_mb`, … ."""

    name: str
    hello: Hello
    _values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, key: str, value: float) -> None:
        """One run's value."""
        self._values.setdefault(key, []).append(value)

    @property
    def figures(self) -> dict[str, Figure]:
        """All of them, in the order of measuring."""
        return {key: Figure(tuple(values)) for key, values in self._values.items()}

    def table(self, prefix: str) -> dict[str, float]:
        """The medians of `prefix.N`, by N."""
        return {n: round(figure.median, 2) for n, figure in self._under(prefix).items()}

    def across(self, prefix: str) -> Figure | None:
        """The medians of `prefix.N` for every N, as one figure; `None` when there are none."""
        found = tuple(figure.median for figure in self._under(prefix).values())
        return Figure(found) if found else None

    def _under(self, prefix: str) -> dict[str, Figure]:
        start = f"{prefix}."
        figures = self.figures.items()
        return {key.removeprefix(start): f for key, f in figures if key.startswith(start)}


@dataclass(frozen=True, slots=True)
class Report:
    """Ours first, then the peers; what the machine's memory gives."""

    model: str
    results: tuple[Result, ...]
    read_gb_s: Figure

    @property
    def ours(self) -> Result:
        """The engine's own figures."""
        return self.results[0]

    def mbu(self, result: Result) -> float | None:
        """The part of the read bandwidth that decoding at a context of 256 uses for weights."""
        decode, size = result.figures.get("decode_tok_s.256"), result.hello.bytes_per_token
        if decode is None or size is None:
            return None
        return size * decode.median / 1e9 / self.read_gb_s.median

    def ratios(self, peer: Result) -> dict[str, float]:
        """Ours to the peer's by figure: of speeds above 1 is faster, of sizes below 1 smaller."""
        theirs = peer.figures
        return {
            key: round(figure.median / theirs[key].median, 3)
            for key, figure in self.ours.figures.items()
            if key in theirs
        }


def engine_contender(model: str, backend: str, threads: int) -> Contender:
    """The engine itself."""
    run = (sys.executable, "-m", "isthmus.engine.bench.ours")
    asked = (model, backend, str(threads))
    generate = ("--prompt", base.FIRST_PROMPT, "--max-tokens", "1", "--temperature", "0")
    options = ("--model", model, "--backend", backend, "--threads", str(threads))
    return Contender(
        "isthmus",
        serve=(*run, "serve", *asked),
        memory=(*run, "memory", *asked),
        first_token=(sys.executable, "-m", "isthmus.cli.main", "generate", *generate, *options),
    )


def peer_python(given: Path | None = None) -> Path:
    """The interpreter that has llama-cpp-python. Raises `Unavailable` with the way to get it."""
    named = given or os.environ.get(PEER_VARIABLE)
    if named:
        return Path(named)
    if importlib.util.find_spec("llama_cpp") is not None:
        return Path(sys.executable)
    beside = Path(sys.prefix).parent / ".venv-peers" / "bin" / "python"
    if beside.is_file():
        return beside
    raise Unavailable(
        "llama-cpp-python is not installed; run `make bench-peers`, or name an interpreter that "
        f"has it with --peer-python or {PEER_VARIABLE}"
    )


def peer_command(python: Path, what: str, *arguments: str) -> tuple[str, ...]:
    """The command that asks the peer's program for something."""
    return (str(python), str(Path(__file__).with_name("peer.py")), what, *arguments)


def _peer(name: str, python: Path, path: Path, threads: int, context: int) -> Contender:
    asked = (str(path), str(threads))
    longest = max(base.measurable(context)["decode"])
    return Contender(
        name,
        serve=peer_command(python, "serve", *asked, str(context)),
        memory=peer_command(python, "memory", *asked, str(context), str(longest)),
        first_token=peer_command(python, "first_token", *asked, base.FIRST_PROMPT),
    )


@contextlib.contextmanager
def _peers(python: Path, model: str, threads: int, context: int) -> Iterator[list[Contender]]:
    """llama.cpp on the same file, and on its own Q4_0 of the same weights where it can make one."""
    path = model_path(model)
    with tempfile.TemporaryDirectory(prefix="isthmus-bench-") as folder:
        found = [_peer("llama.cpp", python, path, threads, context)]
        own = Path(folder) / "q4_0.gguf"
        command = peer_command(python, "quantize", str(path), str(own), str(threads))
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            found.append(_peer("llama.cpp Q4_0", python, own, threads, context))
        yield found


def model_path(model: str) -> Path:
    """The model's file. Raises `ModelUnavailable`."""
    entry = resolve(model)
    path = locate(entry)
    if path is None:
        raise ModelUnavailable(f"get the model first: isthmus model pull {entry.name}")
    return path


def measure(
    model: str,
    *,
    backend: str = "auto",
    threads: int | None = None,
    runs: int = 5,
    peer: Path | None = None,
    progress: Progress = lambda _: None,
) -> Report:
    """Measure the engine and, when `peer` is its interpreter, llama.cpp, run by run in turns.

    Raises the errors of `Engine.open`, and `InternalError` when greedy tokens are not those of
    the full head or a contender fails.
    """
    count = threads or default_threads()
    ours = engine_contender(model, backend, count)
    path = model_path(model)
    progress("checking tokens")
    _check(model, backend, count)
    with contextlib.ExitStack() as stack:
        sessions = [(ours, stack.enter_context(Session(ours)))]
        context = min(sessions[0][1].hello.context, base.needed_context())
        if peer is not None:
            progress("quantizing for the peer")
            others = stack.enter_context(_peers(peer, model, count, context))
            sessions += [(other, stack.enter_context(Session(other))) for other in others]
        results = [Result(contender.name, session.hello) for contender, session in sessions]
        read = []
        for run in range(runs):
            progress(f"run {run + 1} of {runs}")
            read.append(bandwidth.measure(count))
            _run(sessions, results, base.measurable(context))
    return Report(path.name, tuple(results), Figure(tuple(read)))


def _check(model: str, backend: str, threads: int) -> None:
    command = (sys.executable, "-m", "isthmus.engine.bench.ours", "check")
    found = base.last_object(
        subprocess.run(
            [*command, model, backend, str(threads)], stdout=subprocess.PIPE, text=True, check=False
        ).stdout,
        "isthmus",
    )
    if found["shortfall"] > TOLERANCE:
        raise InternalError("greedy tokens are not those of the full head: the figures are void")


def _run(
    sessions: Sequence[tuple[Contender, Session]],
    results: Sequence[Result],
    lengths: base.Lengths,
) -> None:
    """One run of everything, each figure of all contenders one after the other."""
    for (contender, _), result in zip(sessions, results, strict=True):
        for key, value in base.fresh(contender).items():
            result.add(key, value)
        result.add("first_token_s", base.first_token_s(contender))
    for what, counts in lengths.items():
        for n in counts:
            for (_, session), result in zip(sessions, results, strict=True):
                name = "batch_decode" if what == "batch" else what
                result.add(f"{name}_tok_s.{n}", session.ask(what, n))
    (_, session), ours = sessions[0], results[0]
    for what, asked in base.of_itself(ours.hello.context).items():
        for of in asked:
            if what == "speedup":
                key = f"speculation_{'editing' if of in EDITING else 'other'}"
            else:
                key = "stream_slowdown"
            ours.add(f"{key}.{of}", session.ask(what, of))

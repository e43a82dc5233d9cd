"""The automatic choice: the better backend for each phase, by what was measured before."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

import tiny_qwen2
from gguf_files import write_tiny
from isthmus.core.chat import Sampling
from isthmus.core.events import Delta
from isthmus.core.paths import cache_dir
from isthmus.engine import opening, phases
from isthmus.engine.engine import Engine
from isthmus.engine.fallback import Fallback
from isthmus.engine.opening import open_model, open_runners
from isthmus.engine.phases import preferred
from isthmus.engine.prepared import pack_model
from isthmus.engine.split import SplitBackend
from isthmus.engine.timing import Phases, Timing, Timings, choose, measure, time_backend
from isthmus.kernels.base import Backend
from isthmus.kernels.errors import BackendUnavailable, DeviceLost
from isthmus.kernels.native import NativeBackend
from isthmus.kernels.numpy_ref import NumpyBackend
from isthmus.kernels.testing import FlakyBackend

GREEDY = Sampling(temperature=0, ignore_eos=True)
FAST, SLOW = Timing(1000, 100, 1e-4), Timing(100, 10, 1e-4)


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path / "home"))
    for module in (phases, opening):
        monkeypatch.setattr(module, "BACKENDS", ("native", "numpy"))
    return write_tiny(tmp_path / "tiny.gguf")


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    """The native backend and the reference as the two candidates, the latter as a GPU."""
    monkeypatch.setattr(phases, "LAST_RESORT", "none")
    monkeypatch.setattr(phases, "may_have_gpu", lambda: True)
    monkeypatch.setattr(NumpyBackend, "on_cpu", False)


class Stopwatch:
    """Stands in for measuring, and remembers what it was asked."""

    def __init__(self, failure: str = "", **timings: Timing) -> None:
        self.asked: list[str] = []
        self._failure = failure
        self._timings = timings

    def __call__(self, model: Path, backend: str, threads: int | None) -> Timing:
        self.asked.append(backend)
        if backend not in self._timings:
            raise RuntimeError(self._failure)
        return self._timings[backend]


async def tokens_of(engine: Engine, prompt: str, count: int = 20) -> list[int]:
    ids: list[int] = []
    async for event in engine.complete(prompt, GREEDY, max_tokens=count):
        if isinstance(event, Delta):
            ids += event.token_ids
    return ids


def test_the_backend_that_is_faster_at_both_does_both() -> None:
    assert choose({"a": SLOW, "b": FAST}) == Phases("b", "b")
    assert choose({"a": FAST, "b": FAST}) == Phases("a", "a")


def test_two_backends_share_the_work_where_each_is_much_better_at_its_part() -> None:
    # 512 / 1000 + 128 / 100 = 1.8 s together; alone 6.4 s and 13.3 s.
    assert choose({"a": Timing(100, 100, 0), "b": Timing(1000, 10, 0)}) == Phases("b", "a")


def test_a_small_gain_is_not_worth_the_weights_twice() -> None:
    # 512 / 200 + 128 / 100 = 3.84 s alone against 3.61 s together, 6% less.
    assert choose({"a": Timing(200, 100, 0), "b": Timing(220, 10, 0)}) == Phases("a", "a")


@pytest.mark.parametrize(("copy_s", "split"), [(0.05, True), (0.5, False)])
def test_a_gain_that_the_copying_of_blocks_eats_up_is_none(copy_s: float, split: bool) -> None:
    # 1.8 s and 20 blocks, of which each backend does half, against 6.4 s alone.
    made = choose({"a": Timing(100, 100, copy_s), "b": Timing(1000, 10, copy_s)})
    assert (made == Phases("b", "a")) is split
    assert split or made == Phases("a", "a")


def test_where_there_is_one_candidate_nothing_is_made_or_measured(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(phases, "create", None)
    watch = Stopwatch()
    assert preferred(tiny, None, measured=watch) is None
    assert watch.asked == []


@pytest.mark.usefixtures("two")
def test_where_no_gpu_can_be_nothing_is_made_either(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(phases, "may_have_gpu", lambda: False)
    monkeypatch.setattr(phases, "create", None)
    assert preferred(tiny, None, measured=Stopwatch()) is None


@pytest.mark.usefixtures("two")
def test_a_second_backend_on_the_cpu_is_no_candidate(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(phases.candidates(1)) == {"native", "numpy"}
    monkeypatch.setattr(NumpyBackend, "on_cpu", True)
    assert set(phases.candidates(1)) == {"native"}
    watch = Stopwatch()
    assert preferred(tiny, 1, measured=watch) is None
    assert watch.asked == []


@pytest.mark.usefixtures("two")
def test_what_was_measured_is_kept_and_read_back_one_line_each(tiny: Path) -> None:
    watch = Stopwatch(native=SLOW, numpy=FAST)
    assert preferred(tiny, 1, measured=None) is None  # nothing known, and not to be measured
    assert preferred(tiny, 1, measured=watch) == Phases("numpy", "numpy")
    assert preferred(tiny, 1, measured=watch) == Phases("numpy", "numpy")
    assert preferred(tiny, 1, measured=None) == Phases("numpy", "numpy")
    assert watch.asked == ["native", "numpy"]
    told = (cache_dir() / "timings.json").read_text()
    assert len(told.splitlines()) == 4
    assert {key.split(" | ")[0] for key in json.loads(told)["timings"]} == {"native", "numpy"}


@pytest.mark.usefixtures("two")
def test_another_number_of_threads_device_driver_or_model_is_measured_anew(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Stopwatch(native=FAST, numpy=SLOW)
    preferred(tiny, 1, measured=watch)
    preferred(tiny, 2, measured=watch)
    assert watch.asked == ["native", "numpy"] * 2
    monkeypatch.setattr(NumpyBackend, "driver", "another")
    preferred(tiny, 1, measured=watch)
    assert watch.asked[4:] == ["numpy"]
    tiny.write_bytes(tiny.read_bytes() + b"\0")
    preferred(tiny, 1, measured=watch)
    assert watch.asked[5:] == ["native", "numpy"]


@pytest.mark.usefixtures("two")
def test_a_backend_that_cannot_be_measured_is_not_chosen_and_said_so(
    tiny: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watch = Stopwatch("it ended with status -11", native=SLOW)
    assert preferred(tiny, 1, measured=watch) == Phases("native", "native")
    assert "numpy is not chosen: measuring it failed: it ended with status -11" in caplog.text


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 0}', '{"format": 1, "timings": 3}'])
def test_a_file_of_timings_that_cannot_be_read_is_as_none(tmp_path: Path, content: str) -> None:
    path = tmp_path / "timings.json"
    path.write_text(content)
    timings = Timings(path)
    assert timings.get(path, NumpyBackend(), None) is None
    timings.put(path, NumpyBackend(), None, FAST)
    # The file is its own model here, and has changed; a name that stays tells more.
    model = tmp_path / "model"
    model.touch()
    timings.put(model, NumpyBackend(), None, FAST)
    assert timings.get(model, NumpyBackend(), None) == FAST


def test_measuring_runs_the_model_in_a_process_of_its_own(tiny: Path) -> None:
    timing = measure(tiny, "native", 1)
    assert timing.prefill_tok_s > timing.decode_tok_s > 0
    assert timing.copy_block_s > 0
    with pytest.raises(RuntimeError, match="status"):
        measure(tiny, "no such backend", 1)


def test_a_backend_is_timed_without_its_first_and_slowest_steps() -> None:
    backend = FlakyBackend(NumpyBackend())
    model = pack_model(tiny_qwen2.model(), backend)
    timing = time_backend(model.ops, backend, model.config.vocab)
    assert backend.ran == 4 + 8
    assert timing.prefill_tok_s > 0


def test_a_backend_asked_for_by_name_does_both_and_nothing_is_measured(tiny: Path) -> None:
    def never(model: Path, threads: int | None) -> Any:
        raise AssertionError("asked for by name")

    opened = open_runners(str(tiny), backend="numpy", threads=None, choose=never)
    assert opened.backend.name == "numpy"
    assert opened.standbys == ()


@pytest.mark.parametrize(
    ("chosen", "first", "then"),
    [
        (None, "native", ["numpy"]),
        (Phases("native", "native"), "native", ["numpy"]),
        (Phases("numpy", "numpy"), "numpy", ["native"]),
        (Phases("numpy", "native"), "numpy+native", ["native", "numpy"]),
        (Phases("native", "numpy"), "native+numpy", ["numpy", "native"]),
    ],
)
def test_the_chosen_run_first_and_the_others_stand_by(
    tiny: Path, chosen: Phases | None, first: str, then: list[str]
) -> None:
    opened = open_runners(str(tiny), backend="auto", threads=1, choose=lambda *_: chosen)
    assert opened.backend.name == first
    assert [runner.name for runner in opened.standbys] == then
    assert not opened.passed_over


def test_the_reference_does_not_stand_in_for_a_model_that_memory_cannot_hold(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = open_runners(str(tiny), backend="auto", threads=1)
    [reference] = opened.standbys
    assert reference.load()[0].name == "numpy"
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=100_000))
    with pytest.raises(BackendUnavailable, match="MB are free"):
        reference.load()


def split_engine(tiny: Path, prefill: Backend, decode: Backend, **options: Any) -> Engine:
    load = opening.load_model
    both = SplitBackend(prefill, decode, lambda: load(str(tiny), prefill).ops)
    return Engine(load(str(tiny), decode), both, kv_type="float32", **options)


async def test_a_conversation_over_two_backends_is_that_of_one(tiny: Path) -> None:
    prompt = "a prompt of more than sixteen tokens, so that the other backend reads it. " * 3
    alone = Engine(*open_model(str(tiny), backend="numpy"), kv_type="float32")
    engine = split_engine(tiny, NumpyBackend(), NumpyBackend())
    assert await tokens_of(engine, prompt) == await tokens_of(alone, prompt)
    longer = prompt + " and now there is more of it, as much as a second turn may have"
    assert await tokens_of(engine, longer) == await tokens_of(alone, longer)
    several = [prompt[20 * n :] for n in range(6)]
    found = [
        await asyncio.gather(*(tokens_of(made, text) for text in several))
        for made in (engine, alone)
    ]
    assert found[0] == found[1]
    for made in (engine, alone):
        made.close()


async def test_each_phase_names_its_backend_and_a_loss_leaves_one(tiny: Path) -> None:
    native = NativeBackend(threads=1)
    gpu = FlakyBackend(NumpyBackend(), "gpu", steps={2: DeviceLost("gone")})
    standby = opening.Runner("native", lambda: (native, opening.load_model(str(tiny), native).ops))
    engine = split_engine(tiny, gpu, native, standbys=[standby])
    assert (engine.prefill_backend, engine.decode_backend) == ("gpu", "native")
    assert len(await tokens_of(engine, "a prompt of more than sixteen tokens, is it not")) == 20
    assert gpu.ran == 1
    assert len(await tokens_of(engine, "and another prompt of more than sixteen tokens")) == 20
    assert (engine.prefill_backend, engine.decode_backend) == ("native", "native")
    assert engine.fallbacks == {Fallback("gpu+native", "native", "device_lost"): 1}
    engine.close()

"""Backends that hang, and lost ones that come back, on a tiny model and scripted backends."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator

import pytest

import tiny_qwen2
from isthmus.core.chat import Sampling
from isthmus.core.deadline import Deadline
from isthmus.core.errors import DeadlineExceeded
from isthmus.core.events import Delta
from isthmus.engine import fallback, time_limit
from isthmus.engine.engine import Engine
from isthmus.engine.fallback import RECOVERED, Fallback, Loaded, Runner
from isthmus.engine.prepared import pack_model
from isthmus.kernels.base import Backend
from isthmus.kernels.errors import DeviceHung, DeviceLost, OutOfDeviceMemory
from isthmus.kernels.numpy_ref import NumpyBackend
from isthmus.kernels.testing import FlakyBackend
from waiting import eventually

GREEDY = Sampling(temperature=0, ignore_eos=True)
PROMPT = "more than one block of a prompt, to be computed again from its tokens"


@pytest.fixture
def forever() -> Iterator[threading.Event]:
    """What a device waits for that hangs; the test's end lets it go."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_limit, "LIMIT_S", 0.3)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was lost is tried again at once."""
    monkeypatch.setattr(fallback, "RETRY_S", 0.01)


def loaded_on(backend: Backend) -> Loaded:
    return backend, pack_model(tiny_qwen2.model(), backend).ops


def engine_on(
    first: Backend, *others: Backend, renew: Callable[[], Loaded] | None = None
) -> Engine:
    standbys = [Runner(other.name, lambda other=other: loaded_on(other)) for other in others]
    model = pack_model(tiny_qwen2.model(), first)
    return Engine(model, first, standbys=standbys, renew=renew, speculation=False)


async def tokens_of(
    engine: Engine, prompt: str = PROMPT, deadline: Deadline = Deadline.NEVER
) -> list[int]:
    ids: list[int] = []
    async for event in engine.complete(prompt, GREEDY, max_tokens=12, deadline=deadline):
        if isinstance(event, Delta):
            ids += event.token_ids
    return ids


async def undisturbed(*prompts: str) -> list[list[int]]:
    engine = engine_on(NumpyBackend())
    found = await asyncio.gather(*(tokens_of(engine, prompt) for prompt in prompts))
    engine.close()
    return list(found)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("at", [1, 2, 6])
async def test_a_device_that_hangs_is_given_up_and_every_answer_goes_on(
    at: int, forever: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    prompts = [f"{n} {PROMPT}" for n in range(5)]
    expected = await undisturbed(*prompts)
    gpu = FlakyBackend(NumpyBackend(), "gpu", steps={at: forever}, may_hang=True)
    engine = engine_on(gpu, NumpyBackend())
    found = await asyncio.gather(*(tokens_of(engine, prompt) for prompt in prompts))
    assert list(found) == expected
    assert engine.fallbacks == {Fallback("gpu", "numpy", "device_hung"): 1}
    assert "the gpu device has not answered for 0.3 s" in caplog.text
    engine.close()


@pytest.mark.usefixtures("impatient")
async def test_a_device_alone_that_hangs_is_an_error_and_closing_does_not_wait_for_it(
    forever: threading.Event,
) -> None:
    engine = engine_on(FlakyBackend(NumpyBackend(), "gpu", steps={3: forever}, may_hang=True))
    with pytest.raises(DeviceHung, match=r"0\.3 s"):
        await tokens_of(engine)
    engine.close()


async def test_a_deadline_ends_an_answer_whose_step_does_not_end(forever: threading.Event) -> None:
    engine = engine_on(FlakyBackend(NumpyBackend(), "gpu", steps={3: forever}, may_hang=True))
    with pytest.raises(DeadlineExceeded):
        await tokens_of(engine, deadline=Deadline.after(0.1))
    forever.set()
    engine.close()


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("failure", [DeviceLost("gone"), OutOfDeviceMemory("2 GB"), MemoryError()])
async def test_a_lost_backend_goes_on_when_it_works_again(
    failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    expected = await undisturbed(PROMPT)
    gpu = FlakyBackend(NumpyBackend(), "gpu", steps={3: failure})
    again = FlakyBackend(NumpyBackend(), "gpu")
    engine = engine_on(gpu, NumpyBackend(), renew=lambda: loaded_on(again))
    assert [await tokens_of(engine)] == expected
    assert await eventually(lambda: engine.decode_backend == "gpu")
    before = again.ran
    assert [await tokens_of(engine)] == expected
    assert again.ran > before
    assert engine.fallbacks[Fallback("numpy", "gpu", RECOVERED)] == 1
    assert "the gpu backend works again" in caplog.text
    engine.close()


@pytest.mark.usefixtures("soon")
async def test_it_is_tried_again_until_it_works_and_may_be_lost_again() -> None:
    expected = await undisturbed(PROMPT)
    gone = DeviceLost("gone")
    made: list[FlakyBackend] = []

    def renew() -> Loaded:
        if len(made) == 1:  # refused, then lost at once, then well for a while, then for good
            made.append(FlakyBackend(NumpyBackend(), "gpu"))
            raise gone
        steps: dict[int, Exception] = {2: {1: gone}, 3: {4: gone}}.get(len(made), {})
        made.append(FlakyBackend(NumpyBackend(), "gpu", steps=steps))
        return loaded_on(made[-1])

    made.append(FlakyBackend(NumpyBackend(), "gpu", steps={2: gone}))
    engine = engine_on(made[0], NumpyBackend(), renew=renew)
    assert [await tokens_of(engine)] == expected
    assert await eventually(lambda: engine.decode_backend == "gpu")
    assert len(made) == 4
    assert engine.fallbacks[Fallback("numpy", "gpu", RECOVERED)] == 1
    assert [await tokens_of(engine)] == expected
    assert engine.fallbacks[Fallback("gpu", "numpy", "device_lost")] == 2
    engine.close()


@pytest.mark.usefixtures("soon")
async def test_one_that_computes_wrongly_or_cannot_be_made_anew_stays_lost() -> None:
    def never() -> Loaded:
        raise AssertionError("it computed wrongly")

    wrong = FlakyBackend(NumpyBackend(), "gpu", steps={3: None})
    lost = FlakyBackend(NumpyBackend(), "gpu", steps={3: DeviceLost("gone")})
    for engine in (engine_on(wrong, NumpyBackend(), renew=never), engine_on(lost, NumpyBackend())):
        await tokens_of(engine)
        await asyncio.sleep(0.1)
        assert engine.decode_backend == "numpy"
        assert engine.fallbacks.total() == 1
        engine.close()


@pytest.mark.usefixtures("soon")
async def test_nothing_is_tried_while_answers_are_being_written() -> None:
    running: list[int] = []

    def renew() -> Loaded:
        running.append(engine.running)
        return loaded_on(FlakyBackend(NumpyBackend(), "gpu"))

    gpu = FlakyBackend(NumpyBackend(), "gpu", steps={2: DeviceLost("gone")})
    engine = engine_on(gpu, NumpyBackend(), renew=renew)
    await tokens_of(engine, PROMPT * 3)
    assert await eventually(lambda: engine.decode_backend == "gpu")
    assert running == [0]
    engine.close()


async def test_a_backend_alone_is_made_anew_for_the_next_request() -> None:
    expected = await undisturbed(PROMPT)
    again = FlakyBackend(NumpyBackend(), "gpu")
    gpu = FlakyBackend(NumpyBackend(), "gpu", steps={n: DeviceLost("gone") for n in range(3, 99)})
    engine = engine_on(gpu, renew=lambda: loaded_on(again))
    with pytest.raises(DeviceLost):
        await tokens_of(engine)
    assert [await tokens_of(engine)] == expected
    assert again.ran > 0
    engine.close()


async def test_an_idle_engine_leaves_memory_with_a_lost_backend_too(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fallback, "RETRY_S", 3600.0)
    expected = await undisturbed(PROMPT)
    gpu = FlakyBackend(NumpyBackend(), "gpu", steps={2: DeviceLost("gone")})
    model = pack_model(tiny_qwen2.model(), gpu)
    numpy = NumpyBackend()
    engine = Engine(
        model,
        gpu,
        reload=lambda: pack_model(tiny_qwen2.model(), gpu),
        renew=lambda: loaded_on(gpu),
        standbys=[Runner("numpy", lambda: loaded_on(numpy))],
        idle_unload_s=0.05,
    )
    with caplog.at_level(logging.INFO):
        assert [await tokens_of(engine)] == expected
        assert await eventually(lambda: not engine.loaded)
    assert [await tokens_of(engine)] == expected
    assert engine.decode_backend == "numpy"
    engine.close()

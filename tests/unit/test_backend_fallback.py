"""Going on with the next backend when one fails, on a tiny random model and scripted backends."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import tiny_qwen2
from isthmus.core.chat import (
    ChatRequest,
    Message,
    ResponseFormat,
    ResponseKind,
    Role,
    Sampling,
    TextPart,
)
from isthmus.core.events import Delta, Finished, Started
from isthmus.engine.engine import Engine
from isthmus.engine.errors import ModelUnavailable
from isthmus.engine.fallback import Fallback, Runner
from isthmus.engine.perplexity import measure
from isthmus.engine.prepared import pack_model
from isthmus.kernels.base import Backend
from isthmus.kernels.errors import (
    BackendLost,
    BackendUnavailable,
    DeviceLost,
    InvalidResult,
    OutOfDeviceMemory,
)
from isthmus.kernels.native import NativeBackend
from isthmus.kernels.numpy_ref import NumpyBackend
from isthmus.kernels.testing import FlakyBackend

GREEDY = Sampling(temperature=0, ignore_eos=True)
SECRET = "what the user wrote"
Failure = Callable[[], Exception | None]
"""Makes a failure: one that was raised would keep its test's engines for as long as it is there."""
FAILURES: list[tuple[Failure, str]] = [
    (lambda: DeviceLost("the device is gone"), "device_lost"),
    (lambda: OutOfDeviceMemory("256 MB were refused"), "out_of_device_memory"),
    (MemoryError, "out_of_memory"),
    (lambda: None, "invalid_result"),
    (lambda: RuntimeError(SECRET), "error"),
]


def flaky(name: str = "gpu", **script: Any) -> FlakyBackend:
    return FlakyBackend(NumpyBackend(), name, **script)


def engine_on(*backends: Backend, **options: Any) -> Engine:
    """An engine on the first backend, with the others standing by."""
    first, *others = backends
    standbys = [
        Runner(b.name, lambda b=b: (b, pack_model(tiny_qwen2.model(), b).ops)) for b in others
    ]
    model = pack_model(tiny_qwen2.model(), first)
    return Engine(model, first, standbys=standbys, **options)


def chat(text: str, **fields: Any) -> ChatRequest:
    messages = (Message(Role.USER, (TextPart(text),)),)
    return replace(ChatRequest("r", messages, sampling=GREEDY, max_tokens=12), **fields)


async def answer(engine: Engine, request: ChatRequest) -> tuple[str, list[int], Finished]:
    """Text, tokens and end, of an answer that begins and ends once."""
    started, *deltas, finished = [event async for event in engine.generate(request)]
    assert isinstance(started, Started)
    assert isinstance(finished, Finished)
    pieces = [delta for delta in deltas if isinstance(delta, Delta)]
    assert len(pieces) == len(deltas)
    return "".join(d.text for d in pieces), [t for d in pieces for t in d.token_ids], finished


async def undisturbed(*requests: ChatRequest, **options: Any) -> list[tuple[str, list[int]]]:
    engine = engine_on(NumpyBackend(), **options)
    answers = await asyncio.gather(*(answer(engine, request) for request in requests))
    engine.close()
    return [(text, tokens) for text, tokens, _ in answers]


@pytest.mark.parametrize("at", [1, 2, 7])
@pytest.mark.parametrize(("failure", "reason"), FAILURES)
async def test_an_answer_goes_on_from_the_next_backend_without_losing_or_doubling_a_token(
    failure: Failure, reason: str, at: int, caplog: pytest.LogCaptureFixture
) -> None:
    [(text, tokens)] = await undisturbed(chat(SECRET))
    engine = engine_on(flaky(steps={at: failure()}), NumpyBackend(), speculation=False)
    with caplog.at_level(logging.INFO):
        assert (await answer(engine, chat(SECRET)))[:2] == (text, tokens)
    engine.close()
    assert engine.prefill_backend == engine.decode_backend == "numpy"
    assert engine.fallbacks == {Fallback("gpu", "numpy", reason): 1}
    [line] = [record.getMessage() for record in caplog.records]
    assert "gpu" in line
    assert "numpy" in line
    assert SECRET not in line


async def test_a_seeded_answer_goes_on_with_the_numbers_that_it_has_drawn() -> None:
    request = chat("hello", sampling=Sampling(temperature=1.5, seed=7, ignore_eos=True))
    expected = await undisturbed(request)
    engine = engine_on(flaky(steps={5: None}), NumpyBackend())
    assert [(await answer(engine, request))[:2]] == expected
    engine.close()


@pytest.mark.parametrize("failure", [lambda: None, lambda: DeviceLost("gone")])
async def test_conversations_at_once_all_go_on(failure: Failure) -> None:
    # More than a batch has room for, of lengths that end in different steps.
    requests = [chat(f"number {n} " * (3 * n), max_tokens=5 + n) for n in range(1, 12)]
    expected = await undisturbed(*requests)
    engine = engine_on(flaky(steps={6: failure()}), NumpyBackend(), speculation=False)
    answers = await asyncio.gather(*(answer(engine, request) for request in requests))
    assert [(text, tokens) for text, tokens, _ in answers] == expected
    assert [finished.usage.completion_tokens for _, _, finished in answers] == [*range(6, 17)]
    assert engine.fallbacks.total() == 1
    engine.close()


async def test_guesses_that_a_failing_step_was_to_check_are_neither_lost_nor_taken() -> None:
    request = chat("so it goes, so it goes, so it goes, so it goes", max_tokens=120)
    [(text, tokens)] = await undisturbed(request, speculation=False)
    for at in range(10, 60, 5):
        backend = flaky(steps={at: None})
        engine = engine_on(backend, NumpyBackend(), speculation=True)
        assert (await answer(engine, request))[:2] == (text, tokens)
        assert engine.fallbacks.total() == (backend.ran >= at)
        assert engine.speculated.proposed > 0
        engine.close()


@pytest.mark.parametrize("at", [2, 5])
async def test_an_answer_that_is_held_to_json_stays_json(at: int) -> None:
    form = ResponseFormat(
        ResponseKind.JSON_SCHEMA,
        schema={
            "type": "object",
            "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 9999}},
            "required": ["n"],
            "additionalProperties": False,
        },
    )
    request = chat("a number", response_format=form, max_tokens=60)
    [(text, _)] = await undisturbed(request)
    engine = engine_on(flaky(steps={at: None}), NumpyBackend())
    assert (await answer(engine, request))[0] == text
    assert set(json.loads(text)) == {"n"}
    assert engine.fallbacks.total() == 1
    engine.close()


async def test_a_backend_that_cannot_plan_is_passed_over_at_the_start() -> None:
    refused = OutOfDeviceMemory("2 GB at once")
    engine = engine_on(flaky(on_plan=refused), flaky("other", on_plan=refused), NumpyBackend())
    assert engine.decode_backend == "numpy"
    assert engine.fallbacks == {
        Fallback("gpu", "other", refused.kind): 1,
        Fallback("other", "numpy", refused.kind): 1,
    }
    assert len((await answer(engine, chat("x")))[1]) == 12
    engine.close()


async def test_a_standby_that_is_not_there_is_passed_over_while_answers_wait() -> None:
    def missing() -> Any:
        raise BackendUnavailable("native does not work here", {"native": "no such library"})

    numpy = NumpyBackend()
    model = pack_model(tiny_qwen2.model(), numpy)
    gpu = flaky(steps={4: DeviceLost("gone")})
    standbys = [Runner("native", missing), Runner("numpy", lambda: (numpy, model.ops))]
    engine = Engine(pack_model(tiny_qwen2.model(), gpu), gpu, standbys=standbys)
    expected = await undisturbed(chat("x"))
    assert [(await answer(engine, chat("x")))[:2]] == expected
    assert engine.fallbacks == {
        Fallback("gpu", "native", "device_lost"): 1,
        Fallback("native", "numpy", "backend_unavailable"): 1,
    }
    engine.close()


async def test_a_model_that_is_gone_is_told_and_no_backend_is_blamed() -> None:
    def gone() -> Any:
        raise ModelUnavailable("the file is gone")

    gpu = flaky(steps={3: None})
    model = pack_model(tiny_qwen2.model(), gpu)
    engine = Engine(model, gpu, standbys=[Runner("cpu", gone)])
    with pytest.raises(ModelUnavailable, match="gone"):
        await answer(engine, chat("x"))
    engine.close()


async def test_the_next_backend_may_fail_in_turn() -> None:
    expected = await undisturbed(chat("hello"))
    engine = engine_on(
        flaky(steps={3: None}), flaky("other", steps={4: MemoryError()}), NumpyBackend()
    )
    assert [(await answer(engine, chat("hello")))[:2]] == expected
    assert engine.fallbacks.total() == 2
    engine.close()


async def test_when_all_fail_every_answer_ends_with_the_reasons_and_the_next_may_work() -> None:
    engine = engine_on(
        flaky(steps={3: RuntimeError(SECRET)}), flaky("cpu", steps={2: None}), speculation=False
    )
    answers = await asyncio.gather(
        *(answer(engine, chat(f"{n}")) for n in range(10)), return_exceptions=True
    )
    for failed in answers:
        assert isinstance(failed, BackendUnavailable)
        assert set(failed.reasons) == {"gpu", "cpu"}
        assert SECRET not in failed.message
    expected = await undisturbed(chat("again"))
    assert [(await answer(engine, chat("again")))[:2]] == expected
    engine.close()


def test_when_no_backend_can_plan_the_start_fails_with_every_reason() -> None:
    with pytest.raises(BackendUnavailable) as caught:
        engine_on(flaky(on_plan=MemoryError("1 GB")), flaky("cpu", on_plan=DeviceLost("off")))
    assert caught.value.reasons == {"gpu": "1 GB", "cpu": "off"}


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (lambda: DeviceLost("gone"), DeviceLost),
        (lambda: None, InvalidResult),
        (lambda: RuntimeError(SECRET), BackendLost),
    ],
)
async def test_a_backend_alone_is_strict_and_the_next_request_finds_nothing_spoilt(
    failure: Failure, told: type[BackendLost], caplog: pytest.LogCaptureFixture
) -> None:
    expected = await undisturbed(chat("hello " * 30))
    engine = engine_on(flaky(steps={5: failure()}))
    with pytest.raises(told) as caught:
        await answer(engine, chat("hello " * 30))
    assert SECRET not in str(caught.value) + caplog.text
    assert not engine.fallbacks
    started, *_ = [event async for event in engine.generate(chat("hello " * 30))]
    assert isinstance(started, Started)
    assert started.cached_tokens == 0  # of a step that went wrong nothing is remembered
    assert [(await answer(engine, chat("hello " * 30)))[:2]] == expected
    engine.close()


async def test_a_backend_that_fails_while_it_copies_a_block_is_replaced() -> None:
    gpu = flaky()
    engine = engine_on(gpu, NumpyBackend())
    await answer(engine, chat("a question that fills more than a block, by far and away"))
    gpu.on_copy = DeviceLost("gone")
    request = chat("a question that fills more than a block, but not like it")
    expected = await undisturbed(request)
    assert [(await answer(engine, request))[:2]] == expected
    assert engine.fallbacks == {Fallback("gpu", "numpy", "device_lost"): 1}
    engine.close()


async def test_a_device_that_cannot_even_be_closed_holds_nobody_up() -> None:
    engine = engine_on(flaky(steps={2: None}, on_close=DeviceLost("gone")), NumpyBackend())
    assert len((await answer(engine, chat("x")))[1]) == 12
    engine.close()
    alone = engine_on(flaky(on_close=DeviceLost("gone")))
    assert len((await answer(alone, chat("x")))[1]) == 12
    alone.close()


async def test_the_native_backend_hands_over_to_the_reference_in_mid_answer() -> None:
    native = FlakyBackend(NativeBackend(threads=1), "native", steps={6: None})
    engine = engine_on(native, NumpyBackend(), kv_type="float32")
    _, tokens, finished = await answer(engine, chat("hello there"))
    assert len(tokens) == finished.usage.completion_tokens == 12
    assert engine.fallbacks == {Fallback("native", "numpy", "invalid_result"): 1}
    assert len((await answer(engine, chat("hello there")))[1]) == 12
    engine.close()


@pytest.mark.parametrize("failure", [lambda: None, lambda: DeviceLost("gone")])
def test_a_perplexity_is_computed_to_its_end_by_the_next_backend(failure: Failure) -> None:
    text = "A text of more than one window. " * 40
    numpy = NumpyBackend()
    model = pack_model(tiny_qwen2.model(), numpy)
    expected = measure(model, numpy, text)
    assert expected.tokens > model.config.context  # so that the fifth step is of another window
    assert expected.decode_backend == "numpy"
    standby = Runner("numpy", lambda: (numpy, model.ops))
    found = measure(model, flaky(steps={5: failure()}), text, standbys=[standby])
    assert found == expected
    with pytest.raises(BackendLost):
        measure(model, flaky(steps={5: failure()}), text)

"""The engine's life of a request, on a tiny random model: speed matters here, sense does not."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

import tiny_qwen2
from isthmus.core.chat import (
    ImagePart,
    Message,
    Role,
)
from isthmus.core.deadline import Deadline
from isthmus.core.errors import (
    ContextTooLong,
    DeadlineExceeded,
    InternalError,
    InvalidRequest,
    NotSupported,
    Overloaded,
    Unavailable,
)
from isthmus.core.events import Delta, Event, Finished, FinishReason, Started
from isthmus.engine.engine import Engine
from isthmus.engine.prepared import pack_model
from isthmus.kernels.base import Batch, KVShape, Step
from isthmus.kernels.native import NativeBackend
from isthmus.kernels.numpy_ref import NumpyBackend
from tiny_engine import GREEDY, chat, engine_on, run


@pytest.fixture(scope="module", params=["native", "numpy"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    made = engine_on(NativeBackend(threads=2) if request.param == "native" else NumpyBackend())
    yield made
    made.close()


@pytest.fixture
def fresh() -> Iterator[Engine]:
    made = engine_on(NativeBackend(threads=1))
    yield made
    made.close()


async def test_an_answer_is_started_deltas_and_finished(engine: Engine) -> None:
    events: list[Event] = [event async for event in engine.generate(chat("hello"))]
    assert isinstance(events[0], Started)
    assert events[0].model == "tiny-qwen2"
    deltas = [event for event in events if isinstance(event, Delta)]
    assert sum(delta.tokens for delta in deltas) == 12
    assert all(delta.tokens == len(delta.token_ids) for delta in deltas)
    last = events[-1]
    assert isinstance(last, Finished)
    assert last.reason is FinishReason.LENGTH
    assert last.usage.completion_tokens == 12


async def test_nothing_can_be_continued_by_a_model_that_names_no_end_of_turn() -> None:
    backend = NumpyBackend()
    model = pack_model(tiny_qwen2.model(), backend)
    endless = replace(model, tokenizer=replace(model.tokenizer, eos_ids=(), add_bos=False))
    engine = Engine(endless, backend)
    events = [event async for event in engine.complete("", GREEDY, max_tokens=3)]
    engine.close()
    assert isinstance(events[-1], Finished)
    assert events[-1].usage.completion_tokens == 3


async def test_greedy_answers_repeat_whatever_the_cache_holds(engine: Engine) -> None:
    answers = {(await run(engine, chat("say it again", max_tokens=30)))[1] for _ in range(3)}
    assert len(answers) == 1


async def test_a_second_and_third_turn_compute_only_what_is_new(fresh: Engine) -> None:
    first, one, _ = await run(fresh, chat("first question"))
    assert first.cached_tokens == 0
    second, two, _ = await run(fresh, chat("first question", one, "second"))
    # All of the prompt and of the answer but its last token, which was never computed.
    assert second.cached_tokens == first.prompt_tokens + 12 - 1
    third, _, _ = await run(fresh, chat("first question", one, "second", two, "third"))
    assert third.cached_tokens == second.prompt_tokens + 12 - 1


async def test_a_prefix_of_one_salt_is_news_to_another(fresh: Engine) -> None:
    mine = chat("first question", cache_salt="mine")
    _, one, _ = await run(fresh, mine)
    turns = ("first question", one, "second")
    theirs, text, _ = await run(fresh, chat(*turns, cache_salt="theirs"))
    again, same, _ = await run(fresh, chat(*turns, cache_salt="mine"))
    assert theirs.cached_tokens == 0
    assert again.cached_tokens > 0
    assert text == same


async def test_a_cached_conversation_gets_the_answer_of_a_fresh_one(fresh: Engine) -> None:
    _, one, _ = await run(fresh, chat("question"))
    _, cached, _ = await run(fresh, chat("question", one, "and then?"))
    other = engine_on(NativeBackend(threads=1))
    _, computed, _ = await run(other, chat("question", one, "and then?"))
    other.close()
    assert cached == computed


async def test_an_edited_history_gets_its_own_answer(fresh: Engine) -> None:
    _, one, _ = await run(fresh, chat("question about a long enough matter to fill blocks"))
    started, _, _ = await run(fresh, chat("question about a long enough affair", one, "more"))
    assert 0 < started.cached_tokens < 40


async def test_answers_at_once_are_those_of_one_at_a_time(engine: Engine) -> None:
    prompts = [f"number {i} " * (i + 1) for i in range(12)]
    alone = [(await run(engine, chat(prompt)))[1] for prompt in prompts]
    together = await asyncio.gather(*(run(engine, chat(prompt)) for prompt in prompts))
    assert [text for _, text, _ in together] == alone


async def test_a_pool_too_small_for_all_still_answers_everybody() -> None:
    small = engine_on(NativeBackend(threads=1), context_tokens=96)
    alone = [(await run(small, chat(f"{i}", max_tokens=40)))[1] for i in range(4)]
    together = await asyncio.gather(*(run(small, chat(f"{i}", max_tokens=40)) for i in range(4)))
    assert [text for _, text, _ in together] == alone
    small.close()


async def test_a_byte_limit_bounds_what_is_remembered_and_the_context() -> None:
    # 2 layers, keys and values, 2 heads of 16 at 8.5 bits: 136 bytes a token.
    small = engine_on(NativeBackend(threads=1), kv_bytes=100 * 136)
    assert small.context_tokens == 96
    for i in range(5):
        await run(small, chat(f"{i}", max_tokens=30))
    assert small.kv_used_tokens == 96
    small.close()
    with pytest.raises(InvalidRequest) as caught:
        engine_on(NativeBackend(threads=1), kv_bytes=4_000)
    assert caught.value.field == "kv_bytes"


async def test_a_second_conversation_shares_the_prompt_of_one_that_still_runs(
    fresh: Engine,
) -> None:
    system = "the same long instructions " * 5
    running = fresh.generate(chat(system + "one", max_tokens=300))
    async with contextlib.aclosing(running):
        async for event in running:
            if isinstance(event, Delta):
                break
        assert fresh.running == 1  # the second may well outlast it
        second, text, _ = await run(fresh, chat(system + "two"))
    assert second.cached_tokens >= len(system) // 32 * 32
    other = engine_on(NativeBackend(threads=1))
    assert (await run(other, chat(system + "two")))[1] == text
    other.close()


async def test_a_stop_string_ends_the_answer_and_is_not_shown(engine: Engine) -> None:
    _, whole, _ = await run(engine, chat("tell me", max_tokens=30))
    stop = whole[8:11]
    stopped = replace(GREEDY, stop=(stop,))
    _, text, finished = await run(engine, chat("tell me", sampling=stopped, max_tokens=30))
    assert text == whole[: whole.index(stop)]
    assert finished.reason is FinishReason.STOP


async def test_log_probabilities_come_with_every_token(engine: Engine) -> None:
    asked = replace(GREEDY, top_logprobs=3)
    deltas = [d async for d in engine.generate(chat("x", sampling=asked)) if isinstance(d, Delta)]
    entries = [entry for delta in deltas for entry in delta.logprobs]
    assert len(entries) == 12
    assert all(len(entry.top) == 3 for entry in entries)
    assert all(entry.top[0].logprob == pytest.approx(entry.logprob) for entry in entries)
    assert b"".join(e.raw for e in entries).decode(errors="replace") == "".join(
        d.text for d in deltas
    )


async def test_a_watched_answer_tells_its_first_tokens_doubt_and_every_log_probability(
    engine: Engine,
) -> None:
    request = chat("doubt", watched=True)
    events = [event async for event in engine.generate(request)]
    deltas = [event for event in events if isinstance(event, Delta)]
    logprobs = [token.logprob for delta in deltas for token in delta.logprobs]
    first, *others = [delta.first_token for delta in deltas]
    assert first is not None
    assert others == [None] * len(others)
    assert len(logprobs) == 12

    # The reference: all logits of the prompt's last position, computed anew.
    backend = NumpyBackend()
    tokens = engine.tokenizer.encode(engine.prompt(request).segments)
    plan = backend.plan(
        pack_model(tiny_qwen2.model(), backend).ops,
        kv=KVShape.for_tokens(len(tokens)),
        max_tokens=len(tokens),
    )
    blocks = range(-(-len(tokens) // 32))
    step = plan.run(replace(Batch.of_one(tokens, blocks, wanted=1), capture=True))
    assert step.hidden is not None
    logits = step.logits[0].astype(np.float64)
    logprob = logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())
    best, second = np.sort(logprob)[:-3:-1]
    assert first.logprob == pytest.approx(best, abs=0.02)
    assert first.logprob == pytest.approx(logprobs[0], abs=1e-6)  # greedy: the best was taken
    assert first.margin == pytest.approx(best - second, abs=0.04)
    assert first.entropy == pytest.approx(-(np.exp(logprob) * logprob).sum(), abs=0.02)
    assert np.corrcoef(first.hidden, step.hidden[0])[0, 1] > 0.99


async def test_watching_changes_no_answer(engine: Engine) -> None:
    _, watched, _ = await run(engine, chat("same", watched=True))
    _, alone, _ = await run(engine, chat("same"))
    assert watched == alone


async def test_nobody_is_told_of_doubt_who_did_not_ask(engine: Engine) -> None:
    deltas = [e async for e in engine.generate(chat("hush")) if isinstance(e, Delta)]
    assert {delta.first_token for delta in deltas} == {None}
    assert {delta.logprobs for delta in deltas} == {()}


async def test_closing_the_iterator_stops_the_work(fresh: Engine) -> None:
    events = fresh.generate(chat("go on", max_tokens=400))
    async with contextlib.aclosing(events):
        async for event in events:
            if isinstance(event, Delta):
                break
    for _ in range(200):
        if fresh.running == 0:
            break
        await asyncio.sleep(0.005)
    assert fresh.running == 0


class AfterLooks(Deadline):
    """Passes when it has been looked at so often: the engine looks once a step."""

    looks = 0

    @property
    def expired(self) -> bool:
        AfterLooks.looks += 1
        return AfterLooks.looks > 20


async def test_a_deadline_ends_a_running_answer(fresh: Engine) -> None:
    request = chat("go on", max_tokens=480, deadline=AfterLooks(math.inf))
    answer = fresh.generate(request)
    assert isinstance(await anext(answer), Started)
    assert isinstance(await anext(answer), Delta)
    with pytest.raises(DeadlineExceeded):
        [event async for event in answer]
    assert (await run(fresh, chat("still there?")))[2].usage.completion_tokens == 12


async def test_a_context_too_long_names_the_field(engine: Engine) -> None:
    with pytest.raises(ContextTooLong, match="512") as caught:
        await run(engine, chat("word " * 200))
    assert caught.value.field == "messages"
    assert "word" not in str(caught.value)


async def test_a_text_that_cannot_fit_is_not_even_tokenized(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> list[int]:
        raise AssertionError

    monkeypatch.setattr(engine, "_tokenize", never)
    with pytest.raises(ContextTooLong, match="512") as caught:
        await run(engine, chat("word " * 100_000))
    assert caught.value.field == "messages"


async def test_an_answer_ends_where_the_context_does(engine: Engine) -> None:
    _, _, finished = await run(engine, chat("x" * 480, max_tokens=10_000))
    assert finished.reason is FinishReason.LENGTH
    assert finished.usage.total_tokens == 512


async def test_what_the_device_cannot_do_is_refused_by_name(engine: Engine) -> None:
    image = Message(Role.USER, (ImagePart("https://e.org/a.png"),))
    with pytest.raises(NotSupported) as caught:
        await run(engine, chat("x", messages=(image,)))
    assert caught.value.field == "messages"


async def test_a_full_queue_is_refused_not_stretched() -> None:
    small = engine_on(NativeBackend(threads=1), max_waiting=1)
    asked = [asyncio.create_task(run(small, chat(f"{i}", max_tokens=300))) for i in range(30)]
    results = await asyncio.gather(*asked, return_exceptions=True)
    small.close()
    refused = [r for r in results if isinstance(r, Overloaded)]
    answered = [r for r in results if isinstance(r, tuple)]
    assert refused
    assert len(answered) + len(refused) == 30


class _FailingPlan:
    max_tokens = 128

    def run(self, batch: Batch) -> Step:
        raise RuntimeError("the secret prompt")

    def close(self) -> None:
        pass


async def test_a_failing_step_ends_its_answers_without_telling_their_text(
    fresh: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    working = fresh._scheduler._plan
    fresh._scheduler._plan = _FailingPlan()
    with pytest.raises(InternalError) as caught:
        await run(fresh, chat("hello"))
    assert "secret" not in str(caught.value) + caplog.text
    assert "RuntimeError" in caplog.text
    fresh._scheduler._plan = working
    assert (await run(fresh, chat("hello")))[2].usage.completion_tokens == 12


async def test_a_closed_engine_is_unavailable() -> None:
    made = engine_on(NativeBackend(threads=1))
    running = asyncio.create_task(run(made, chat("x", max_tokens=480)))
    await asyncio.sleep(0.01)
    await asyncio.to_thread(made.close)
    with pytest.raises(Unavailable):
        await running
    with pytest.raises(Unavailable):
        await run(made, chat("x"))

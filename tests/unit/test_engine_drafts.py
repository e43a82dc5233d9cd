"""A draft's tokens are judged as the model itself would have them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

import tiny_qwen2
from isthmus.core.chat import ChatRequest
from isthmus.core.errors import ContextTooLong
from isthmus.engine.engine import Engine
from isthmus.engine.perplexity import all_logits
from isthmus.engine.prepared import pack_model
from isthmus.kernels.native import NativeBackend
from isthmus.kernels.numpy_ref import NumpyBackend
from tiny_engine import chat, engine_on, run


@pytest.fixture
def fresh() -> Iterator[Engine]:
    made = engine_on(NativeBackend(threads=1))
    yield made
    made.close()


async def judged_by(engine: Engine, request: ChatRequest) -> tuple[list[bytes], list[float]]:
    told = await engine.judge(request)
    return [raw for raw, _, _ in told], [logprob for _, logprob, _ in told]


@pytest.mark.parametrize("question", ["hello", "a long question " * 7], ids=["short", "long"])
async def test_a_drafts_tokens_are_judged_as_the_whole_model_would(question: str) -> None:
    backend = NumpyBackend()
    model = pack_model(tiny_qwen2.model(), backend)
    engine = Engine(model, backend, kv_type="float32")
    draft = " and some more of it, 北京 " + "over and over " * 9
    asked = chat(question, answer_so_far="It begins", draft=draft)
    prompt = engine.prompt(replace(asked, answer_so_far="It begins" + draft))
    tokens = engine.tokenizer.encode(prompt.segments)
    rows = all_logits(model, backend, tokens).astype(np.float64)
    expected = rows - np.log(np.exp(rows - rows.max(1, keepdims=True)).sum(1, keepdims=True))
    expected -= rows.max(1, keepdims=True)
    try:
        for _ in range(2):  # the second time the prefix is cached
            raw, logprobs = await judged_by(engine, asked)
            count = len(raw)
            assert b"".join(raw).endswith(draft.encode())
            own = [expected[at - 1, tokens[at]] for at in range(len(tokens) - count, len(tokens))]
            np.testing.assert_allclose(logprobs, own, atol=1e-4)
            others = [run(engine, chat(f"{question} {i}")) for i in range(3)]
            await asyncio.gather(*others, judged_by(engine, asked))
        started, _, _ = await run(engine, replace(asked, answer_so_far="It begins" + draft))
    finally:
        engine.close()
    assert started.cached_tokens >= len(tokens) - 17  # the answer finds what judging computed


async def test_a_token_that_the_model_would_have_written_is_judged_the_best(
    fresh: Engine,
) -> None:
    _, text, _ = await run(fresh, chat("hello"))
    told = await fresh.judge(chat("hello", draft=text)) if text.isascii() else []
    assert sum(best for _, _, best in told) >= len(told) - 1


async def test_a_draft_that_does_not_fit_is_not_judged(fresh: Engine) -> None:
    with pytest.raises(ContextTooLong):
        await fresh.judge(chat("hello", draft="word " * fresh.context_tokens))

"""Answers over several upstreams that fail at every place: nothing is lost or said twice."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from isthmus.cloud.upstreams.testing import WORDS, Fault, ScriptedUpstream
from isthmus.core import chat, errors, events
from isthmus.core.money import Usage
from upstream_pools import (
    REQUEST,
    WHOLE,
    collected,
    faulty_pair,
    pool_over,
    sample,
    serving,
    text_of,
    tokens_of,
)

FAULTS = [
    *(Fault("status", status=status) for status in (401, 404, 429, 500, 502, 503, 504)),
    Fault("reset"),
    Fault("end"),
    Fault("hang"),
    *(
        Fault(kind, after_tokens=tokens)
        for kind in ("reset", "end", "half", "error", "hang")
        for tokens in (0, 1, 4, 5, len(WORDS))
    ),
]


def named(fault):
    return f"{fault.kind}-{fault.status if fault.kind == 'status' else fault.after_tokens}"


@pytest.mark.parametrize("fault", FAULTS, ids=named)
async def test_an_answer_is_whole_whatever_one_upstream_does(fault):
    async with faulty_pair(fault) as (pool, one, _):
        answer = await collected(pool)
    assert len(one.bodies) == 1
    assert text_of(answer) == WHOLE
    assert [type(event) for event in answer].count(events.Started) == 1
    assert answer[-1] == events.Finished(events.FinishReason.STOP, Usage(2, len(WORDS)))
    assert tokens_of(answer) == len(WORDS)


async def test_an_answer_is_whole_when_every_upstream_breaks_off_again_and_again():
    async with faulty_pair(*(Fault("reset", after_tokens=2) for _ in range(3))) as (pool, _, other):
        other.faults[:] = [Fault("end", after_tokens=1)] * 3
        answer = await collected(pool)
    assert text_of(answer) == WHOLE
    assert answer[-1].usage == Usage(2, len(WORDS))


async def test_the_next_upstream_is_asked_for_the_rest_alone():
    sampling = chat.Sampling(temperature=0.5, seed=2**63 - 2, stop=("END",), top_logprobs=None)
    asked = replace(REQUEST, max_tokens=7, sampling=sampling)
    async with faulty_pair(Fault("reset", after_tokens=4)) as (pool, _, other):
        answer = await collected(pool, asked)
    body = other.bodies[-1]
    assert body["messages"][-1] == {"role": "assistant", "content": "The sea is wide"}
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
    assert body["max_tokens"] == 3
    assert body["seed"] == 2  # other numbers than those that chose the first four
    assert body["stop"] == ["END"]
    assert text_of(answer) == "".join(WORDS[:7])
    assert answer[-1] == events.Finished(events.FinishReason.LENGTH, Usage(2, 7))


async def test_nothing_more_is_asked_for_when_the_last_token_was_told():
    async with faulty_pair(Fault("reset", after_tokens=5)) as (pool, _, other):
        asked_before = len(other.bodies)
        answer = await collected(pool, replace(REQUEST, max_tokens=5))
    assert len(other.bodies) == asked_before
    assert answer[-1] == events.Finished(events.FinishReason.LENGTH, Usage(2, 5))


SCHEMA = chat.ResponseFormat(chat.ResponseKind.JSON_OBJECT)


@pytest.mark.parametrize(
    "change",
    [
        {"response_format": SCHEMA},
        {"tools": (chat.Tool("f"),), "tool_choice": chat.ToolChoice.REQUIRED},
    ],
    ids=["form", "call"],
)
async def test_half_a_form_is_an_honest_error_that_tells_how_much_was_sent(change):
    async with faulty_pair(Fault("reset", after_tokens=3)) as (pool, one, other):
        asked_before = len(other.bodies)
        told = []
        with pytest.raises(errors.Unavailable, match="after 3 tokens"):
            await _into(told, pool.generate(replace(REQUEST, **change)))
        assert text_of(told) == "The sea is"
        assert len(other.bodies) == asked_before
        # Before the first of it another upstream is as good.
        one.faults[:] = [Fault("reset")]
        assert text_of(await collected(pool, replace(REQUEST, **change))) == WHOLE


async def test_upstreams_that_cannot_continue_break_off_honestly():
    async with faulty_pair(Fault("reset", after_tokens=3), continue_final_message=False) as (
        pool,
        _,
        other,
    ):
        asked_before = len(other.bodies)
        with pytest.raises(errors.Unavailable, match="after 3 tokens"):
            await collected(pool)
        assert len(other.bodies) == asked_before


async def test_a_single_upstream_is_asked_again_as_a_router_has_others_behind_it():
    async with serving(ScriptedUpstream()) as (one,), pool_over(one) as pool:
        one.faults[:] = [Fault("reset"), Fault("reset", after_tokens=4)]
        answer = await collected(pool)
    assert text_of(answer) == WHOLE
    assert len(one.bodies) == 3


async def test_a_refused_request_is_not_carried_from_one_upstream_to_the_next():
    async with faulty_pair(Fault("status", status=400)) as (pool, one, other):
        asked_before = len(other.bodies)
        with pytest.raises(errors.InvalidRequest):
            await collected(pool)
        assert (len(one.bodies), len(other.bodies)) == (1, asked_before)


async def test_when_every_upstream_is_full_the_caller_is_told_when_to_come_back():
    async with faulty_pair(*[Fault("status", status=429)] * 3) as (pool, one, other):
        other.faults[:] = [Fault("status", status=429)] * 3
        asked_before = len(other.bodies)
        with pytest.raises(errors.Overloaded) as caught:
            await collected(pool)
    assert caught.value.retry_after_s == 1
    assert (len(one.bodies), len(other.bodies)) == (1, asked_before + 1)


async def test_a_stream_of_an_upstream_that_dies_silently_moves_before_its_time():
    # A host that is gone sends nothing: only the probes know.
    async with faulty_pair(Fault("hang", after_tokens=4), silence_s=60, first_token_s=60) as (
        pool,
        one,
        _,
    ):
        stream = pool.generate(REQUEST)
        told = [await anext(stream) for _ in range(2)]
        one.healthy = False
        async with asyncio.timeout(2):
            told += [event async for event in stream]
        assert text_of(told) == WHOLE
        assert sample(pool, "isthmus_cloud_upstream_failovers_total", stage="mid_answer") == 1


async def _into(told, stream):
    async for event in stream:
        told.append(event)

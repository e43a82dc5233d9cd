"""No request, no answer and no call takes more of the gateway than its settings allow."""

from __future__ import annotations

import contextlib

import pytest

from asked import REQUEST, anew
from isthmus.cloud.testing import ScriptedBackend, running_gateway
from isthmus.core import chat, errors, events
from isthmus.edge.remote import RemoteConfig, RemoteTier
from waiting import eventually


@contextlib.asynccontextmanager
async def gateway_and_tier(backend, **limits):
    async with running_gateway(backend, limits=limits) as address:
        tier = RemoteTier(RemoteConfig(address))
        try:
            yield tier
        finally:
            await tier.close()


async def collected(tier, request):
    return [event async for event in tier.generate(request)]


async def test_a_prompt_that_is_surely_too_long_never_reaches_the_backend():
    backend = ScriptedBackend()
    async with gateway_and_tier(backend, max_prompt_tokens=100) as tier:
        with pytest.raises(errors.ContextTooLong) as caught:
            await collected(tier, anew(answer_so_far="word " * 1_000))
    assert caught.value.field == "messages"
    assert backend.requests == []


async def test_a_prompt_that_the_backend_finds_too_long_is_refused_before_a_word():
    backend = ScriptedBackend(["x"] * 1_000, delay_s=0.01)
    words = chat.Message(chat.Role.USER, (chat.TextPart("a " * 100),))
    async with gateway_and_tier(backend, max_prompt_tokens=60) as tier:
        with pytest.raises(errors.ContextTooLong):
            await collected(tier, anew(messages=(words,)))
        assert await eventually(lambda: bool(backend.stopped_at_s))


async def test_so_many_messages_are_enough():
    async with gateway_and_tier(ScriptedBackend(), max_messages=3) as tier:
        assert await collected(tier, anew(messages=REQUEST.messages * 3))
        with pytest.raises(errors.InvalidRequest) as caught:
            await collected(tier, anew(messages=REQUEST.messages * 4))
    assert caught.value.field == "messages"


@pytest.mark.parametrize("wanted", [None, 1_000])
async def test_an_answer_ends_at_the_gateways_limit_whatever_was_asked_for(wanted):
    backend = ScriptedBackend(["x"] * 2_000, delay_s=0.001)
    async with gateway_and_tier(backend, max_completion_tokens=7) as tier:
        answer = await collected(tier, anew(max_tokens=wanted))
        assert await eventually(lambda: not backend.running)
    text = "".join(event.text for event in answer if isinstance(event, events.Delta))
    assert text == "x" * 7
    assert answer[-1].reason is events.FinishReason.LENGTH
    assert answer[-1].usage.completion_tokens == 7


async def test_a_call_without_a_deadline_has_the_gateways():
    backend = ScriptedBackend(["x"] * 2_000, delay_s=0.01)
    async with gateway_and_tier(backend, max_answer_s=0.1) as tier:
        with pytest.raises(errors.DeadlineExceeded):
            await collected(tier, anew())
        assert await eventually(lambda: bool(backend.stopped_at_s))

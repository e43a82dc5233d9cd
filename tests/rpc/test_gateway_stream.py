"""What streams from the gateway, over real gRPC on loopback, in front of a scripted backend."""

from __future__ import annotations

import time
from dataclasses import replace

from asked import REQUEST, anew
from isthmus.cloud.testing import ScriptedBackend, running_gateway
from isthmus.core import chat, events, wire
from isthmus.core.deadline import Deadline
from scripted_gateway import collected, gateway_and_tier, raw_stub, text_of


async def test_an_answer_streams_in_order_from_started_to_finished():
    async with gateway_and_tier() as tier:
        answer = await collected(tier)
    assert isinstance(answer[0], events.Started)
    assert answer[0].model == "scripted"
    assert {type(event) for event in answer[1:-1]} == {events.Delta}
    assert sum(event.tokens for event in answer[1:-1]) == 5
    assert text_of(answer) == "Paris is the capital."
    assert answer[-1] == events.Finished(
        events.FinishReason.STOP, replace(answer[-1].usage, prompt_tokens=6, completion_tokens=5)
    )


async def test_pieces_arrive_while_the_answer_is_still_being_written():
    async with gateway_and_tier(ScriptedBackend(["a", "b", "c"], delay_s=0.05)) as tier:
        arrivals = [time.monotonic() async for _ in tier.generate(anew())]
    assert arrivals[-1] - arrivals[1] > 0.08


async def test_the_wire_carries_usage_before_finished():
    async with running_gateway() as address, raw_stub(address) as stub:
        kinds = [
            message.WhichOneof("event")
            async for message in stub.Generate(wire.request_to_wire(anew()))
        ]
    assert (kinds[0], kinds[-2:]) == ("started", ["usage", "finished"])
    assert set(kinds[1:-2]) == {"delta"}


async def test_log_probabilities_reach_the_caller():
    request = replace(REQUEST, sampling=chat.Sampling(top_logprobs=0))
    async with gateway_and_tier() as tier:
        answer = await collected(tier, request)
    assert answer[1].logprobs[0] == events.TokenLogprob("Paris", -0.5, b"Paris")


async def test_an_answer_begun_elsewhere_is_continued_and_not_repeated():
    request = replace(REQUEST, answer_so_far="Paris is")
    async with gateway_and_tier() as tier:
        assert text_of(await collected(tier, request)) == " the capital."


async def test_the_backend_sees_the_request_as_the_device_made_it():
    backend = ScriptedBackend()
    request = replace(REQUEST, max_tokens=7, sampling=chat.Sampling(temperature=0.25, seed=4))
    async with gateway_and_tier(backend) as tier:
        await collected(tier, request)
    seen = backend.requests[0]
    assert replace(seen, deadline=Deadline.NEVER, request_id="r1", cache_salt="") == request


async def test_same_model_demo_marks_the_model_and_every_answer():
    async with gateway_and_tier(same_model_demo=True) as tier:
        assert (await tier.info()).same_model_demo
        assert (await collected(tier))[0].same_model_demo

"""What a gateway makes of a draft: judged, dropped, or no longer worth judging."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from asked import REQUEST
from isthmus.cloud.server import Gateway
from isthmus.cloud.testing import ScriptedBackend, gateway_config
from isthmus.core import chat, errors, events
from isthmus.core.tier import ModelInfo
from isthmus.edge.remote import RemoteConfig, RemoteTier
from scripted_gateway import collected, gateway_and_tier

JUDGES = ModelInfo("scripted", "scripted", context_tokens=4096, verifies_drafts=True)
DRAFTED = replace(REQUEST, answer_so_far="Paris", draft=" is the end")


async def test_a_gateway_goes_on_from_what_stands_of_a_draft():
    backend = ScriptedBackend(info=JUDGES, draft_logprobs=(-0.1, -0.2, -9.0))
    async with gateway_and_tier(backend) as tier:
        info = await tier.info()
        answer = await collected(tier, replace(DRAFTED, max_tokens=4))
    assert info.verifies_drafts
    assert answer[0].draft == events.DraftVerdict(True, len(" is the"), 2, 3)
    assert "".join(event.text for event in answer[1:-1]) == " capital."
    asked = backend.requests[-1]
    assert (asked.answer_so_far, asked.draft, asked.max_tokens) == ("Paris is the", "", 2)


async def test_a_gateway_that_cannot_judge_drops_a_draft_and_says_so():
    backend = ScriptedBackend()
    async with gateway_and_tier(backend) as tier:
        answer = await collected(tier, DRAFTED)
    assert answer[0].draft == events.DraftVerdict(judged=False)
    assert "".join(event.text for event in answer[1:-1]) == " is the capital."


@pytest.mark.parametrize(
    "more",
    [
        {"tools": (chat.Tool("f"),)},
        {"response_format": chat.ResponseFormat(chat.ResponseKind.JSON_OBJECT)},
    ],
    ids=["tools", "form"],
)
async def test_a_draft_of_a_form_or_of_a_call_is_not_judged(more):
    able = replace(JUDGES, supports_tools=True, supports_json=True)
    async with gateway_and_tier(ScriptedBackend(info=able)) as tier:
        answer = await collected(tier, replace(DRAFTED, **more))
    assert answer[0].draft == events.DraftVerdict(judged=False)


async def test_a_draft_that_the_backend_refuses_is_dropped_and_the_answer_given():
    class Refuses(ScriptedBackend):
        async def judge(self, request):
            raise errors.NotSupported("not this one", field="draft")

    async with gateway_and_tier(Refuses(info=JUDGES)) as tier:
        answer = await collected(tier, DRAFTED)
    assert answer[0].draft == events.DraftVerdict(judged=False)
    assert "".join(event.text for event in answer[1:-1]) == " is the capital."


async def test_a_backend_that_dies_over_a_draft_is_unavailable():
    class Dies(ScriptedBackend):
        async def judge(self, request):
            raise errors.Unavailable("gone")

    async with gateway_and_tier(Dies(info=JUDGES)) as tier:
        with pytest.raises(errors.Unavailable, match="gone"):
            await collected(tier, DRAFTED)


async def test_an_answer_without_a_draft_tells_no_verdict():
    async with gateway_and_tier(ScriptedBackend(info=JUDGES)) as tier:
        answer = await collected(tier)
    assert answer[0].draft is None


async def test_a_gateway_stops_judging_drafts_where_that_does_not_pay_and_tells_what_it_cost():
    class Slow(ScriptedBackend):
        async def judge(self, request):
            await asyncio.sleep(0.03)
            return await super().judge(request)

    backend = Slow(info=JUDGES, draft_logprobs=(-9.0,))
    gateway = Gateway(gateway_config(), backend)
    await gateway.start()
    tier = RemoteTier(RemoteConfig(gateway.address))
    try:
        judged = []
        for i in range(20):
            answer = await collected(tier, replace(DRAFTED, request_id=f"d{i}"))
            judged.append(answer[0].draft.judged)
        sample = gateway.metrics.registry.get_sample_value
        seconds = "isthmus_cloud_draft_engine_seconds_total"
        assert judged[:7] == [True, True, True, False, True, True, True]
        assert sum(judged[8:]) == 1  # to see whether it still does not
        assert sample("isthmus_cloud_unjudged_drafts_total", {"reason": "not_worth_it"}) == 13
        assert sample(seconds, {"part": "saved"}) == 0
        assert sample(seconds, {"part": "spent"}) > 0.02
    finally:
        await tier.close()
        await gateway.stop()

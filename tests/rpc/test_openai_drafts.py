"""Drafts and begun answers at OpenAI-compatible upstreams: who is asked to judge, and to go on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from isthmus.core import events
from openai_upstream import REQUEST, Upstream, chunk, collected, tier_over


async def test_an_answer_begun_elsewhere_is_handed_over_to_be_continued():
    upstream = Upstream()
    upstream.owner = "vllm"
    async with tier_over(upstream) as tier:
        info = await tier.info()
        answer = await collected(tier, replace(REQUEST, answer_so_far="Once upon"))
    body = upstream.bodies[0]
    assert info.continues_answers
    assert body["messages"][-1] == {"role": "assistant", "content": "Once upon"}
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
    assert not answer[0].anew


async def test_an_upstream_that_cannot_continue_begins_anew_and_says_so():
    upstream = Upstream()
    async with tier_over(upstream) as tier:
        info = await tier.info()
        answer = await collected(tier, replace(REQUEST, answer_so_far="Once upon"))
    (body,) = upstream.bodies
    assert not info.continues_answers
    assert body["messages"][-1] == {"role": "user", "content": "hello"}
    assert "continue_final_message" not in body
    assert answer[0].anew


@pytest.mark.parametrize(
    ("pieces", "told"),
    [
        (["\n", "\nThe end"], "The end"),
        (["\n\nThe end"], "The end"),
        (["The end"], "The end"),
        (["\n", "The end"], "The end"),
        (["\n\n", "\nThe end"], "\nThe end"),
    ],
)
async def test_the_spaces_that_a_begun_answer_ends_with_are_not_said_twice(pieces, told):
    upstream = Upstream()
    upstream.owner = "vllm"
    upstream.chunks = [*(chunk(piece) for piece in pieces), chunk(finish="stop")]
    upstream.delay_s = 0.005
    async with tier_over(upstream) as tier:
        answer = await collected(tier, replace(REQUEST, answer_so_far="Once.\n\n"))
    assert upstream.bodies[0]["messages"][-1]["content"] == "Once."
    assert "".join(one.text for one in answer[1:-1]) == told


DRAFTED = replace(REQUEST, answer_so_far="It is", draft=" Paris or Rome")


def rows(*told):
    return [None, *({"7": {"decoded_token": t, "logprob": lp, "rank": 2}} for t, lp in told)]


async def test_a_vllm_server_judges_a_draft_by_the_log_probabilities_of_the_prompt():
    upstream = Upstream()
    upstream.owner = "vllm"
    upstream.prompt_logprobs = rows(
        ("hello", -7.0), (" is", -6.0), (" Paris", -0.1), (" or", -0.5), (" Rome", -8.0)
    )
    async with tier_over(upstream) as tier:
        info = await tier.info()
        answer = await collected(tier, DRAFTED)
    judging, answering = upstream.bodies
    assert info.verifies_drafts
    assert answer[0].draft == events.DraftVerdict(True, len(" Paris or"), 2, 3)
    assert (judging["prompt_logprobs"], judging["max_tokens"], judging["stream"]) == (0, 1, False)
    assert judging["messages"][-1]["content"] == "It is Paris or Rome"
    assert judging["continue_final_message"] is True
    assert answering["messages"][-1]["content"] == "It is Paris or"
    assert "prompt_logprobs" not in answering


async def test_an_upstream_that_tells_no_log_probabilities_of_prompts_gets_no_say():
    upstream = Upstream()
    upstream.owner = "vllm"
    async with tier_over(upstream) as tier:
        answer = await collected(tier, DRAFTED)
    assert answer[0].draft == events.DraftVerdict(judged=False)
    assert upstream.bodies[-1]["messages"][-1]["content"] == "It is"


async def test_an_upstream_that_is_not_vllm_is_not_asked_to_judge():
    upstream = Upstream()
    async with tier_over(upstream) as tier:
        info = await tier.info()
        await collected(tier, DRAFTED)
    assert not info.verifies_drafts
    assert len(upstream.bodies) == 1
    assert "continue_final_message" not in upstream.bodies[0]

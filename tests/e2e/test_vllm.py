"""The whole road: openai client, agent, gRPC gateway, vLLM; and the gateway on vLLM alone.

Run by `make test-vllm`, which builds an environment with vLLM and exports the model. Gateway and
agent are processes of their own, as in production; one engine serves all tests of this file.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from dataclasses import replace
from pathlib import Path

import jsonschema
import openai
import pytest

from asked import anew
from isthmus.core import chat, errors, events
from isthmus.core.deadline import Deadline
from isthmus.edge.remote import RemoteConfig, RemoteTier
from processes import Program
from vllm_gateway import MODEL, NEEDS_VLLM, SIGNER, RunningGateway

pytestmark = NEEDS_VLLM

QUESTION = "What is the capital of France?"
REQUEST = chat.ChatRequest(
    "r1",
    (chat.Message(chat.Role.USER, (chat.TextPart(QUESTION),)),),
    sampling=chat.Sampling(temperature=0),
    max_tokens=40,
)
LONG = replace(REQUEST, max_tokens=800, sampling=chat.Sampling(temperature=0, ignore_eos=True))


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    running = RunningGateway(tmp_path_factory.mktemp("gateway"))
    yield running
    running.program.stop()


@contextlib.contextmanager
def running_agent(gateway, **environment):
    environment["ISTHMUS_EDGE_PRIVACY__CONSENT"] = "true"
    environment["ISTHMUS_EDGE_GATEWAY_TOKEN"] = SIGNER.token(exp=int(time.time()) + 86_400)
    program = Program(
        "edge", "serve", "--listen", "127.0.0.1:0", "--gateway", gateway.address, **environment
    )
    try:
        url = program.wait_for(r"http://\S+?/v1", 60).group()
        program.wait_for(r"^ready: ", 60)
        yield url
    finally:
        program.stop()


@pytest.fixture(scope="module")
def agent(gateway):
    with running_agent(gateway) as url:
        yield url


@contextlib.asynccontextmanager
async def client_of(url):
    async with openai.AsyncOpenAI(
        base_url=url, api_key="none", max_retries=0, timeout=60
    ) as client:
        yield client


@contextlib.asynccontextmanager
async def tier_of(gateway, tenant="acme"):
    tier = RemoteTier(RemoteConfig(gateway.address, token=SIGNER.token(tenant=tenant)))
    try:
        yield tier
    finally:
        await tier.close()


def ask(client, route="only_in_cloud", **more):
    defaults = {
        "model": "isthmus",
        "messages": [{"role": "user", "content": QUESTION}],
        "temperature": 0,
        "max_tokens": 40,
        "extra_body": {"isthmus": {"route": route}},
    }
    return client.chat.completions.with_raw_response.create(**defaults | more)


def text_of(answer):
    return "".join(event.text for event in answer if isinstance(event, events.Delta))


# --- the gateway on vLLM ---


async def test_vllm_tells_its_model_through_the_gateway(gateway):
    async with tier_of(gateway) as tier:
        info = await tier.info()
    assert (info.backend, info.context_tokens) == ("vllm", 1024)
    assert info.model == Path(MODEL).name


async def test_vllm_names_paris_in_several_pieces(gateway):
    async with tier_of(gateway) as tier:
        answer = [event async for event in tier.generate(anew(REQUEST))]
    assert "Paris" in text_of(answer)
    assert len(answer) > 5
    finished = answer[-1]
    assert finished.reason is events.FinishReason.STOP
    assert finished.usage.prompt_tokens == answer[0].prompt_tokens > 20
    assert finished.usage.completion_tokens >= len(answer) - 3


async def test_vllm_continues_an_answer_begun_elsewhere(gateway):
    request = replace(REQUEST, answer_so_far="The capital of France is")
    async with tier_of(gateway) as tier:
        answer = [event async for event in tier.generate(anew(request))]
    assert text_of(answer).startswith(" Paris")


async def judged(tier, request):
    """An answer whose draft was judged: at first one in four goes without, to compare."""
    for _ in range(2):
        answer = [event async for event in tier.generate(anew(request))]
        if answer[0].draft.judged:
            return answer
    raise AssertionError("two drafts in a row were not judged")


@pytest.mark.parametrize("again", [False, True], ids=["fresh", "cached"])
async def test_vllm_judges_a_draft_and_goes_on_from_what_stands(gateway, again):
    begun = replace(REQUEST, answer_so_far="The capital of France")
    async with tier_of(gateway) as tier:
        info = await tier.info()
        plain = [event async for event in tier.generate(anew(begun))]
        right = await judged(tier, replace(begun, draft=" is Paris."))
        wrong = await judged(tier, replace(begun, draft=" is banana soup"))
    assert info.verifies_drafts
    assert right[0].draft.accepted_bytes == len(" is Paris.")
    assert " is Paris." + text_of(right) == text_of(plain)
    assert wrong[0].draft.accepted_bytes == len(" is")
    assert text_of(wrong).startswith(" Paris")


async def test_vllm_gives_log_probabilities_with_exact_bytes(gateway):
    request = replace(REQUEST, sampling=chat.Sampling(temperature=0, top_logprobs=2), max_tokens=6)
    async with tier_of(gateway) as tier:
        answer = [event async for event in tier.generate(anew(request))]
    logprobs = [one for event in answer[1:-1] for one in event.logprobs]
    assert len(logprobs) == 6
    assert b"".join(one.raw for one in logprobs).decode() == text_of(answer)
    assert all(len(one.top) == 2 and one.top[0].logprob == one.logprob <= 0 for one in logprobs)


async def test_vllm_is_held_to_a_json_schema(gateway):
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}},
        "required": ["city"],
        "additionalProperties": False,
    }
    form = chat.ResponseFormat(chat.ResponseKind.JSON_SCHEMA, "city", schema, strict=True)
    async with tier_of(gateway) as tier:
        request = replace(REQUEST, response_format=form, max_tokens=100)
        answer = [event async for event in tier.generate(anew(request))]
    assert list(json.loads(text_of(answer))) == ["city"]


WEATHER = chat.Tool(
    "get_weather",
    "The weather of a city.",
    {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}},
        "required": ["city"],
        "additionalProperties": False,
    },
)
CLOCK = chat.Tool("clock", "The time.", {"type": "object", "additionalProperties": False})
MUST_CALL = replace(
    REQUEST, tools=(WEATHER, CLOCK), tool_choice=chat.ToolChoice.REQUIRED, max_tokens=200
)


def calls_of(answer):
    """Name and arguments of each call of an answer, by its index."""
    calls = {}
    for event in answer:
        for piece in event.tool_calls if isinstance(event, events.Delta) else ():
            name, arguments = calls.get(piece.index, ("", ""))
            calls[piece.index] = (name + piece.name, arguments + piece.arguments)
    return calls


@pytest.mark.parametrize("named", [WEATHER, CLOCK])
async def test_vllm_makes_the_call_that_it_must_with_arguments_that_fit(gateway, named):
    async with tier_of(gateway) as tier:
        answer = [e async for e in tier.generate(anew(MUST_CALL, tool_name=named.name))]
    name, arguments = calls_of(answer)[0]
    assert name == named.name
    jsonschema.validate(json.loads(arguments), named.parameters)
    assert text_of(answer) == ""
    assert answer[-1].reason is events.FinishReason.TOOL_CALLS


async def test_vllm_makes_one_call_when_it_may_not_make_several(gateway):
    sampling = chat.Sampling(temperature=1.0, seed=1, top_logprobs=0)
    asked = replace(MUST_CALL, parallel_tool_calls=False, sampling=sampling)
    async with tier_of(gateway) as tier:
        answer = [event async for event in tier.generate(anew(asked))]
    assert list(calls_of(answer)) == [0]
    logprobs = [one for event in answer[1:-1] for one in event.logprobs]
    assert len(logprobs) == answer[-1].usage.completion_tokens


async def test_vllm_goes_on_after_a_call(gateway):
    turn = (
        *REQUEST.messages,
        chat.Message(chat.Role.ASSISTANT, tool_calls=(chat.ToolCall("c", "clock", "{}"),)),
        chat.Message(chat.Role.TOOL, (chat.TextPart("noon"),), tool_call_id="c"),
    )
    unused = replace(MUST_CALL, messages=turn, tool_choice=chat.ToolChoice.NONE, max_tokens=20)
    async with tier_of(gateway) as tier:
        answer = [event async for event in tier.generate(anew(unused))]
    assert text_of(answer)
    assert not calls_of(answer)


async def test_a_caller_that_leaves_aborts_the_request_in_vllm(gateway):
    async with tier_of(gateway) as tier:
        await gateway.until_idle(5)
        tokens_before = gateway.sample("vllm:generation_tokens_total")
        ended_before = gateway.sample("vllm:request_success_total")
        cancelled_before = gateway.sample("isthmus_cloud_cancellations_total")
        answer = tier.generate(anew(LONG))
        for _ in range(8):
            await anext(answer)
        assert gateway.sample("vllm:num_requests_running") == 1
        await answer.aclose()
        await gateway.until_idle(5)
    # vLLM counts no end of the answer (it would be 800 tokens), and computes no more of it.
    tokens = gateway.sample("vllm:generation_tokens_total") - tokens_before
    await asyncio.sleep(0.3)
    assert gateway.sample("vllm:generation_tokens_total") - tokens_before == tokens < 400
    assert gateway.sample("vllm:request_success_total") == ended_before
    assert gateway.sample("isthmus_cloud_cancellations_total") == cancelled_before + 1


async def test_a_deadline_ends_the_answer_and_the_work_in_vllm(gateway):
    async with tier_of(gateway) as tier:
        began_s = time.monotonic()
        with pytest.raises(errors.DeadlineExceeded):
            async for _ in tier.generate(anew(LONG, deadline=Deadline.after(0.5))):
                pass
        assert time.monotonic() - began_s < 1.0
        await gateway.until_idle(1)


@pytest.mark.parametrize(
    ("change", "kind", "field"),
    [
        (
            {"messages": (chat.Message(chat.Role.USER, (chat.TextPart("word " * 2000),)),)},
            errors.ContextTooLong,
            "messages",
        ),
        ({"tools": (chat.Tool("f"),)}, errors.NotSupported, "tool_choice"),
        (
            {
                "tools": (chat.Tool("f", parameters={"type": "nonsense"}),),
                "tool_choice": chat.ToolChoice.REQUIRED,
            },
            errors.InvalidRequest,
            "tools",
        ),
        (
            {
                "response_format": chat.ResponseFormat(chat.ResponseKind.JSON_OBJECT),
                "answer_so_far": "{",
            },
            errors.NotSupported,
            "answer_so_far",
        ),
        ({"model": "another"}, errors.InvalidRequest, "model"),
    ],
)
async def test_what_vllm_cannot_serve_is_an_error_that_names_the_field(
    gateway, change, kind, field
):
    async with tier_of(gateway) as tier:
        with pytest.raises(kind) as caught:
            async for _ in tier.generate(anew(REQUEST, **change)):
                pass
    assert caught.value.field == field


# --- through the agent ---


async def test_an_openai_client_gets_paris_from_vllm(agent):
    async with client_of(agent) as client:
        raw = await ask(client)
        answer = raw.parse()
    assert "Paris" in answer.choices[0].message.content
    assert raw.headers["x-isthmus-route"] == "cloud"
    assert answer.usage.prompt_tokens > 20


async def test_an_openai_client_gets_a_call_from_vllm(agent):
    function = {"name": WEATHER.name, "parameters": dict(WEATHER.parameters), "strict": True}
    async with client_of(agent) as client:
        raw = await ask(
            client,
            tools=[{"type": "function", "function": function}],
            tool_choice="required",
            parallel_tool_calls=False,
            max_tokens=200,
        )
    (choice,) = raw.parse().choices
    assert raw.headers["x-isthmus-route"] == "cloud"
    assert choice.finish_reason == "tool_calls"
    (call,) = choice.message.tool_calls
    assert call.function.name == WEATHER.name
    assert call.id
    jsonschema.validate(json.loads(call.function.arguments), function["parameters"])


async def test_an_openai_client_gets_the_answer_in_several_chunks(agent):
    async with client_of(agent) as client:
        raw = await ask(client, stream=True)
        pieces = [
            chunk.choices[0].delta.content
            async for chunk in raw.parse()
            if chunk.choices and chunk.choices[0].delta.content
        ]
    assert "Paris" in "".join(pieces)
    assert len(pieces) > 3
    assert raw.headers["x-isthmus-route"] == "cloud"


async def test_a_client_that_leaves_the_agent_aborts_the_request_in_vllm(gateway, agent):
    story = [{"role": "user", "content": "Tell me a very long story about the sea."}]
    async with client_of(agent) as client:
        await gateway.until_idle(5)
        tokens_before = gateway.sample("vllm:generation_tokens_total")
        raw = await ask(client, stream=True, max_tokens=800, messages=story)
        stream = raw.parse()
        chunks = 0
        async for _ in stream:
            chunks += 1
            if chunks == 8:
                break
        assert gateway.sample("vllm:num_requests_running") == 1
        await stream.close()
        await gateway.until_idle(5)
    assert gateway.sample("vllm:generation_tokens_total") - tokens_before < 400


async def test_the_agents_deadline_reaches_vllm(gateway):
    story = [{"role": "user", "content": "Tell me a very long story about the sea."}]
    with running_agent(gateway, ISTHMUS_EDGE_DEADLINE_S="1.5") as url:
        async with client_of(url) as client:
            began_s = time.monotonic()
            with pytest.raises(openai.APIStatusError):
                await ask(client, max_tokens=900, messages=story)
            assert time.monotonic() - began_s < 3
    await gateway.until_idle(1)


# --- tenants and logs ---


async def test_a_prefix_is_cached_for_its_own_tenant_alone(gateway):
    long = " ".join(f"Fact {i}: the number {i} is followed by {i + 1}." for i in range(30))
    request = replace(
        REQUEST,
        messages=(chat.Message(chat.Role.USER, (chat.TextPart(long + " " + QUESTION),)),),
        max_tokens=2,
    )

    async def cached_tokens(tenant):
        async with tier_of(gateway, tenant) as tier:
            answer = [event async for event in tier.generate(anew(request))]
        return answer[-1].usage.cached_tokens

    assert await cached_tokens("acme") == 0
    assert await cached_tokens("acme") > 100
    assert await cached_tokens("rival") == 0


SECRET = "Xylophonia"


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"sampling": chat.Sampling(temperature=0, stop=(SECRET,))},
        {"answer_so_far": f"{SECRET} is", "draft": f" {SECRET} soup"},
    ],
    ids=["plain", "stop", "draft"],
)
async def test_no_word_of_an_answered_user_is_in_the_log(gateway, change):
    async with tier_of(gateway) as tier:
        assert [event async for event in tier.generate(anew(SAY_SECRET, **change))]
    assert_silent(gateway)


@pytest.mark.parametrize(
    "change",
    [
        {"tools": (chat.Tool(SECRET, parameters={"type": SECRET}),)},
        {
            "tools": (chat.Tool("f", SECRET, {"type": "object", "pattern": f"({SECRET}"}),),
            "tool_choice": chat.ToolChoice.REQUIRED,
        },
        {
            "response_format": chat.ResponseFormat(
                chat.ResponseKind.JSON_SCHEMA,
                SECRET,
                {"type": "string", "pattern": f"^{SECRET}(?=x)[", "minLength": 5},
            )
        },
        {"messages": (chat.Message(chat.Role.USER, (chat.TextPart(f"{SECRET} " * 900),)),)},
    ],
    ids=["tool", "broken tool", "broken form", "too long"],
)
async def test_no_word_of_a_refused_user_is_in_the_log(gateway, change):
    async with tier_of(gateway) as tier:
        with contextlib.suppress(errors.InvalidRequest, errors.NotSupported):
            async for _ in tier.generate(anew(SAY_SECRET, **change)):
                pass
        await tier.load()
    assert_silent(gateway)


SAY_SECRET = replace(
    REQUEST, messages=(chat.Message(chat.Role.USER, (chat.TextPart(f"Say {SECRET} once."),)),)
)


def assert_silent(gateway):
    said = "".join(gateway.program.said)
    assert "vllm" in said
    assert SECRET.lower() not in said.lower()


# --- the end ---


async def test_stopping_the_gateway_leaves_the_user_with_an_answer(gateway, agent):
    # The last test: the gateway is gone after it.
    async with client_of(agent) as client:
        before = await ask(client, route="prefer_in_cloud")
        status, took_s = await asyncio.to_thread(gateway.program.stop)
        after = await ask(client, route="prefer_in_cloud")
    assert before.headers["x-isthmus-route"] == "cloud"
    assert (status, took_s < 5) == (0, True)
    assert after.headers["x-isthmus-route"] == "edge"
    assert "fell_back" in after.headers["x-isthmus-reasons"]
    assert "Paris" in after.parse().choices[0].message.content

"""What a gateway refuses, and how a backend's errors reach the device."""

from __future__ import annotations

import logging
from dataclasses import replace

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from asked import REQUEST, anew
from isthmus.cloud.testing import ScriptedBackend, running_gateway
from isthmus.core import chat, errors, events, wire
from isthmus.core.decision import Reason
from scripted_gateway import collected, gateway_and_tier, raw_stub, text_of
from waiting import eventually


@pytest.mark.parametrize(
    "error",
    [
        errors.InvalidRequest("bad", field="top_p"),
        errors.ContextTooLong("long", field="messages"),
        errors.NotSupported("no", field="tools"),
        errors.Overloaded("full", retry_after_s=2.5),
        errors.Unavailable("gone"),
        errors.DeadlineExceeded("late"),
        errors.InternalError("oops"),
        errors.PolicyRefused("no", reason="price_above_limit"),
    ],
    ids=lambda error: error.kind,
)
@pytest.mark.parametrize("fail_after", [None, 2])
async def test_a_backends_error_is_the_same_error_on_the_device(error, fail_after):
    async with gateway_and_tier(ScriptedBackend(failure=error, fail_after=fail_after)) as tier:
        seen = []
        with pytest.raises(type(error)) as caught:  # noqa: PT012
            async for event in tier.generate(anew()):
                seen.append(event)  # noqa: PERF401
    assert type(caught.value) is type(error)
    assert (caught.value.message, caught.value.field) == (error.message, error.field)
    assert getattr(caught.value, "retry_after_s", None) == getattr(error, "retry_after_s", None)
    assert text_of(seen) == ("" if fail_after is None else "Paris is")


async def test_a_backends_fault_tells_nobody_the_users_words(caplog):
    backend = ScriptedBackend(failure=RuntimeError("my secret prompt"))
    with caplog.at_level(logging.DEBUG):
        async with gateway_and_tier(backend) as tier:
            with pytest.raises(errors.InternalError) as caught:
                await collected(tier)
    assert "secret" not in caught.value.message
    assert "secret" not in caplog.text
    assert "RuntimeError" in caplog.text


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"messages": ()}, "messages"),
        ({"request_id": ""}, "request_id"),
        ({"model": "other"}, "model"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"request_id": "x" * 129}, "request_id"),
        ({"received": "", "received_tokens": 2**40}, "received_tokens"),
        ({"received": "x" * 3_000_000}, "received"),
        ({"sampling": chat.Sampling(temperature=-0.1)}, "temperature"),
        ({"sampling": chat.Sampling(temperature=float("nan"))}, "temperature"),
        ({"sampling": chat.Sampling(top_p=0.0)}, "top_p"),
        ({"sampling": chat.Sampling(min_p=1.5)}, "min_p"),
        ({"sampling": chat.Sampling(repetition_penalty=0.0)}, "repetition_penalty"),
        ({"sampling": chat.Sampling(presence_penalty=3.0)}, "presence_penalty"),
        ({"sampling": chat.Sampling(frequency_penalty=-3.0)}, "frequency_penalty"),
        ({"sampling": chat.Sampling(stop=("",))}, "stop"),
        ({"sampling": chat.Sampling(top_logprobs=21)}, "top_logprobs"),
    ],
)
async def test_bad_input_is_an_invalid_argument_that_names_its_field(change, field):
    backend = ScriptedBackend()
    message = wire.request_to_wire(replace(REQUEST, **change))
    async with running_gateway(backend) as address, raw_stub(address) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in stub.Generate(message):
                pass
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    violation = error_details_pb2.BadRequest()
    status = rpc_status.from_call(caught.value)
    assert any(detail.Unpack(violation) for detail in status.details)
    assert violation.field_violations[0].field == field
    assert not backend.requests


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"tools": (chat.Tool("f"),)}, "tools"),
        (
            {"response_format": chat.ResponseFormat(chat.ResponseKind.JSON_OBJECT)},
            "response_format",
        ),
        (
            {"messages": (chat.Message(chat.Role.USER, (chat.ImagePart("https://x/y.png"),)),)},
            "messages[0].content",
        ),
    ],
)
async def test_what_the_model_cannot_do_is_said_and_not_dropped(change, field):
    async with gateway_and_tier() as tier:
        with pytest.raises(errors.NotSupported) as caught:
            await collected(tier, replace(REQUEST, **change))
    assert caught.value.field == field


@pytest.mark.parametrize("privacy_class", [chat.PrivacyClass.SENSITIVE, chat.PrivacyClass.UNKNOWN])
async def test_a_request_that_should_not_have_left_the_device_goes_no_further(privacy_class):
    backend = ScriptedBackend()
    async with gateway_and_tier(backend) as tier:
        with pytest.raises(errors.PolicyRefused) as caught:
            await collected(tier, replace(REQUEST, privacy_class=privacy_class))
    assert caught.value.reason == Reason.PRIVACY_LOCAL_ONLY
    assert not backend.requests


async def test_a_request_over_the_size_limit_is_told_to_be_shorter():
    long = replace(REQUEST, answer_so_far="x" * 5_000)
    async with gateway_and_tier(max_request_bytes=2_000) as tier:
        with pytest.raises(errors.InvalidRequest) as caught:
            await collected(tier, long)
    assert caught.value.field == "messages"


async def test_an_answer_never_costs_more_than_its_limit():
    price = {"input_usd_per_mtok": "0", "output_usd_per_mtok": "1"}
    limit = chat.RoutePreference(max_price_usd=0.000003)
    backend = ScriptedBackend(["x"] * 50, delay_s=0.001)
    async with gateway_and_tier(backend, prices=[price]) as tier:
        answer = await collected(tier, replace(REQUEST, preference=limit))
        assert await eventually(lambda: backend.stopped_at_s)
    assert text_of(answer) == "xxx"
    assert answer[-1].reason is events.FinishReason.LENGTH
    assert answer[-1].usage.completion_tokens == 3


async def test_a_prompt_that_costs_too_much_is_refused():
    price = {"input_usd_per_mtok": "10", "output_usd_per_mtok": "1"}
    limit = chat.RoutePreference(max_price_usd=0.000003)
    async with gateway_and_tier(prices=[price]) as tier:
        with pytest.raises(errors.PolicyRefused) as caught:
            await collected(tier, replace(REQUEST, preference=limit))
    assert caught.value.reason == Reason.PRICE_ABOVE_LIMIT

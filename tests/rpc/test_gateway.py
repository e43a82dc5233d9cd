"""The gateway over real gRPC on loopback, in front of a scripted backend."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import urllib.request
from dataclasses import replace

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from asked import REQUEST, anew
from isthmus.cloud import server
from isthmus.cloud.server import Gateway
from isthmus.cloud.testing import ScriptedBackend, gateway_config, running_gateway
from isthmus.core import chat, errors, events, wire
from isthmus.core.deadline import Deadline
from isthmus.core.decision import Outcome, Reason, Status, Target
from isthmus.core.tier import ModelInfo
from isthmus.edge.remote import RemoteConfig, RemoteTier
from isthmus.v1.gateway_pb2_grpc import GatewayServiceStub


@contextlib.asynccontextmanager
async def connected(address, **settings):
    tier = RemoteTier(RemoteConfig(address, **settings))
    try:
        yield tier
    finally:
        await tier.close()


@contextlib.asynccontextmanager
async def gateway_and_tier(backend=None, *, token=None, **overrides):
    async with (
        running_gateway(backend, token=token, **overrides) as address,
        connected(address, token=token) as tier,
    ):
        yield tier


@contextlib.asynccontextmanager
async def raw_stub(address):
    async with grpc.aio.insecure_channel(address) as channel:
        yield GatewayServiceStub(channel)


async def collected(tier, request=REQUEST):
    return [event async for event in tier.generate(anew(request))]


def text_of(collected_events):
    return "".join(event.text for event in collected_events if isinstance(event, events.Delta))


async def eventually(condition, within_s=1.0):
    until_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until_s, "it did not happen in time"
        await asyncio.sleep(0.002)


async def scraped(address):
    def read():
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
            return answer.read().decode()

    return await asyncio.to_thread(read)


# --- streaming ---


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


# --- stopping ---


async def test_a_caller_that_leaves_stops_the_backend_within_100_ms():
    backend = ScriptedBackend(["x"] * 1000, delay_s=0.02)
    async with gateway_and_tier(backend) as tier:
        answer = tier.generate(anew())
        async for event in answer:
            if isinstance(event, events.Delta):
                break
        left_s = time.monotonic()
        await answer.aclose()
        await eventually(lambda: backend.stopped_at_s)
    assert backend.stopped_at_s[0] - left_s < 0.1


async def test_a_caller_that_leaves_before_the_first_token_stops_the_backend_too():
    backend = ScriptedBackend(first_delay_s=60)
    async with gateway_and_tier(backend) as tier:
        task = asyncio.create_task(collected(tier))
        await eventually(lambda: backend.requests)
        left_s = time.monotonic()
        task.cancel()
        await eventually(lambda: backend.stopped_at_s)
        with pytest.raises(asyncio.CancelledError):
            await task
    assert backend.stopped_at_s[0] - left_s < 0.1


async def test_a_deadline_ends_the_answer_on_both_sides():
    backend = ScriptedBackend(["x"] * 1000, delay_s=0.02)
    async with gateway_and_tier(backend) as tier:
        began_s = time.monotonic()
        with pytest.raises(errors.DeadlineExceeded):
            await collected(tier, replace(REQUEST, deadline=Deadline.after(0.2)))
        assert time.monotonic() - began_s < 0.5
        await eventually(lambda: backend.stopped_at_s)
    assert backend.requests[0].deadline.at_s - began_s == pytest.approx(0.2, abs=0.1)


async def test_the_messages_own_deadline_counts_without_one_of_grpcs():
    backend = ScriptedBackend(first_delay_s=60)
    message = wire.request_to_wire(replace(REQUEST, deadline=Deadline.after(0.1)))
    async with running_gateway(backend) as address, raw_stub(address) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in stub.Generate(message):
                pass
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_deadline_that_has_passed_is_never_sent():
    backend = ScriptedBackend()
    async with gateway_and_tier(backend) as tier:
        with pytest.raises(errors.DeadlineExceeded):
            await collected(tier, replace(REQUEST, deadline=Deadline.after(0)))
        assert not tier.connected


async def test_stopping_twice_does_no_harm():
    gateway = Gateway(gateway_config(), ScriptedBackend())
    await gateway.start()
    await gateway.stop()
    await gateway.stop()
    async with connected(gateway.address) as tier:
        with pytest.raises(errors.Unavailable):
            await collected(tier)


# --- health ---


async def test_health_follows_the_backend_and_the_drain(monkeypatch):
    monkeypatch.setattr(server, "_HEALTH_PERIOD_S", 0.01)
    backend = ScriptedBackend(["x"] * 1000, delay_s=0.02)
    gateway = Gateway(gateway_config(drain_s=1), backend)
    await gateway.start()
    async with (
        grpc.aio.insecure_channel(gateway.address) as channel,
        connected(gateway.address) as tier,
    ):
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service="isthmus.v1.GatewayService")
        serving = health_pb2.HealthCheckResponse.SERVING
        not_serving = health_pb2.HealthCheckResponse.NOT_SERVING
        assert (await stub.Check(request)).status == serving
        changes = stub.Watch(request)
        assert (await changes.read()).status == serving
        backend.healthy = False
        assert (await changes.read()).status == not_serving
        backend.healthy = True
        assert (await changes.read()).status == serving
        answer = tier.generate(anew())
        await anext(answer)
        stopping = asyncio.create_task(gateway.stop())
        assert (await changes.read()).status == not_serving
        changes.cancel()
        await answer.aclose()
        await stopping


async def test_a_health_check_that_breaks_means_not_healthy_and_does_not_stop_the_stop(monkeypatch):
    monkeypatch.setattr(server, "_HEALTH_PERIOD_S", 0.01)
    backend = ScriptedBackend()
    gateway = Gateway(gateway_config(), backend)
    await gateway.start()
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        changes = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await changes.read()).status == health_pb2.HealthCheckResponse.SERVING
        monkeypatch.setattr(backend, "health", broken_health)
        assert (await changes.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        changes.cancel()
    await gateway.stop()
    assert backend.closed


async def broken_health():
    raise ZeroDivisionError("a secret")


# --- overload ---


async def test_a_full_queue_refuses_at_once_and_says_when_to_come_back():
    backend = ScriptedBackend(["x"] * 1000, delay_s=0.02)
    async with gateway_and_tier(backend, max_running_requests=1, max_waiting_requests=1) as tier:
        first = asyncio.create_task(collected(tier))
        await eventually(lambda: backend.running == 1)
        second = asyncio.create_task(collected(tier))
        load = await tier.load()
        while not load.waiting_requests:
            load = await tier.load()
        assert (load.running_requests, load.max_waiting_requests) == (1, 1)
        with pytest.raises(errors.Overloaded) as caught:
            await collected(tier)
        assert caught.value.retry_after_s > 0
        for task in (first, second):
            task.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
    assert backend.most_running == 1


async def test_a_waiting_request_gets_its_turn():
    backend = ScriptedBackend(delay_s=0.01)
    async with gateway_and_tier(backend, max_running_requests=1, max_waiting_requests=8) as tier:
        answers = await asyncio.gather(*(collected(tier) for _ in range(4)))
    assert {text_of(answer) for answer in answers} == {"Paris is the capital."}
    assert backend.most_running == 1


# --- errors ---


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
        await eventually(lambda: backend.stopped_at_s)
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


# --- who may ask ---


async def test_every_call_needs_the_token_and_so_does_health():
    outcome = Outcome("r", 0.0, Target.EDGE, (), Status.OK, chat.PrivacyClass.PUBLIC)
    raw = wire.outcome_to_wire(outcome).SerializeToString()
    async with running_gateway(token="right") as address:
        for wrong in (None, "wrong", "rightt"):
            async with connected(address, token=wrong) as tier:
                for call in (collected(tier), tier.info(), tier.load(), tier.report([raw], [])):
                    with pytest.raises(errors.Unauthenticated):
                        await call
        async with connected(address, token="right") as tier:
            assert text_of(await collected(tier)) == "Paris is the capital."
        async with grpc.aio.insecure_channel(address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.Check(health_pb2.HealthCheckRequest())
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
            metadata = (("authorization", "Bearer right"),)
            answer = await stub.Check(health_pb2.HealthCheckRequest(), metadata=metadata)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


# --- info, outcomes, metrics ---


async def test_the_model_tells_its_abilities_and_price():
    price = {"input_usd_per_mtok": "0.15", "output_usd_per_mtok": "0.6"}
    info = ModelInfo("big", "scripted", 8192, supports_tools=True)
    async with gateway_and_tier(ScriptedBackend(info=info), prices=[price]) as tier:
        told = await tier.info()
    assert (told.model, told.context_tokens, told.supports_tools) == ("big", 8192, True)
    assert str(told.price.output_usd_per_mtok) == "0.6"


async def test_metrics_count_requests_tokens_times_and_cancellations():
    backend = ScriptedBackend(delay_s=0.1)
    gateway = Gateway(gateway_config(metrics_listen="127.0.0.1:0"), backend)
    await gateway.start()
    async with connected(gateway.address) as tier:
        await collected(tier)
        with pytest.raises(errors.InvalidRequest):
            await collected(tier, replace(REQUEST, max_tokens=0))
        answer = tier.generate(anew())
        await anext(answer)
        await answer.aclose()
        await eventually(lambda: backend.stopped_at_s)
        # The call ends a moment after its backend.
        while "isthmus_cloud_cancellations_total 1.0" not in (
            text := await scraped(gateway.metrics_address)
        ):
            pass
    await gateway.stop()
    for line in (
        'isthmus_cloud_requests_total{code="OK"} 1.0',
        'isthmus_cloud_requests_total{code="INVALID_ARGUMENT"} 1.0',
        'isthmus_cloud_requests_total{code="CANCELLED"} 1.0',
        "isthmus_cloud_cancellations_total 1.0",
        'isthmus_cloud_tokens_total{kind="completion"} 5.0',
        "isthmus_cloud_time_to_first_token_seconds_count 1.0",
        'isthmus_cloud_time_to_first_token_seconds_bucket{le="0.5"} 1.0',
        "isthmus_cloud_time_per_output_token_seconds_count 1.0",
        "isthmus_cloud_requests_in_flight 0.0",
        "isthmus_cloud_queue_length 0.0",
    ):
        assert line in text


async def test_a_port_in_use_is_an_error_that_names_the_setting():
    async with running_gateway() as address:
        for setting in ("listen", "metrics_listen"):
            gateway = Gateway(gateway_config(**{setting: address}), ScriptedBackend())
            with pytest.raises(errors.Unavailable) as caught:
                await gateway.start()
            assert caught.value.field == setting


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

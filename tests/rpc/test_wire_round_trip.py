"""Core's values survive the wire."""

from __future__ import annotations

import math
from dataclasses import replace
from decimal import Decimal

import pytest
from google.rpc import error_details_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.core import chat, errors, events, wire
from isthmus.core.deadline import Deadline
from isthmus.core.decision import Outcome, Reason, Status, Target
from isthmus.core.money import Price, Usage
from isthmus.core.tier import Load, ModelInfo
from isthmus.v1 import chat_pb2, gateway_pb2

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
names = st.text("abcxyz_-09", min_size=1, max_size=12)
doubles = st.floats(allow_nan=False, allow_infinity=False)
uint32 = st.integers(0, 2**32 - 1)
tokens = st.integers(0, 2**40)
micro_usd = st.integers(0, 10**12)
schemas = st.dictionaries(
    texts, st.recursive(st.none() | st.integers() | texts, st.lists), max_size=3
)

parts = st.builds(chat.TextPart, texts) | st.builds(
    chat.ImagePart, texts, st.sampled_from(["low", "high", "auto"])
)
tool_calls = st.builds(chat.ToolCall, names, names, texts)
messages = st.builds(
    chat.Message,
    role=st.sampled_from(chat.Role),
    content=st.lists(parts, max_size=3).map(tuple),
    name=st.none() | names,
    tool_calls=st.lists(tool_calls, max_size=2).map(tuple),
    tool_call_id=st.none() | names,
)
sampling = st.builds(
    chat.Sampling,
    temperature=doubles,
    top_p=doubles,
    top_k=uint32,
    min_p=doubles,
    repetition_penalty=doubles,
    presence_penalty=doubles,
    frequency_penalty=doubles,
    seed=st.none() | st.integers(-(2**63), 2**63 - 1),
    stop=st.lists(texts, max_size=3).map(tuple),
    ignore_eos=st.booleans(),
    top_logprobs=st.none() | st.integers(0, 20),
)
requests = st.builds(
    chat.ChatRequest,
    request_id=names,
    messages=st.lists(messages, min_size=1, max_size=3).map(tuple),
    model=texts,
    sampling=sampling,
    max_tokens=st.none() | uint32,
    tools=st.lists(
        st.builds(chat.Tool, names, texts, schemas, st.none() | st.booleans()), max_size=2
    ).map(tuple),
    tool_choice=st.sampled_from(chat.ToolChoice),
    tool_name=st.none() | names,
    parallel_tool_calls=st.none() | st.booleans(),
    response_format=st.builds(
        chat.ResponseFormat,
        st.sampled_from(chat.ResponseKind),
        texts,
        st.none() | schemas,
        st.booleans(),
    ),
    preference=st.builds(
        chat.RoutePreference,
        ttft_slo_ms=st.none() | doubles,
        max_price_usd=st.none() | micro_usd.map(lambda micro: micro / 1e6),
    ),
    privacy_class=st.sampled_from(chat.PrivacyClass),
    answer_so_far=texts,
    draft=texts,
    received=st.none() | texts,
    received_tokens=tokens,
    priority=st.sampled_from(chat.Priority),
)
usages = st.builds(Usage, tokens, tokens, tokens)
logprob = st.floats(max_value=0, allow_nan=False)
top = st.builds(events.TopLogprob, texts, logprob, st.binary(max_size=4))
verdicts = st.builds(events.DraftVerdict, st.booleans(), tokens, tokens, tokens)
any_event = st.one_of(
    st.builds(events.Started, texts, tokens, tokens, st.booleans(), st.none() | verdicts),
    st.builds(
        events.Delta,
        texts,
        uint32,
        st.lists(
            st.builds(
                events.TokenLogprob,
                texts,
                logprob,
                st.binary(max_size=4),
                st.lists(top, max_size=2).map(tuple),
            ),
            max_size=2,
        ).map(tuple),
        st.lists(
            st.builds(events.ToolCallDelta, st.integers(0, 9), texts, texts, texts), max_size=2
        ).map(tuple),
    ),
    st.builds(events.Finished, st.sampled_from(events.FinishReason), usages),
)
outcomes = st.builds(
    Outcome,
    request_id=names,
    at_unix_s=doubles,
    route=st.sampled_from(Target),
    reasons=st.lists(st.sampled_from(Reason), max_size=3).map(tuple),
    status=st.sampled_from(Status),
    privacy_class=st.sampled_from(chat.PrivacyClass),
    model=texts,
    usage=usages,
    ttft_ms=st.none() | doubles,
    tpot_ms=st.none() | doubles,
    total_ms=doubles,
    price_micro_usd=micro_usd,
    saved_micro_usd=micro_usd,
    error_kind=names,
    expected_quality=st.none() | doubles,
    agreement=st.none() | doubles,
    regret_micro_usd=st.none() | doubles,
)
plain_errors = st.sampled_from(
    [
        errors.InvalidRequest,
        errors.ContextTooLong,
        errors.ConfigError,
        errors.NotSupported,
        errors.Unauthenticated,
        errors.Unavailable,
        errors.DeadlineExceeded,
        errors.InternalError,
    ]
)
any_error = st.one_of(
    st.builds(
        lambda cls, text, field: cls(text, field=field), plain_errors, texts, st.none() | names
    ),
    st.builds(
        lambda text, delay_ms: errors.Overloaded(text, retry_after_s=delay_ms / 1000),
        texts,
        st.integers(0, 10**7),
    ),
    st.builds(
        lambda text, delay_ms: errors.Unavailable(text, retry_after_s=delay_ms / 1000),
        texts,
        st.integers(0, 10**7),
    ),
    st.builds(
        lambda text, reason: errors.PolicyRefused(text, reason=reason),
        texts,
        st.sampled_from(Reason).map(str),
    ),
)


def over_the_wire(message):
    """Through bytes, as gRPC does it."""
    return type(message).FromString(message.SerializeToString())


def described(error):
    return (
        type(error),
        error.message,
        error.field,
        getattr(error, "retry_after_s", None),
        getattr(error, "reason", None),
    )


@given(requests)
@settings(deadline=None)
def test_a_request_comes_back_as_it_was(request_in):
    assert wire.request_from_wire(over_the_wire(wire.request_to_wire(request_in))) == request_in


@given(any_event)
@settings(deadline=None)
def test_an_event_comes_back_as_it_was(event):
    reader = wire.EventReader()
    read = [reader.read(over_the_wire(message)) for message in wire.event_to_wire(event)]
    assert [one for one in read if one is not None] == [event]


@given(outcomes)
@settings(deadline=None)
def test_an_outcome_comes_back_as_it_was(outcome):
    assert wire.outcome_from_wire(over_the_wire(wire.outcome_to_wire(outcome))) == outcome


@given(any_error)
@settings(deadline=None)
def test_an_error_comes_back_as_it_was_as_an_event_and_as_a_status(error):
    as_event = wire.error_from_wire(over_the_wire(wire.error_to_wire(error)))
    status = wire.error_to_status(error)
    as_status = wire.error_from_status(status.code, status.message, status.SerializeToString())
    assert described(as_event) == described(error)
    assert described(as_status) == described(error)


class NotOurOrder(errors.InvalidRequest):
    """As a backend hangs its own errors below core's."""

    kind = "not_our_order"


def test_a_backends_own_error_travels_as_the_class_of_cores_that_it_is():
    error = NotOurOrder("the roles are in the wrong order", field="messages")
    as_event = wire.error_from_wire(over_the_wire(wire.error_to_wire(error)))
    status = wire.error_to_status(error)
    as_status = wire.error_from_status(status.code, status.message, status.SerializeToString())
    told = described(errors.InvalidRequest(error.message, field="messages"))
    assert described(as_event) == told
    assert described(as_status) == told


@pytest.mark.parametrize("cached", [None, Decimal(0), Decimal("0.075")])
def test_model_info_and_load_come_back_as_they_were(cached: Decimal | None) -> None:
    price = Price(Decimal("0.15"), Decimal("0.6"), cached)
    info = ModelInfo("m", "vllm", 4096, price, True, True, False, True)
    load = Load(3, 2, 64, 256, draining=True)
    assert wire.info_from_wire(over_the_wire(wire.info_to_wire(info))) == info
    assert wire.load_from_wire(over_the_wire(wire.load_to_wire(load))) == load


@pytest.mark.parametrize("price", ["free", "NaN", "Infinity", "-1"])
def test_a_price_that_is_none_is_the_gateways_fault(price):
    info = gateway_pb2.GetModelInfoResponse(model="m", output_usd_per_mtok=price)
    with pytest.raises(errors.InternalError, match="price"):
        wire.info_from_wire(info)


REQUEST = chat.ChatRequest("r1", (chat.Message(chat.Role.USER, (chat.TextPart("hello"),)),))


def test_a_deadline_travels_as_the_time_that_is_left():
    message = wire.request_to_wire(replace(REQUEST, deadline=Deadline.after(2.0)))
    assert 1_900 <= message.deadline_remaining_ms <= 2_000
    remaining_s = wire.request_from_wire(message).deadline.remaining_s()
    assert remaining_s is not None
    assert remaining_s <= 2.0
    assert not wire.request_to_wire(REQUEST).HasField("deadline_remaining_ms")


def test_what_only_the_device_needs_does_not_travel():
    preference = chat.RoutePreference(chat.RouteMode.ONLY_IN_CLOUD, conversation="my divorce")
    message = wire.request_to_wire(replace(REQUEST, preference=preference))
    assert b"divorce" not in message.SerializeToString()


def test_a_price_limit_is_never_rounded_up():
    preference = chat.RoutePreference(max_price_usd=0.0000019)
    message = wire.request_to_wire(replace(REQUEST, preference=preference))
    assert message.max_price_micro_usd == 1


def test_a_request_without_a_privacy_class_counts_as_unknown():
    message = wire.request_to_wire(REQUEST)
    message.privacy_class = chat_pb2.PRIVACY_CLASS_UNSPECIFIED
    assert wire.request_from_wire(message).privacy_class is chat.PrivacyClass.UNKNOWN


@pytest.mark.parametrize(
    ("spoil", "field"),
    [
        (lambda m: m.ClearField("request_id"), "request_id"),
        (lambda m: m.ClearField("messages"), "messages"),
        (lambda m: setattr(m.messages[0], "role", 0), "messages[0].role"),
        (lambda m: setattr(m.messages[0], "role", 99), "messages[0].role"),
        (lambda m: m.messages[0].content.add(), "messages[0].content[1]"),
        (lambda m: m.tools.add(name="t", parameters_json="{"), "tools[0].parameters_json"),
        (lambda m: m.tools.add(name="t", parameters_json="[]"), "tools[0].parameters_json"),
        (lambda m: m.tools.add(name="t", parameters_json="[" * 10**6), "tools[0].parameters_json"),
        (lambda m: setattr(m, "tool_choice", 99), "tool_choice"),
        (
            lambda m: setattr(m.response_format, "schema_json", "no"),
            "response_format.schema_json",
        ),
    ],
)
def test_a_malformed_message_names_its_field(spoil, field):
    message = wire.request_to_wire(REQUEST)
    spoil(message)
    with pytest.raises(errors.InvalidRequest) as caught:
        wire.request_from_wire(message)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"sampling": chat.Sampling(seed=2**63)}, "seed"),
        ({"sampling": chat.Sampling(top_k=-1)}, "top_k"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"answer_so_far": "\ud800"}, "messages"),
        ({"preference": chat.RoutePreference(max_price_usd=math.inf)}, "max_price_usd"),
        ({"preference": chat.RoutePreference(max_price_usd=-1.0)}, "max_price_usd"),
    ],
)
def test_what_the_wire_cannot_hold_is_an_error_that_names_it(change, field):
    with pytest.raises(errors.InvalidRequest) as caught:
        wire.request_to_wire(replace(REQUEST, **change))
    assert caught.value.field == field


def test_a_newer_gateways_unknown_event_is_skipped():
    assert wire.EventReader().read(gateway_pb2.GenerateResponse()) is None


def test_a_newer_gateways_unknown_reason_for_the_end_is_an_end_all_the_same():
    message = gateway_pb2.GenerateResponse(finished=gateway_pb2.Finished(reason=99))
    assert wire.EventReader().read(message) == events.Finished(events.FinishReason.STOP)


def test_a_newer_devices_unknown_reason_is_left_out():
    outcome = Outcome("r", 0.0, Target.EDGE, (Reason.EASY,), Status.OK, chat.PrivacyClass.PUBLIC)
    message = wire.outcome_to_wire(outcome)
    message.reasons.append("from_the_future")
    assert wire.outcome_from_wire(message).reasons == (Reason.EASY,)


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        (14, "connection refused", "unavailable"),
        (1, "", "unavailable"),
        (2, "", "internal"),
        (4, "", "deadline_exceeded"),
        (8, "busy", "overloaded"),
        (8, "Received message larger than max (10 vs. 5)", "invalid_request"),
        (16, "", "unauthenticated"),
        (99, "", "internal"),
    ],
)
def test_a_status_that_grpc_made_is_told_by_its_code(code, message, kind):
    assert wire.error_from_status(code, message, None).kind == kind
    assert wire.error_from_status(code, message, b"\xff\xff not protobuf").kind == kind


def test_error_details_are_google_rpcs():
    status = wire.error_to_status(errors.InvalidRequest("bad", field="top_p"))
    bad = error_details_pb2.BadRequest()
    assert any(detail.Unpack(bad) for detail in status.details)
    assert bad.field_violations[0].field == "top_p"
    for error in (
        errors.Overloaded("full", retry_after_s=1.5),
        errors.Unavailable("stopping", retry_after_s=1.5),
    ):
        status = wire.error_to_status(error)
        retry = error_details_pb2.RetryInfo()
        assert any(detail.Unpack(retry) for detail in status.details)
        assert retry.retry_delay.ToMilliseconds() == 1500


def test_a_part_that_is_missing_gives_no_advice_to_come_back():
    status = wire.error_to_status(errors.Unavailable("gone"))
    assert not any(detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for detail in status.details)
    assert wire.error_from_status(14, "", status.SerializeToString()).retry_after_s is None


@given(requests)
@settings(deadline=None)
def test_two_attempts_at_one_request_have_one_body(request_in):
    first = wire.request_to_wire(replace(request_in, received=None, received_tokens=0))
    later = replace(request_in, received="what came", received_tokens=2, deadline=Deadline.after(5))
    assert wire.request_body(wire.request_to_wire(later)) == wire.request_body(first)
    other = replace(request_in, answer_so_far=request_in.answer_so_far + "x")
    assert wire.request_body(wire.request_to_wire(other)) != wire.request_body(first)

"""Random and hostile protobufs on every method of a gateway in a process of its own.

Each gets a status that blames the sender, or an answer: never INTERNAL or UNKNOWN, never silence,
and the process neither ends nor grows.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from chaos_counts import SOAK, count
from isthmus.cli.gateway_process import Served, ended, start_gateway
from isthmus.v1 import gateway_pb2

pytestmark = pytest.mark.chaos

SERVICE = gateway_pb2.DESCRIPTOR.services_by_name["GatewayService"]
ALLOWED = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.CANCELLED,
}
PATIENCE_S = 90.0
"""A hang is one after any time; a busy machine is none."""
FUZZ = settings(
    max_examples=count(200, 4_000),  # five times for each form
    database=None,
    derandomize=not SOAK,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
    deadline=None,
)

NUMBERS = st.sampled_from(
    [0, 1, -1, 2**31 - 1, -(2**31), 2**32 - 1, 2**63 - 1, -(2**63), 2**64 - 1]
)
EDGES = [0, 1, -1, 2**31 - 1, -(2**31), 2**32 - 1, 2**63 - 1, -(2**63), 2**64 - 1]
FLOATS = st.sampled_from([0.0, -0.0, 1.0, 1e308, -1e308, 5e-324, math.inf, -math.inf, math.nan])
TEXTS = st.one_of(
    st.text(max_size=40),
    st.sampled_from(["", "\x00", "{}", "[" * 2_000, '{"a":' * 500, "\u202e", "a" * 70_000, "-1"]),
)
LIMITS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}


def value_of(draw: Any, field: FieldDescriptor, depth: int) -> Any:
    """A value of a field's type, seldom a friendly one."""
    if field.cpp_type in LIMITS:
        low, high = LIMITS[field.cpp_type]
        return min(high, max(low, draw(st.sampled_from(EDGES) | st.integers(0, 100))))
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_MESSAGE:
            assert field.message_type is not None
            return message_of(draw, GetMessageClass(field.message_type), depth + 1)
        case FieldDescriptor.CPPTYPE_ENUM:
            return draw(st.integers(0, 9))
        case FieldDescriptor.CPPTYPE_BOOL:
            return draw(st.booleans())
        case FieldDescriptor.CPPTYPE_STRING if field.type == FieldDescriptor.TYPE_BYTES:
            return draw(st.binary(max_size=40))
        case FieldDescriptor.CPPTYPE_STRING:
            return draw(TEXTS)
        case _:
            return draw(FLOATS | st.floats(width=32))


def message_of(draw: Any, kind: type[Message], depth: int = 0) -> Message:
    """A message with some of its fields, some of them many times."""
    message = kind()
    fields = kind.DESCRIPTOR.fields
    # Near the root most fields are there: an empty request is refused before anything is read.
    for field in fields:
        if depth > 4 or not draw(st.integers(0, 2 + depth)) <= 1:
            continue
        times = draw(st.integers(0, 3)) if field.is_repeated else 1
        for _ in range(times):
            value = value_of(draw, field, depth)
            if isinstance(value, Message):
                holder = getattr(message, field.name)
                (holder.add() if field.is_repeated else holder).CopyFrom(value)
            elif field.is_repeated:
                getattr(message, field.name).append(value)
            else:
                setattr(message, field.name, value)
    return message


@st.composite
def noise(draw: Any) -> bytes:
    """Bytes that mean nothing; Hypothesis alone makes hardly more than a handful of them."""
    if draw(st.booleans()):
        return draw(st.binary(max_size=2_000))
    return random.Random(draw(st.integers(0, 2**64))).randbytes(draw(st.integers(1, 2_000)))


@st.composite
def valid(draw: Any, method: MethodDescriptor) -> bytes:
    """A message of the method's own type."""
    kind = GetMessageClass(method.input_type)
    message = message_of(draw, kind)
    if isinstance(message, gateway_pb2.GenerateRequest):
        # Half of them get far enough to be answered; none for ever.
        message.max_tokens = min(message.max_tokens or 1, 50)
        if draw(st.booleans()):
            message.request_id = message.request_id or "r"
            message.privacy_class = 1
            turn = message.messages.add(role=3)
            turn.content.add(text="count")
    return message.SerializeToString()


@st.composite
def mutated(draw: Any, method: MethodDescriptor) -> bytes:
    """A valid message with bytes changed, cut out, or said twice."""
    data = bytearray(draw(valid(method)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data)))
        match draw(st.integers(0, 3)):
            case 0 if data:
                data[min(at, len(data) - 1)] = draw(st.integers(0, 255))
            case 1:
                del data[at : at + draw(st.integers(1, 20))]
            case 2:
                data[at:at] = data[at : at + draw(st.integers(1, 50))]
            case _:
                data[at:at] = draw(st.binary(min_size=1, max_size=12))
    return bytes(data)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("gateway")
    with ended(start_gateway(folder)) as served:
        served.ready()
        yield served


@pytest.fixture(scope="module")
def channel(gateway: Served) -> Iterator[grpc.Channel]:
    options = [("grpc.enable_http_proxy", 0), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(gateway.ready()["address"], options=options) as opened:
        grpc.channel_ready_future(opened).result(10)
        yield opened


def status_of(channel: grpc.Channel, method: MethodDescriptor, data: bytes) -> grpc.StatusCode:
    """How the gateway ends a call with these bytes."""
    path = f"/{SERVICE.full_name}/{method.name}"
    try:
        if method.server_streaming:
            for _ in channel.unary_stream(path)(data, timeout=PATIENCE_S):
                pass
        else:
            channel.unary_unary(path)(data, timeout=PATIENCE_S)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def rss_after(pass_: Callable[[], None], gateway: Served) -> float:
    """The gateway's resident memory, in MB, after one more pass."""
    pass_()
    return gateway.rss_mb


@pytest.mark.parametrize("form", ["random", "valid", "mutated"])
def test_no_bytes_bring_a_gateway_down_or_leave_a_call_without_an_end(
    gateway: Served, channel: grpc.Channel, form: str
) -> None:
    seen: set[grpc.StatusCode] = set()

    @FUZZ
    @given(st.data())
    def one(data: st.DataObject) -> None:
        method = data.draw(st.sampled_from(list(SERVICE.methods)))
        forms = {"random": noise(), "valid": valid(method)}
        sent = data.draw(forms[form] if form in forms else mutated(method))
        status = status_of(channel, method, sent)
        seen.add(status)
        assert status in ALLOWED, (method.name, status)

    # What is kept for a while, for who asks again, comes and goes: a peak beside a later low.
    warm_mb = max(rss_after(one, gateway) for _ in range(3))
    later_mb = min(rss_after(one, gateway) for _ in range(2))
    assert gateway.running
    assert grpc.StatusCode.OK in seen
    assert grpc.StatusCode.INVALID_ARGUMENT in seen
    assert later_mb < 1.1 * warm_mb

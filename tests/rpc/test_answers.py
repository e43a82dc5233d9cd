"""One request has one answer: what is asked again is read again, and paid once."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import grpc
import grpc.aio
import pytest

from asked import REQUEST, anew
from device_tokens import Signer, auth_settings, write_jwks
from isthmus.cloud.load.chaos import ChaosProxy, Faults
from isthmus.cloud.server import Gateway
from isthmus.cloud.testing import ScriptedBackend, gateway_config, running_gateway
from isthmus.core import errors, events, wire
from isthmus.core.deadline import Deadline
from isthmus.core.decision import Status
from isthmus.core.money import Usage
from isthmus.edge.remote import RemoteConfig, RemoteTier
from isthmus.v1.gateway_pb2_grpc import GatewayServiceStub
from waiting import eventually

WORDS = [f" {n}" for n in range(30)]
WHOLE = "".join(WORDS)


class Client:
    """Calls that are made once, whatever becomes of them."""

    def __init__(self, channel):
        self._stub = GatewayServiceStub(channel)

    async def ask(self, request, until=None):
        """The events of one call; broken off once `until` of them have come."""
        call, reader, read = (
            self._stub.Generate(wire.request_to_wire(request)),
            wire.EventReader(),
            [],
        )
        try:
            async for message in call:
                if message.WhichOneof("event") == "error":
                    continue
                event = reader.read(message)
                if event is not None:
                    read.append(event)
                if until is not None and len(read) >= until:
                    return read
        except grpc.aio.AioRpcError as error:
            details = dict(error.trailing_metadata()).get("grpc-status-details-bin")
            raise wire.error_from_status(error.code().value[0], error.details(), details) from None
        finally:
            call.cancel()
        return read


@pytest.fixture
async def gateway():
    backend = ScriptedBackend(WORDS, delay_s=0.01)
    gateway = Gateway(gateway_config(), backend)
    await gateway.start()
    yield gateway
    await gateway.stop()


@pytest.fixture
async def client(gateway):
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        yield Client(channel)


def text_of(answer):
    return "".join(event.text for event in answer if isinstance(event, events.Delta))


def tokens_of(answer):
    return sum(event.tokens for event in answer if isinstance(event, events.Delta))


# --- the same request again ---


async def test_a_request_that_comes_again_reads_along_and_the_backend_works_once(gateway, client):
    request = anew()
    first = asyncio.create_task(client.ask(request))
    assert await eventually(lambda: gateway.backend.running)
    await asyncio.sleep(0.05)
    second = await client.ask(request)
    assert text_of(second) == text_of(await first) == WHOLE
    assert isinstance(second[0], events.Started)
    assert second[-1] == (await first)[-1]
    assert len(gateway.backend.requests) == 1


async def test_an_answer_that_is_complete_is_read_again_without_the_backend(gateway, client):
    request = anew()
    first, second = await client.ask(request), await client.ask(request)
    assert text_of(second) == text_of(first) == WHOLE
    assert second[-1] == first[-1]
    assert len(second) < len(first)  # what is there already goes in larger pieces
    assert len(gateway.backend.requests) == 1


async def test_nothing_of_what_was_received_is_repeated(client):
    request = anew()
    await client.ask(request)
    again = replace(request, received=" 0 1 2", received_tokens=3)
    answer = await client.ask(again)
    assert text_of(answer) == WHOLE.removeprefix(" 0 1 2")
    assert tokens_of(answer) == 27
    assert answer[-1].usage.completion_tokens == 30


async def test_another_body_under_the_same_id_is_refused(client):
    request = anew()
    await client.ask(request)
    with pytest.raises(errors.AlreadyExists) as caught:
        await client.ask(replace(request, max_tokens=3))
    assert caught.value.field == "request_id"


async def test_a_deadline_is_no_part_of_the_body(gateway, client):
    request = anew()
    await client.ask(request)
    assert text_of(await client.ask(replace(request, deadline=Deadline.after(9)))) == WHOLE
    assert len(gateway.backend.requests) == 1


async def test_an_answer_whose_window_is_over_is_written_anew():
    backend = ScriptedBackend()
    async with (
        running_gateway(backend, limits={"replay_s": 0}) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        request = anew()
        for _ in range(2):
            await Client(channel).ask(request)
    assert len(backend.requests) == 2


@pytest.mark.parametrize("bound", [{"replay_max_answers": 2}, {"replay_max_bytes": 5_000}])
async def test_what_is_kept_is_bounded_and_the_oldest_goes_first(bound):
    backend = ScriptedBackend()
    async with (
        running_gateway(backend, limits=bound) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        client, requests = Client(channel), [anew() for _ in range(4)]
        for request in (*requests, requests[3], requests[0]):
            await client.ask(request)
    assert [one.request_id for one in backend.requests] == [
        *(request.request_id for request in requests),
        requests[0].request_id,
    ]


# --- what broke off ---


async def test_a_call_that_breaks_off_stops_the_backend_and_the_next_goes_on_behind_it(
    gateway, client
):
    request, backend = anew(max_tokens=20), gateway.backend
    begun = text_of(await client.ask(request, until=8))
    assert await eventually(lambda: backend.stopped_at_s)
    answer = await client.ask(replace(request, received=begun, received_tokens=7))
    assert begun + text_of(answer) == "".join(WORDS[:20])
    again = backend.requests[1]
    assert again.answer_so_far.startswith(begun)
    assert again.max_tokens == 20 - len(again.answer_so_far.split())
    prompt_tokens = answer[0].prompt_tokens
    assert answer[-1] == events.Finished(events.FinishReason.LENGTH, Usage(prompt_tokens, 20))


async def test_a_gateway_that_knows_nothing_goes_on_behind_what_the_device_brings(gateway, client):
    request = anew(answer_so_far=" 0", received=" 1 2", received_tokens=2, max_tokens=10)
    answer = await client.ask(request)
    assert text_of(answer) == "".join(WORDS[3:11])
    assert answer[-1].usage.completion_tokens == 10
    asked = gateway.backend.requests[0]
    assert (asked.answer_so_far, asked.max_tokens) == (" 0 1 2", 8)


async def test_nothing_is_left_to_write_for_an_answer_that_was_received_whole(gateway, client):
    answer = await client.ask(anew(received=" 0 1", received_tokens=2, max_tokens=2))
    assert [type(event) for event in answer] == [events.Started, events.Finished]
    assert answer[-1].reason is events.FinishReason.LENGTH
    assert gateway.backend.requests == []


async def test_a_device_that_went_on_elsewhere_is_followed_and_not_contradicted(gateway, client):
    request = anew()
    await client.ask(request, until=4)
    elsewhere = replace(request, received=" 0 1 2 and", received_tokens=4)
    await client.ask(elsewhere)
    assert gateway.backend.requests[1].answer_so_far == " 0 1 2 and"


async def test_an_answer_that_broke_off_in_a_tool_call_is_an_honest_error():
    class Calls(ScriptedBackend):
        async def generate(self, request):
            self.requests.append(request)
            yield events.Started("scripted", 3)
            yield events.Delta("", tool_calls=(events.ToolCallDelta(0, "c", "f", "{"),))
            raise errors.Unavailable("gone")

    backend, request = Calls(), anew()
    async with (
        running_gateway(backend) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        client = Client(channel)
        with pytest.raises(errors.Unavailable, match="gone"):
            await client.ask(request)
        with pytest.raises(errors.Unavailable, match="tool call"):
            await client.ask(replace(request, received="", received_tokens=1))
        with pytest.raises(errors.Unavailable, match="gone"):
            await client.ask(request)  # it has nothing of it: from the beginning
    assert len(backend.requests) == 2


async def test_a_draft_that_stands_is_not_repeated_by_a_gateway_that_did_not_judge_it(
    gateway, client
):
    request = anew(answer_so_far=" 0", draft=" 1 2", received=" 1 2 3", received_tokens=3)
    answer = await client.ask(request)
    assert text_of(answer) == "".join(WORDS[4:])
    assert gateway.backend.requests[0].draft == ""


# --- readers ---


async def test_a_reader_that_is_behind_gets_larger_pieces_and_the_backend_does_not_wait():
    backend = ScriptedBackend(["x" * 5_000] * 2_000)
    async with (
        running_gateway(backend) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        call = GatewayServiceStub(channel).Generate(wire.request_to_wire(anew()))
        assert await eventually(lambda: backend.requests and not backend.running)
        read = [message async for message in call]
    assert sum(len(message.delta.text) for message in read) == 10_000_000
    assert len(read) < 1_500
    assert 1 < max(message.delta.tokens for message in read) <= 32


async def test_so_many_readers_of_one_answer_are_enough(gateway, client):
    request = anew()
    calls = [asyncio.create_task(client.ask(request)) for _ in range(9)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, BaseException)]
    assert [type(error) for error in refused] == [errors.Overloaded]
    assert len(gateway.backend.requests) == 1


# --- the device ---


async def test_a_reset_in_mid_answer_goes_unnoticed(gateway):
    async with ChaosProxy(gateway.address) as proxy:
        tier = RemoteTier(RemoteConfig(proxy.address))
        read = []
        async for event in tier.generate(anew()):
            read.append(event)
            if len(read) in (5, 15):
                assert proxy.reset()
        await tier.close()
    assert text_of(read) == WHOLE
    assert tokens_of(read) == 30
    assert read[-1].usage.completion_tokens == 30
    assert [isinstance(event, events.Started) for event in read].count(True) == 1
    assert tier.resumed == 2


async def test_a_reset_before_the_first_token_goes_unnoticed_too():
    backend = ScriptedBackend(WORDS, first_delay_s=0.1)
    async with running_gateway(backend) as address, ChaosProxy(address) as proxy:
        tier = RemoteTier(RemoteConfig(proxy.address))
        task = asyncio.create_task(anext(tier.generate(anew())))
        assert await eventually(lambda: backend.requests)
        assert proxy.reset()
        assert isinstance(await task, events.Started)
        await tier.close()


async def test_a_connection_that_is_refused_where_one_stood_is_tried_once_more(gateway):
    async with ChaosProxy(gateway.address) as proxy:
        tier = RemoteTier(RemoteConfig(proxy.address))
        assert text_of([event async for event in tier.generate(anew())]) == WHOLE
        proxy.faults = Faults(refuse=True)
        assert proxy.reset()
        task = asyncio.create_task(anext(tier.generate(anew())))
        assert await eventually(lambda: proxy.connections > 1)
        proxy.faults = Faults()
        assert isinstance(await task, events.Started)
        await tier.close()


async def test_bytes_that_leave_for_another_attempt_are_looked_at_too(gateway):
    seen = []
    async with ChaosProxy(gateway.address) as proxy:
        tier = RemoteTier(RemoteConfig(proxy.address))
        read = []
        async for event in tier.generate(anew(), seen.append):
            read.append(event)
            if len(read) == 6:
                proxy.reset()
        await tier.close()
    assert len(seen) == 2
    assert text_of(read[:6]).encode() in seen[1]


async def test_what_cannot_be_gone_on_from_is_an_error_with_what_was_sent():
    class Calls(ScriptedBackend):
        async def generate(self, request):
            yield events.Started("scripted", 3)
            yield events.Delta("", tool_calls=(events.ToolCallDelta(0, "c", "f", "{"),))
            await asyncio.sleep(60)

    async with running_gateway(Calls()) as address, ChaosProxy(address) as proxy:
        tier = RemoteTier(RemoteConfig(proxy.address))
        answer = tier.generate(anew())
        assert isinstance(await anext(answer), events.Started)
        assert (await anext(answer)).tool_calls
        proxy.reset()
        with pytest.raises(errors.Unavailable):
            await anext(answer)
        assert tier.resumed == 0
        await tier.close()


async def test_every_device_has_answers_of_its_own(tmp_path):
    signer, backend = Signer(), ScriptedBackend()
    auth = auth_settings(write_jwks(tmp_path / "jwks.json", signer))
    async with running_gateway(backend, auth=auth) as address:
        for device in ("phone-1", "phone-2"):
            tier = RemoteTier(RemoteConfig(address, token=signer.token(sub=device)))
            request = replace(REQUEST, max_tokens=1 + len(backend.requests))
            assert [event async for event in tier.generate(request)]
            await tier.close()
    assert [request.max_tokens for request in backend.requests] == [1, 2]


# --- what is owed ---


async def test_what_was_seen_of_an_answer_that_failed_is_charged_and_no_more():
    backend = ScriptedBackend(WORDS, failure=errors.Unavailable("gone"), fail_after=12)
    gateway = Gateway(gateway_config(), backend)
    await gateway.start()
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        request = anew()
        with pytest.raises(errors.Unavailable):
            await Client(channel).ask(request)
        assert await eventually(lambda: charged(gateway, request).status is not None)
        assert charged(gateway, request).usage.completion_tokens == 12
        backend.failure = None
        answer = await Client(channel).ask(request)
        assert text_of(answer) == WHOLE
        assert await eventually(lambda: charged(gateway, request).status is Status.OK)
        assert charged(gateway, request).usage == answer[-1].usage
    await gateway.stop()


async def test_an_attempt_begins_although_a_reader_of_the_last_one_is_stuck():
    backend = ScriptedBackend(
        ["x" * 5_000] * 2_000, failure=errors.Unavailable("gone"), fail_after=1_500
    )
    async with (
        running_gateway(backend) as address,
        grpc.aio.insecure_channel(address) as stuck,
        grpc.aio.insecure_channel(address) as channel,
    ):
        request = anew()
        call = GatewayServiceStub(stuck).Generate(wire.request_to_wire(request))
        await call.read()
        assert await eventually(lambda: not backend.running)
        backend.failure = None
        again = replace(request, received="x" * 5_000 * 300, received_tokens=300)
        rest = await Client(channel).ask(again)
        assert len(text_of(rest)) == 5_000 * 1_700
        call.cancel()


def charged(gateway, request):
    return gateway.ledger.accounts["local", "anonymous", request.request_id]

"""How fast an answer goes out: at once, and in larger pieces when the event loop is behind."""

from __future__ import annotations

import asyncio
import time

import grpc
import grpc.aio

from asked import anew
from isthmus.cloud import delivery
from isthmus.cloud.answers.answer import Answer
from isthmus.cloud.answers.log import Log
from isthmus.cloud.delivery import MOST_S, Pace, deliver
from isthmus.cloud.server import Gateway
from isthmus.cloud.testing import ScriptedBackend, gateway_config
from isthmus.core import events, wire
from isthmus.v1.gateway_pb2_grpc import GatewayServiceStub


class Written:
    """As much of a gRPC context as an answer is written to."""

    def __init__(self):
        self.kinds, self.tokens = [], []

    async def write(self, message):
        kind = message.WhichOneof("event")
        self.kinds.append(kind)
        if kind == "delta":
            self.tokens.append(message.delta.tokens)


def late(streams):
    """The pace of a loop that was late for long."""
    pace = Pace()
    for _ in range(12):
        pace.saw(0.02)
    pace.streams = streams - 1
    return pace


async def delivered(pace, *, words, delay_s):
    """What is written of an answer of so many words, and how many went in another's message."""
    answer, written, merged = Answer("r", b"", Log()), Written(), []
    reader = answer.reader(None)

    async def work():
        answer.started(events.Started("m", 1))
        for n in range(words):
            answer.wrote(events.Delta(f" {n}"))
            await asyncio.sleep(delay_s)
        answer.finished(events.Finished(events.FinishReason.STOP))

    working = asyncio.create_task(work())
    await deliver(reader, written, pace, merged.append)
    await working
    return written, sum(merged)


async def test_every_piece_goes_at_once_while_the_loop_keeps_up():
    written, merged = await delivered(Pace(), words=20, delay_s=0.001)
    assert written.tokens == [1] * 20
    assert merged == 0
    assert written.kinds[-2:] == ["usage", "finished"]


async def test_the_first_piece_goes_at_once_and_the_rest_together_when_the_loop_is_behind():
    written, merged = await delivered(late(streams=200), words=40, delay_s=0.002)
    assert written.tokens[0] == 1
    assert sum(written.tokens) == 40
    assert len(written.tokens) < 15
    assert merged == 40 - len(written.tokens)


async def test_few_streams_do_not_wait_for_what_others_do_with_the_processor():
    written, merged = await delivered(late(streams=1), words=40, delay_s=0.002)
    assert written.tokens == [1] * 40
    assert merged == 0


def test_the_pause_grows_while_the_loop_is_late_and_goes_when_it_is_not():
    pace = Pace()
    pace.streams = 2_000
    pace.saw(0.001)
    assert pace.pause_s == 0
    pauses = []
    for _ in range(12):
        pace.saw(0.02)
        pauses.append(pace.pause_s)
    assert pauses == sorted(pauses)
    assert pauses[-1] == MOST_S
    for _ in range(100):
        pace.saw(0.0)
    assert pace.pause_s == 0


async def test_a_loop_that_is_held_up_is_noticed(monkeypatch):
    monkeypatch.setattr(delivery, "_LOOK_S", 0.005)
    pace = Pace()
    pace.streams = 100
    pace.start()
    await asyncio.sleep(0.01)
    time.sleep(0.05)  # noqa: ASYNC251
    await asyncio.sleep(0.005)
    assert pace.pause_s > 0
    await pace.stop()


async def test_a_connection_is_closed_at_its_age_and_no_answer_with_it():
    backend = ScriptedBackend([f" {n}" for n in range(40)], delay_s=0.01)
    gateway = Gateway(gateway_config(limits={"max_connection_age_s": 0.1}), backend)
    await gateway.start()
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        call = GatewayServiceStub(channel).Generate(wire.request_to_wire(anew()))
        text, states = "", set()
        async for message in call:
            text += message.delta.text
            states.add(channel.get_state())
        assert text == "".join(backend.words)
        assert grpc.ChannelConnectivity.IDLE in states  # told to go away, and the stream went on
    await gateway.stop()

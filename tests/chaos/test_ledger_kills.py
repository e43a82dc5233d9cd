"""A gateway that is killed at any moment charges nobody twice, and nobody for more than 32 tokens
that did not arrive; what devices say that they received makes it exact.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field, replace
from pathlib import Path

import grpc
import grpc.aio
import pytest
import sqlalchemy as sa

from chaos_counts import count
from cloud_ledgers import BOOK, open_ledger, rows
from isthmus.cli.gateway_process import ended, start_gateway
from isthmus.cloud.identity.base import Caller
from isthmus.cloud.ledger.base import CHECKPOINT_TOKENS, Acknowledged
from isthmus.cloud.ledger.database import sqlite_url
from isthmus.cloud.load.script import flaws, prompt_of
from isthmus.core import wire
from isthmus.core.chat import ChatRequest
from isthmus.core.money import Usage
from isthmus.v1 import gateway_pb2
from isthmus.v1.gateway_pb2_grpc import GatewayServiceStub

pytestmark = pytest.mark.chaos

KILLS = count(5, 50)
STREAMS = 24
PRICE = BOOK.price("scripted")
ANYBODY = Caller()


@dataclass
class Device:
    """One request, and what arrived of its answer over all attempts."""

    request: ChatRequest
    text: str = ""
    usage: Usage = field(default_factory=Usage)
    whole: bool = False

    async def ask(self, channel: grpc.aio.Channel) -> None:
        """Go on with the request until the answer is whole or the gateway is gone."""
        again = (
            replace(self.request, received=self.text, received_tokens=self.usage.completion_tokens)
            if self.text
            else self.request
        )
        call = GatewayServiceStub(channel).Generate(wire.request_to_wire(again))
        try:
            async for message in call:
                self._hear(message)
        except grpc.aio.AioRpcError:
            pass
        finally:
            call.cancel()

    def _hear(self, message: gateway_pb2.GenerateResponse) -> None:
        match message.WhichOneof("event"):
            case "started":
                # One that goes on with an answer need not tell of the prompt again.
                told = message.started.prompt_tokens or self.usage.prompt_tokens
                self.usage = replace(self.usage, prompt_tokens=told)
            case "delta":
                tokens = self.usage.completion_tokens + message.delta.tokens
                self.text += message.delta.text
                self.usage = replace(self.usage, completion_tokens=tokens)
            case "finished":
                self.whole = True


async def load(address: str, devices: list[Device]) -> None:
    """All of them at once, on some connections."""
    channels = [grpc.aio.insecure_channel(address) for _ in range(4)]
    try:
        await asyncio.gather(
            *(device.ask(channels[n % len(channels)]) for n, device in enumerate(devices))
        )
    finally:
        await asyncio.gather(*(channel.close() for channel in channels))


def check(url: sa.URL, devices: list[Device], *, exactly: bool) -> None:
    charged = {row["request_id"]: row for row in rows(url)}
    for device in devices:
        row = charged.get(device.request.request_id)
        heard = device.usage.completion_tokens
        if row is None:
            assert heard == 0
            continue
        off = 0 if exactly else CHECKPOINT_TOKENS
        assert abs(row["completion_tokens"] - heard) <= off, (row, heard)
        usage = Usage(row["prompt_tokens"], row["completion_tokens"], row["cached_tokens"])
        assert row["charge_micro_usd"] == PRICE.cost_micro_usd(usage)
        if exactly:
            told = device.usage if heard else Usage()
            assert row["charge_micro_usd"] == PRICE.cost_micro_usd(told)


async def test_kills_at_random_moments_leave_a_ledger_that_comes_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ISTHMUS_CLOUD_LEDGER__KIND", raising=False)
    chance = random.Random(7)
    path = tmp_path / "ledger.db"
    url = sqlite_url(path)
    devices: list[Device] = []
    for kill in range(KILLS):
        new = [
            Device(
                ChatRequest(
                    request_id=f"{kill}-{n}",
                    messages=prompt_of(f"{kill}-{n}"),
                    max_tokens=chance.randint(1, 400),
                )
            )
            for n in range(STREAMS)
        ]
        # Half of those whose answer was cut off ask again; the others never come back.
        back = [one for one in devices[-STREAMS:] if not one.whole][::2]
        devices += new
        gateway = start_gateway(
            tmp_path,
            name=f"gateway-{kill}",
            ledger={"kind": "sqlite", "path": str(path)},
            prices=[{"input_usd_per_mtok": "1", "output_usd_per_mtok": "2"}],
            backend={
                "kind": "scripted",
                "model": "scripted",
                "options": {"tokens_per_s": 200.0, "first_token_ms": 20.0},
            },
        )
        with ended(gateway):
            address = (await asyncio.to_thread(gateway.ready))["address"]
            running = asyncio.create_task(load(address, [*new, *back]))
            await asyncio.sleep(chance.uniform(0.05, 1.5))
            gateway.kill()
            await asyncio.wait_for(running, 30)
        check(url, devices, exactly=False)

    for device in devices:
        tokens = device.request.max_tokens or 0
        mark = device.request.request_id
        assert not flaws(mark, tokens, device.text, whole=device.whole)
    cut_off = [one for one in devices if not one.whole]
    assert any(one.usage.completion_tokens for one in cut_off)
    async with open_ledger(url) as ledger:
        for device in devices:  # a kill may come between the last token and the settling of it
            told = device.usage if device.usage.completion_tokens else Usage()
            await ledger.reconcile(ANYBODY, [Acknowledged(device.request.request_id, told)])
    check(url, devices, exactly=True)
    ids = [row["request_id"] for row in rows(url)]
    assert len(ids) == len(set(ids))

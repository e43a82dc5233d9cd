"""Devices that count what they hear, and the ledger's rows beside that."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
import grpc.aio
import sqlalchemy as sa

from cloud_ledgers import BOOK, open_ledger, rows
from isthmus.cloud.identity.base import Caller
from isthmus.cloud.ledger.base import CHECKPOINT_TOKENS, Acknowledged
from isthmus.cloud.ledger.database import make_engine
from isthmus.cloud.ledger.tables import OPEN, counters
from isthmus.cloud.load.script import flaws, prompt_of
from isthmus.core import wire
from isthmus.core.chat import ChatRequest
from isthmus.core.money import Usage
from isthmus.v1 import gateway_pb2
from isthmus.v1.gateway_pb2_grpc import GatewayServiceStub

PRICES = [{"input_usd_per_mtok": "1", "output_usd_per_mtok": "2"}]
"""Those of `BOOK`, as a gateway is told them."""
PRICE = BOOK.price("scripted")
_ANYBODY = Caller()


@dataclass(eq=False)
class Device:
    """One request, and what arrived of its answer over all attempts."""

    mark: str
    tokens: int
    text: str = ""
    usage: Usage = field(default_factory=Usage)
    whole: bool = False
    refusals: list[grpc.aio.AioRpcError] = field(default_factory=list)
    """How the attempts that failed were ended."""

    @property
    def request(self) -> ChatRequest:
        """As it is asked the first time."""
        return ChatRequest(
            request_id=self.mark, messages=prompt_of(self.mark), max_tokens=self.tokens
        )

    def begin_anew(self) -> None:
        """Forget what arrived, as a device does that was switched off."""
        self.text, self.usage, self.whole = "", Usage(), False

    async def ask(self, channel: grpc.aio.Channel) -> None:
        """Go on with the request until the answer is whole or the gateway is gone."""
        received = (
            {"received": self.text, "received_tokens": self.usage.completion_tokens}
            if self.text
            else {}
        )
        again = replace(self.request, **received)
        call = GatewayServiceStub(channel).Generate(wire.request_to_wire(again))
        try:
            async for message in call:
                self._hear(message)
        except grpc.aio.AioRpcError as error:
            self.refusals.append(error)
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

    @property
    def told(self) -> Usage:
        """What it acknowledges: without a token it owes nothing."""
        return self.usage if self.usage.completion_tokens else Usage()


async def load(address: str, devices: Iterable[Device]) -> None:
    """All of them at once, on some connections."""
    channels = [grpc.aio.insecure_channel(address) for _ in range(4)]
    try:
        await asyncio.gather(
            *(device.ask(channels[n % len(channels)]) for n, device in enumerate(devices))
        )
    finally:
        await asyncio.gather(*(channel.close() for channel in channels))


def check(url: sa.URL, devices: Iterable[Device], *, exactly: bool) -> None:
    """Every row is what its device heard, or no further off than a kill may leave it."""
    charged = {row["request_id"]: row for row in rows(url)}
    for device in devices:
        row = charged.get(device.mark)
        heard = device.usage.completion_tokens
        if row is None:
            assert heard == 0
            continue
        off = 0 if exactly else CHECKPOINT_TOKENS
        assert abs(row["completion_tokens"] - heard) <= off, (row, heard)
        usage = Usage(row["prompt_tokens"], row["completion_tokens"], row["cached_tokens"])
        assert row["charge_micro_usd"] == PRICE.cost_micro_usd(usage), row
        if exactly:
            assert row["charge_micro_usd"] == PRICE.cost_micro_usd(device.told), (row, heard)


async def reconcile(url: sa.URL, devices: Iterable[Device], **settings: Any) -> None:
    """Tell the ledger what every device received, and compare it to the token."""
    devices = list(devices)
    async with open_ledger(url, **settings) as ledger:
        for device in devices:
            await ledger.reconcile(_ANYBODY, [Acknowledged(device.mark, device.told)])
    check(url, devices, exactly=True)
    ids = [row["request_id"] for row in rows(url)]
    assert len(ids) == len(set(ids))


def check_counters(url: sa.URL) -> None:
    """What quotas have counted is what the rows say, to the token."""
    engine = make_engine(url, timeout_s=60)
    with engine.connect() as connection:
        found = {
            row.period: row for row in connection.execute(sa.select(counters)) if not row.device
        }
    engine.dispose()
    charged = rows(url)
    assert not [row for row in charged if row["status"] == OPEN]
    used = sum(row["prompt_tokens"] + row["completion_tokens"] for row in charged)
    assert found["month"].tokens == used
    assert found["at_once"].requests == 0


def assert_sound(devices: Iterable[Device]) -> None:
    """No answer has a token twice, and none that is whole lacks one."""
    for device in devices:
        assert not flaws(device.mark, device.tokens, device.text, whole=device.whole)

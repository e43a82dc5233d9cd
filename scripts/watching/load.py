"""A short scripted load in which every part of the program has something to count."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import grpc
import httpx

from isthmus.core.chat import ChatRequest, Message, PrivacyClass, Role, TextPart
from isthmus.core.deadline import Deadline
from isthmus.core.errors import IsthmusError
from isthmus.edge.config import EdgeConfig
from isthmus.edge.gateway import gateway_of
from isthmus.edge.remote import RemoteTier
from watching.system import TOKEN, System

QUESTION: Final = "Name a colour of the rainbow."
CARD: Final = "My card is 4111 1111 1111 1111. Name a colour."
MAIL: Final = "Write a line to jane.doe@example.org about rainbows."
ADDRESS: Final = "Is 192.0.2.7 a nice address? Name a colour."
ON_DEVICE: Final = {"route": "only_on_device"}
IN_CLOUD: Final = {"route": "only_in_cloud"}
RATHER_IN_CLOUD: Final = {"route": "prefer_in_cloud"}
_PAUSE_S: Final = 0.2


class Load:
    """Requests to the agent and to both gateways."""

    def __init__(self, system: System, client: httpx.AsyncClient) -> None:
        self._system = system
        self._client = client

    async def run(self, seconds: float) -> None:
        """Round after round, the gateway standing still once in between."""
        until_s = time.monotonic() + seconds
        await self.round()
        await self.outage()
        self._system.read_the_token_again()
        while time.monotonic() < until_s:
            await self.round()

    async def round(self) -> None:
        """Everything that can be told of a gateway that is well."""
        await self.ask(QUESTION, ON_DEVICE)
        answered = await self.ask(QUESTION, RATHER_IN_CLOUD)
        await self.ask(MAIL, RATHER_IN_CLOUD)
        await self.ask(ADDRESS, RATHER_IN_CLOUD)
        await self.ask(CARD)
        await self.judged(await self.ask(QUESTION), "up")
        await self.judged(answered, "down")
        for odd in ("Tell me something odd.", "Invent five words.", "Name strange colours."):
            await self.ask(odd, temperature=1.9, max_tokens=40)
        for slo_ms in (30, 60, 120, 240):
            await self.ask(QUESTION, {"ttft_slo_ms": slo_ms})
        await self.ask(QUESTION, {**IN_CLOUD, "max_price_usd": 1e-9})
        await self.ask("")
        await self.abandoned()
        await self.crowd()
        await self.at_the_gateways()

    async def ask(
        self, text: str, wishes: Mapping[str, Any] | None = None, **more: Any
    ) -> httpx.Response:
        """One answer, or what is said in its place."""
        messages = [{"role": "user", "content": text}] if text else []
        body = {"messages": messages, "isthmus": wishes or {}, "max_tokens": 12, "temperature": 0}
        body |= more
        answer = await self._client.post("/v1/chat/completions", json=body)
        await asyncio.sleep(_PAUSE_S)
        return answer

    async def judged(self, answer: httpx.Response, rating: str) -> None:
        """A person's thumb."""
        body = {"request_id": answer.headers.get("x-request-id", ""), "rating": rating}
        await self._client.post("/v1/feedback", json=body)

    async def abandoned(self) -> None:
        """Clients that go away in the middle of an answer, of either tier."""
        for wishes in (ON_DEVICE, RATHER_IN_CLOUD):
            messages = [{"role": "user", "content": "Count to a hundred."}]
            body = {"messages": messages, "stream": True, "isthmus": wishes}
            async with self._client.stream("POST", "/v1/chat/completions", json=body) as answer:
                async for _ in answer.aiter_bytes():
                    break

    async def crowd(self) -> None:
        """More at once than the gateway's quotas and its queue take."""
        for wishes in (IN_CLOUD, RATHER_IN_CLOUD):
            await asyncio.gather(*(self.ask(QUESTION, wishes, max_tokens=24) for _ in range(7)))

    async def outage(self) -> None:
        """The gateway says nothing: the device goes on, held back, and the breaker opens."""
        self._system.device_is(hot=True)
        long = {"max_tokens": 200, "stream": True}
        running = asyncio.create_task(self.ask("Count to a hundred.", RATHER_IN_CLOUD, **long))
        await asyncio.sleep(1.0)
        with self._system.gateway_stands_still():
            for _ in range(3):
                await self.ask(QUESTION, RATHER_IN_CLOUD)
            await running
        self._system.device_is(hot=False)

    async def at_the_gateways(self) -> None:
        """What a device by itself would not do: the same id twice, no token, another gateway."""
        ports, folder = self._system.ports, self._system.folder
        near = {"gateway_address": f"127.0.0.1:{ports.gateway}"}
        far = {
            "gateway_address": f"127.0.0.1:{ports.front}",
            "gateway_ca_file": folder / "ca.pem",
            "gateway_token_file": folder / "token",
        }
        number = time.monotonic_ns()
        request = ChatRequest(
            request_id=f"twice-{number}",
            # Its beginning decides which upstream is asked.
            messages=(Message(Role.USER, (TextPart(f"{number} times: {QUESTION}"),)),),
            max_tokens=8,
            deadline=Deadline.after(20),
            privacy_class=PrivacyClass.PUBLIC,
        )
        await _collected(near | {"gateway_token": TOKEN}, request, request)
        await _collected(near, request)
        await _collected(far, replace(request, request_id=f"far-{number}"))


async def _collected(settings: Mapping[str, Any], *requests: ChatRequest) -> None:
    """Read the answers of a gateway to the end; what goes wrong is the gateway's to count."""
    config = EdgeConfig(**settings)
    assert config.gateway_address is not None
    tier = RemoteTier(gateway_of(config.gateway_address, config))
    try:
        for request in requests:
            with contextlib.suppress(IsthmusError, grpc.RpcError):
                async for _ in tier.generate(request, lambda data: None):
                    pass
    finally:
        await tier.close()


async def run(system: System, seconds: float) -> None:
    """The load, for about `seconds`."""
    async with httpx.AsyncClient(base_url=system.agent_url, trust_env=False, timeout=60) as client:
        await Load(system, client).run(seconds)

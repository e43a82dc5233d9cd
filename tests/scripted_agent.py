"""An agent over scripted tiers, asked without HTTP, whose decision a test makes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

from isthmus.core.chat import ChatRequest, Message, Role, TextPart
from isthmus.core.decision import Decision, Reason, Target
from isthmus.core.events import Delta, FinishReason
from isthmus.core.tier import ModelInfo
from isthmus.edge.agent import Agent
from isthmus.edge.config import EdgeConfig
from isthmus.edge.device import Device
from isthmus.edge.ledger import Ledger
from isthmus.edge.sensors import Sensors
from isthmus.edge.testing import ScriptedEngine, ScriptedTier
from isthmus.edge.trail import Trail
from isthmus.privacy.base import Span
from isthmus.privacy.policy import PrivacyConfig
from isthmus.router.config import RouterConfig
from isthmus.router.doubt.cascade import WatchConfig
from isthmus.router.doubt.handover import CascadeConfig

SURE, UNSURE = -0.1, -4.0
QUICK = WatchConfig(window_tokens=2, hold_back_tokens=2)
"""Doubts after two unlikely tokens."""

WORDS = ("one", " two", " three", " four", " five", " six", " seven", " eight", " nine", " ten.")
TEXT = "".join(WORDS)
PRICE = {"cloud_input_usd_per_mtok": "1", "cloud_output_usd_per_mtok": "2"}
VERIFIES = ModelInfo("big", "scripted", verifies_drafts=True)
"""A gateway that judges drafts."""


class FindsNothing:
    """A scanner for texts that hold nothing."""

    def find(self, text: str) -> Sequence[Span]:
        return ()

    def blind_to(self, text: str) -> frozenset[str]:
        return frozenset()


def request(**more: Any) -> ChatRequest:
    """A request for an answer."""
    said = (Message(Role.USER, (TextPart("Count to twelve"),)),)
    return replace(ChatRequest("r-1", said), **more)


@asynccontextmanager
async def agent_over(
    engine: ScriptedEngine,
    cloud: ScriptedTier,
    decision: Decision | None = None,
    cascade: CascadeConfig | None = None,
    scanner: Any = None,
    ledger: Ledger | None = None,
    sensors: Sensors | None = None,
    **settings: Any,
) -> AsyncIterator[Agent]:
    """An agent that has loaded `engine`; it decides as it is told, by default for the device."""
    router = RouterConfig(cascade=cascade or CascadeConfig(watch=QUICK))
    settings = {"privacy": PrivacyConfig(consent=True), "router": router, **settings}
    config = EdgeConfig(**settings)
    agent = Agent(
        config,
        device=Device(lambda: engine),
        cloud=cloud,
        scanner=scanner,
        ledger=ledger,
        sensors=sensors,
    )
    agent.device.start()
    await agent.device.wait()
    if decision is not None:
        agent.decide = lambda *args, **kwargs: decision  # type: ignore[method-assign]
    try:
        yield agent
    finally:
        await agent.close()


def decided(target: Target = Target.EDGE, *, race: bool = False, **more: Any) -> Decision:
    """A decision for `target` that lets the other tier help."""
    reasons = (Reason.RACE,) if race else (Reason.VALUE_ON_EDGE,)
    return Decision(target, reasons, race=race, **more)


def doubting(after: int, **more: Any) -> ScriptedEngine:
    """A device that becomes unsure after so many of `WORDS`."""
    return ScriptedEngine(WORDS, logprobs=(SURE,) * after + (UNSURE,), **more)


async def answer_of(agent: Agent, trail: Trail) -> tuple[list[Delta], FinishReason]:
    """The pieces that a client sees, and how the answer ends. Raises as `Agent.run`."""
    pieces: list[Delta] = []
    async with aclosing(agent.run(trail)) as events:
        async for event in events:
            if not isinstance(event, Delta):
                return pieces, event.reason
            pieces.append(event)
    raise AssertionError("the answer has no end")


def text_of(pieces: Sequence[Delta]) -> str:
    """What a client has read."""
    return "".join(piece.text for piece in pieces)

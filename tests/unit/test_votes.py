"""The vote of a few samples: an answer that the device does not stand by goes to the cloud."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import pytest

from isthmus.core.chat import ChatRequest, RoutePreference
from isthmus.core.decision import Reason, Target
from isthmus.core.errors import ConfigError, Unavailable
from isthmus.core.events import Delta, Event, Finished, FinishReason
from isthmus.core.money import Usage
from isthmus.edge.sensors import Sensors
from isthmus.edge.testing import ScriptedEngine, ScriptedTier
from isthmus.edge.trail import Trail
from isthmus.edge.votes import MAX_TOKENS, Votes
from isthmus.router.doubt.handover import CascadeConfig
from isthmus.router.signals import DeviceHealth
from scripted_agent import agent_over, answer_of, decided, request, text_of

FIRST = "Paris is the capital."
THREE = CascadeConfig(votes=3)


@dataclass(slots=True)
class Wavering(ScriptedEngine):
    """Answers otherwise when its tokens are drawn."""

    other: str = "I would say that it is Lyon"

    def _all(self, request: ChatRequest) -> list[Delta]:
        drawn = request.request_id != "r-1"
        return [Delta(self.other if drawn else FIRST, 1)]


def known(health: DeviceHealth) -> Sensors:
    """Sensors that have told this."""
    sensors = Sensors()
    sensors.health = health
    return sensors


def waiting(**more: Any) -> Trail:
    """Somebody waits for the whole answer."""
    return Trail(request(**more), streams=False)


async def test_an_answer_that_the_device_does_not_stand_by_is_the_clouds_to_give() -> None:
    engine, cloud, trail = Wavering(), ScriptedTier(("In the cloud.",)), waiting()
    async with agent_over(engine, cloud, decided(), THREE) as agent:
        pieces, _ = await answer_of(agent, trail)
    assert text_of(pieces) == "In the cloud."
    assert trail.route is Target.CLOUD
    assert Reason.SAMPLES_DISAGREE in trail.reasons
    assert len(engine.requests) == 4
    assert len({r.sampling.seed for r in engine.requests}) == 4


async def test_an_answer_that_the_samples_repeat_stays() -> None:
    engine, cloud, trail = Wavering(other=FIRST.lower()), ScriptedTier(), waiting()
    async with agent_over(engine, cloud, decided(), THREE) as agent:
        pieces, _ = await answer_of(agent, trail)
    assert text_of(pieces) == FIRST
    assert trail.route is Target.EDGE
    assert cloud.requests == []


@pytest.mark.parametrize(
    ("trail", "health", "cascade"),
    [
        (Trail(request()), DeviceHealth(), THREE),
        (waiting(), DeviceHealth(battery=0.3), THREE),
        (waiting(preference=RoutePreference(ttft_slo_ms=500)), DeviceHealth(), THREE),
        (waiting(), DeviceHealth(), CascadeConfig()),
    ],
    ids=["it streams", "the battery is low", "a promise of time", "off by default"],
)
async def test_nobody_is_asked_again_when(
    trail: Trail, health: DeviceHealth, cascade: CascadeConfig
) -> None:
    engine = Wavering()
    async with agent_over(
        engine, ScriptedTier(), decided(), cascade, sensors=known(health)
    ) as agent:
        await answer_of(agent, trail)
    assert [r.request_id for r in engine.requests] == ["r-1"]


async def answered(text: str) -> AsyncGenerator[Event, None]:
    yield Delta(text, 1)
    yield Finished(FinishReason.STOP, Usage())


async def test_whoever_cannot_answer_has_no_vote() -> None:
    async def fails(asked: ChatRequest) -> AsyncGenerator[Event, None]:
        if asked.sampling.seed:
            raise Unavailable("no room")
        yield Delta(FIRST, 1)

    votes = Votes(fails, request(), 3, floor=0.3)
    assert not await votes.against(FIRST, 5)
    assert await votes.against("Something else, quite", 5)
    await votes.close()


async def test_a_long_answer_is_not_held_against_short_ones() -> None:
    votes = Votes(lambda asked: answered("no"), request(), 2, floor=0.3)
    assert not await votes.against("a very long answer", MAX_TOKENS + 1)
    await votes.close()


@pytest.mark.parametrize("votes", [-1, 9])
def test_a_number_of_votes_out_of_range_is_refused_by_name(votes: int) -> None:
    with pytest.raises(ConfigError) as error:
        CascadeConfig(votes=votes)
    assert error.value.field == "router.cascade.votes"

"""The answer path with scripted tiers, whatever happens: no text is lost and none is said twice."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isthmus.core.decision import Target
from isthmus.core.errors import Unavailable
from isthmus.edge.leg import LegEnd
from isthmus.edge.testing import ScriptedEngine, ScriptedTier
from isthmus.edge.trail import Trail
from isthmus.router.doubt.cascade import WatchConfig
from isthmus.router.doubt.handover import CascadeConfig
from scripted_agent import (
    SURE,
    UNSURE,
    VERIFIES,
    FindsNothing,
    agent_over,
    decided,
    request,
)


def cut(text: str, places: Sequence[int]) -> list[str]:
    """`text` in pieces."""
    ends = [*sorted({place % len(text) for place in places} - {0}), len(text)]
    return [text[a:b] for a, b in zip([0, *ends], ends, strict=False)]


cuts = st.lists(st.integers(1, 10_000), max_size=12)
whole = st.text("ab ,.中国\n", min_size=1, max_size=60)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    text=whole,
    edge_cuts=cuts,
    cloud_cuts=cuts,
    logprobs=st.lists(st.sampled_from([SURE, UNSURE]), min_size=1, max_size=12),
    edge_fails=st.none() | st.integers(0, 60),
    cloud_fails=st.none() | st.integers(0, 60),
    accepted=st.none() | st.integers(0, 60),
    race=st.booleans(),
    target=st.sampled_from(Target),
    streams=st.booleans(),
    watch=st.builds(WatchConfig, st.integers(1, 5), hold_back_tokens=st.integers(0, 5)),
    delays_s=st.tuples(*[st.sampled_from([0.0, 0.001, 0.003])] * 2),
)
async def test_no_text_is_lost_and_none_is_said_twice(
    text: str,
    edge_cuts: list[int],
    cloud_cuts: list[int],
    logprobs: list[float],
    edge_fails: int | None,
    cloud_fails: int | None,
    accepted: int | None,
    race: bool,
    target: Target,
    streams: bool,
    watch: WatchConfig,
    delays_s: tuple[float, float],
) -> None:
    """Both tiers know the same text, so whoever goes on must go on with the rest of it."""
    edge, cloud = cut(text, edge_cuts), cut(text, cloud_cuts)
    engine = ScriptedEngine(edge, logprobs=logprobs, error_at_char=edge_fails)
    tier = ScriptedTier(
        cloud, last_info=VERIFIES, accepted_chars=accepted, error_at_char=cloud_fails
    )
    engine.delay_s, tier.delay_s = delays_s
    for failing, at in ((engine, edge_fails), (tier, cloud_fails)):
        failing.error = None if at is None else Unavailable("gone")
    trail = Trail(request(), streams=streams)
    cascade = CascadeConfig(watch=watch)
    async with agent_over(
        engine, tier, decided(target, race=race), cascade, FindsNothing()
    ) as agent:
        shown: list[str] = []
        failed = False
        try:
            async with aclosing(agent.run(trail)) as events:
                async for event in events:
                    shown.append(getattr(event, "text", ""))  # noqa: PERF401
        except Unavailable:
            failed = True
    seen = "".join(shown)
    assert seen == trail.text
    assert text.startswith(seen)
    if not failed:
        assert seen == text
    else:
        assert engine.error is not None
        assert tier.error is not None
    assert engine.running == tier.running == 0
    assert all(leg.end is not LegEnd.RUNNING for leg in trail.legs)
    assert sum(leg.shown_tokens for leg in trail.legs) <= sum(
        leg.completion_tokens for leg in trail.legs
    )

"""What would leave the device for a request, shown before anything does."""

from __future__ import annotations

from typing import Any

from isthmus.core import wire
from isthmus.core.chat import ChatRequest
from isthmus.core.decision import Target
from isthmus.core.errors import PolicyRefused
from isthmus.edge.agent import Agent
from isthmus.edge.legs import request_for
from isthmus.edge.trail import Trail
from isthmus.router.gates import MAY_LEAVE


async def preview(agent: Agent, request: ChatRequest) -> dict[str, Any]:
    """The decision, and the request as it would leave; nothing is sent and nothing recorded.

    `would_leave` is null when nothing may leave. It is there too when the device is to answer and
    the cloud would only help out, and when there is no consent yet (`consent`: false): whoever is
    to give it sees first what would leave then. A request that names its conversation
    (`isthmus.conversation`) gets the very placeholders that are sent later.
    """
    look = await agent.look(request)
    consented = agent.consent.granted
    shown: dict[str, Any] = {
        "object": "isthmus.preview",
        "consent": consented,
        "privacy_class": look.found.privacy_class.value,
        "labels": dict(look.found.labels),
        "unseen_labels": sorted(look.found.blind),
        "target": None,
        "would_leave": None,
        "redacted": {},
        "bytes": 0,
    }
    try:
        decision = agent.decide(request, look, consented=consented)
        shown |= {"target": decision.target.value, "reasons": [r.value for r in decision.reasons]}
    except PolicyRefused as refused:
        shown |= {"reasons": [refused.reason]}
    try:
        decision = agent.decide(request, look, consented=True)
    except PolicyRefused:
        return shown
    may_leave = decision.target is Target.CLOUD or decision.fallback_allowed
    if not may_leave or look.found.privacy_class not in MAY_LEAVE:
        return shown
    price = agent.tiers.cloud_price
    purse = agent.spending.purse(request, price, only_look=True)
    trail = Trail(request, cloud_price=price, purse=purse)
    asked = request_for(trail, Target.CLOUD, look.conversation)
    if asked is None:
        return shown
    outgoing = await agent.screen.outgoing(asked, look)
    data = wire.request_as_bytes(outgoing.request)
    outgoing.check(data)
    return shown | {
        "would_leave": wire.request_as_json(outgoing.request),
        "redacted": dict(outgoing.labels),
        "bytes": len(data),
    }

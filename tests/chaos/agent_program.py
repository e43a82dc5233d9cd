"""An agent over scripted tiers as a process of its own; prints its address as JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from isthmus.edge.testing import ScriptedEngine, ScriptedTier, running_agent


class Forgetful(list[Any]):
    """What a test would look at afterwards; here nobody does, and memory is watched."""

    def append(self, item: Any) -> None:
        """Nothing."""


async def main() -> None:
    engine, cloud = ScriptedEngine(), ScriptedTier()
    for tier in (engine, cloud):
        tier.requests = Forgetful()
        tier.left = Forgetful()
    async with running_agent(engine, cloud=cloud) as agent:
        sys.stdout.write(json.dumps({"url": agent.url}) + "\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())

"""An agent over scripted tiers as a process of its own; prints its address as JSON.

`agent_program SECONDS`: it writes a word of its answers each so many seconds.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from isthmus.edge.page.kept import Kept
from isthmus.edge.testing import ScriptedEngine, ScriptedTier, running_agent


class Forgetful(list[Any]):
    """What a test would look at afterwards; here nobody does, and memory is watched."""

    def append(self, item: Any) -> None:
        """Nothing."""


async def main() -> None:
    engine, cloud = ScriptedEngine(), ScriptedTier()
    if len(sys.argv) > 1:
        engine = ScriptedEngine(pieces=("word ",) * 1_000, delay_s=float(sys.argv[1]))
    for tier in (engine, cloud):
        tier.requests = Forgetful()
        tier.left = Forgetful()
    async with running_agent(engine, cloud=cloud, kept=Kept.at_home()) as agent:
        sys.stdout.write(json.dumps({"url": agent.url}) + "\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())

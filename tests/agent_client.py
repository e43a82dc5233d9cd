"""The official openai client on a running agent, for end-to-end tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai

from isthmus.edge.testing import RunningAgent

HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
HARD_QUESTION: list[Any] = [
    {
        "role": "user",
        "content": "Prove step by step that the halting problem is undecidable, then write Python "
        "code for a type checker of the simply typed lambda calculus and derive its complexity: "
        "why does ∑ i² = n(n+1)(2n+1)/6 hold? Explain and compare the theorems in detail.",
    }
]


@asynccontextmanager
async def openai_client(
    agent: RunningAgent, key: str = "none"
) -> AsyncIterator[openai.AsyncOpenAI]:
    """A client without retries, so that a test sees the first answer."""
    async with openai.AsyncOpenAI(
        base_url=f"{agent.url}/v1", api_key=key, max_retries=0, timeout=20
    ) as client:
        yield client


def sample(agent: RunningAgent, name: str, **labels: str) -> float:
    """The value of a metric, 0 when it has none yet."""
    return agent.agent.metrics.registry.get_sample_value(name, labels) or 0.0

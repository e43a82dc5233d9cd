"""Memory does not grow with requests: 10,000 of them under `make soak`, fewer every day."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import psutil
import pytest

import tiny_qwen2
from isthmus.core.chat import ChatRequest, Message, Role, Sampling, TextPart
from isthmus.core.deadline import Deadline
from isthmus.core.errors import IsthmusError
from isthmus.core.events import Delta
from isthmus.engine.engine import Engine
from isthmus.engine.prepared import pack_model
from isthmus.kernels.native import NativeBackend

REQUESTS = int(os.environ.get("ISTHMUS_SOAK_REQUESTS", "1000"))
ALLOWED_BYTES = 4 << 20
"""What an allocator may keep for itself; a leak of 4 KiB a request passes it in 1,000."""


@pytest.fixture
def engine() -> Iterator[Engine]:
    native = NativeBackend(threads=1)
    made = Engine(pack_model(tiny_qwen2.model(), native), native)
    yield made
    made.close()


async def ask(engine: Engine, number: int) -> int:
    """One request of a kind that depends on its number; how many tokens came."""
    text = f"{number} " * (1 + number % 40)
    messages = (Message(Role.USER, (TextPart(text),)),)
    sampling = Sampling(temperature=number % 2, seed=number, ignore_eos=True)
    # Every seventh runs out of time, every fifth is left in the middle.
    deadline = Deadline.after(1e-3) if number % 7 == 0 else Deadline.NEVER
    request = ChatRequest(str(number), messages, sampling, max_tokens=8, deadline=deadline)
    tokens = 0
    events = engine.generate(request)
    try:
        async for event in events:
            if isinstance(event, Delta):
                tokens += event.tokens
                if number % 5 == 0:
                    break
    except IsthmusError:
        assert number % 7 == 0
    finally:
        await events.aclose()
    return tokens


async def many(engine: Engine, first: int, count: int) -> int:
    """`count` requests, four at a time; how many tokens came in all."""
    total = 0
    for at in range(first, first + count, 4):
        total += sum(await asyncio.gather(*(ask(engine, at + i) for i in range(4))))
    return total


@pytest.mark.timeout(900)
async def test_memory_is_flat_over_many_requests(engine: Engine) -> None:
    process = psutil.Process()
    await many(engine, 0, REQUESTS // 2)  # the pool is full and every cache warm
    before = process.memory_info().rss
    tokens = await many(engine, REQUESTS // 2, REQUESTS)
    grown = process.memory_info().rss - before
    assert tokens > 4 * REQUESTS
    assert grown < ALLOWED_BYTES, f"{grown / REQUESTS:.0f} bytes a request"
    while engine.running:  # noqa: ASYNC110  # one that was left ends at the next step
        await asyncio.sleep(0.01)
    assert engine.queue_depth == 0
    assert engine.kv_used_tokens <= engine.context_tokens

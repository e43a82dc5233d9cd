"""What it costs the gateway to read a token of an upstream, in microseconds of CPU.

    .venv/bin/python scripts/upstream_cost.py --streams 200 --tokens 100 --gap-ms 10

The upstream is scripted and a process of its own; `--gap-ms 0` has it say all it has at once, which
is what a gateway sees that has fallen behind.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import time
from multiprocessing.connection import Connection

from isthmus.cloud.backends.base import BackendConfig
from isthmus.cloud.upstreams.pool import UpstreamPool
from isthmus.cloud.upstreams.testing import ScriptedUpstream
from isthmus.core.chat import ChatRequest, Message, Role, TextPart
from isthmus.core.events import Delta

REQUEST = ChatRequest("r", (Message(Role.USER, (TextPart("hello"),)),))


def serve(told: Connection, tokens: int, gap_s: float) -> None:
    """Serve until killed, having told the address."""

    async def run() -> None:
        async with ScriptedUpstream([" word"] * tokens, delay_s=gap_s, is_vllm=False) as upstream:
            told.send(upstream.url)
            await asyncio.Event().wait()

    asyncio.run(run())


async def read(pool: UpstreamPool) -> tuple[int, int]:
    """Tokens of one answer, and the pieces that they came in."""
    pieces = [event.tokens async for event in pool.generate(REQUEST) if isinstance(event, Delta)]
    return sum(pieces), len(pieces)


async def measure(url: str, streams: int) -> None:
    """Read so many streams at once and print what that took."""
    pool = UpstreamPool(BackendConfig(kind="openai", url=url, model="m"))
    await pool.start()
    await read(pool)
    began_cpu_s, began_s = time.process_time(), time.monotonic()
    answers = await asyncio.gather(*(read(pool) for _ in range(streams)))
    cpu_s, wall_s = time.process_time() - began_cpu_s, time.monotonic() - began_s
    tokens = sum(answer[0] for answer in answers)
    pieces = sum(answer[1] for answer in answers)
    print(
        f"{streams} streams, {tokens} tokens in {pieces} pieces: {tokens / wall_s:.0f} tokens/s, "
        f"{cpu_s / tokens * 1e6:.1f} us of CPU a token"
    )
    await pool.close()


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--gap-ms", type=float, default=10)
    asked = parser.parse_args()
    here, there = multiprocessing.Pipe()
    upstream = multiprocessing.get_context("spawn").Process(
        target=serve, args=(there, asked.tokens, asked.gap_ms / 1000), daemon=True
    )
    upstream.start()
    try:
        asyncio.run(measure(here.recv(), asked.streams))
    finally:
        upstream.kill()
        upstream.join()


if __name__ == "__main__":
    main()

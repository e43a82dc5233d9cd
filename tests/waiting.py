"""Waiting for a task, a thread or a process: a test goes on as soon as it has happened."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

PATIENCE_S = 20.0
"""Far more than anything takes, on a busy machine too: only a test that fails waits for so long."""


async def eventually(happened: Callable[[], object], within_s: float = PATIENCE_S) -> bool:
    """Whether it happens in time, while the loop's other tasks go on."""
    until_s = time.monotonic() + within_s
    while not happened():
        if time.monotonic() > until_s:
            return False
        await asyncio.sleep(0.01)
    return True


def happens(happened: Callable[[], object], within_s: float = PATIENCE_S) -> bool:
    """Whether it happens in time, in a thread or process that is none of the loop's."""
    until_s = time.monotonic() + within_s
    while not happened():
        if time.monotonic() > until_s:
            return False
        time.sleep(0.01)
    return True

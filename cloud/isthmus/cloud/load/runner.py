"""Sends orders when they are due and checks what comes back: an open loop.

A slow target does not slow the arrivals, and every time is counted from when the order was due, not
from when it was sent: what queues up is seen (no "coordinated omission").
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from isthmus.cloud.load import script
from isthmus.cloud.load.base import Order, Target
from isthmus.cloud.load.histogram import Histogram
from isthmus.core.errors import IsthmusError

_TIMER_S = 0.002
"""A timer of the event loop may be this late; the rest is waited for by turning the loop."""
_EXAMPLES = 10


@dataclass(slots=True)
class Report:
    """What became of a run's orders."""

    requests: int = 0
    finished: int = 0
    cancelled: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    """By the kind of error."""
    tokens: int = 0
    pieces: int = 0
    """Messages with text; fewer than tokens where they were coalesced."""
    lost_tokens: int = 0
    doubled_tokens: int = 0
    strange_tokens: int = 0
    flawed: list[str] = field(default_factory=list)
    """The marks of the first answers that were not as they should be."""
    errors: list[str] = field(default_factory=list)
    """What the first requests that failed were told."""
    most_streams: int = 0
    wall_s: float = 0.0
    ttft: Histogram = field(default_factory=Histogram)
    gap: Histogram = field(default_factory=Histogram)
    """Between two pieces of one answer."""
    late: Histogram = field(default_factory=Histogram)
    """How late the loader itself was: it is part of every time."""
    left_at_s: dict[str, float] = field(default_factory=dict)
    """When (monotonic) the callers went away that did, by mark."""

    @property
    def tokens_per_s(self) -> float:
        """Over the whole run."""
        return self.tokens / self.wall_s if self.wall_s else 0.0

    def as_json(self) -> dict[str, Any]:
        """Numbers, with times in milliseconds."""
        return {
            "requests": self.requests,
            "finished": self.finished,
            "cancelled": self.cancelled,
            "failed": dict(self.failed),
            "tokens": self.tokens,
            "pieces": self.pieces,
            "lost_tokens": self.lost_tokens,
            "doubled_tokens": self.doubled_tokens,
            "strange_tokens": self.strange_tokens,
            "flawed": self.flawed,
            "errors": self.errors,
            "most_streams": self.most_streams,
            "wall_s": round(self.wall_s, 2),
            "tokens_per_s": round(self.tokens_per_s, 1),
            "ttft_ms": self.ttft.summary_ms(),
            "gap_ms": self.gap.summary_ms(),
            "loader_late_ms": self.late.summary_ms(),
        }


async def run(
    target: Target,
    orders: Iterable[Order],
    *,
    patience_s: float = 60.0,
    report: Report | None = None,
) -> Report:
    """Send all orders in their time. An answer without a word for `patience_s` counts as hung.

    A `report` that is given grows while the run goes on.
    """
    report = report or Report()
    running: set[_Asked] = set()
    watching = asyncio.create_task(_watch(running, patience_s))
    began_s = time.monotonic()
    try:
        for order in orders:
            due_s = began_s + order.at_s
            await _until(due_s)
            asked = _Asked(order, due_s, report)
            asked.task = asyncio.create_task(asked.follow(target))
            running.add(asked)
            asked.task.add_done_callback(partial(_forget, running, asked))
            report.most_streams = max(report.most_streams, len(running))
        while running:
            await asyncio.wait([asked.task for asked in running])
    finally:
        watching.cancel()
        left = [asked.task for asked in running]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, watching, return_exceptions=True)
    report.wall_s = time.monotonic() - began_s
    return report


def _forget(running: set[_Asked], asked: _Asked, _: object) -> None:
    running.discard(asked)


async def _until(due_s: float) -> None:
    wait_s = due_s - time.monotonic()
    if wait_s > _TIMER_S:
        await asyncio.sleep(wait_s - _TIMER_S)
    while time.monotonic() < due_s:  # noqa: ASYNC110 - there is no event: it is the clock
        await asyncio.sleep(0)


async def _watch(running: set[_Asked], patience_s: float) -> None:
    """Stop what says nothing any more: one look at all of them, not a timer for each piece."""
    while True:
        await asyncio.sleep(min(1.0, patience_s / 4))
        for asked in running:
            if time.monotonic() - asked.last_s > patience_s and not asked.hung:
                asked.hung = True
                asked.task.cancel()


class _Asked:
    """An order on its way."""

    task: asyncio.Task[None]

    def __init__(self, order: Order, due_s: float, report: Report) -> None:
        self._order = order
        self._due_s = due_s
        self._report = report
        self._heard: list[str] = []
        self._tokens = 0
        self.last_s = time.monotonic()
        """When it last said something."""
        self.hung = False

    async def follow(self, target: Target) -> None:
        """Ask, listen to the end, and note what came of it."""
        order, report = self._order, self._report
        report.requests += 1
        if order.counted:
            report.late.record(self.last_s - self._due_s)
        whole = False
        try:
            whole = await self._listen(target)
        except IsthmusError as error:
            report.failed[error.kind] += 1
            if len(report.errors) < _EXAMPLES:
                report.errors.append(f"{order.mark} after {self._tokens} tokens: {error.message}")
        except asyncio.CancelledError:
            if not self.hung:
                raise
            report.failed["hung"] += 1
        report.finished += whole
        self._check(whole=whole)

    async def _listen(self, target: Target) -> bool:
        """Whether the answer came to its end; not when its caller went away."""
        order, report, heard = self._order, self._report, self._heard
        async with contextlib.aclosing(target.ask(order)) as pieces:
            async for piece in pieces:
                now_s = time.monotonic()
                if order.counted:
                    if heard:
                        report.gap.record(now_s - self.last_s)
                    else:
                        report.ttft.record(now_s - self._due_s)
                self.last_s = now_s
                tokens = piece.count(" ") + (not heard)
                self._tokens += tokens
                report.tokens += tokens
                report.pieces += 1
                heard.append(piece)
                if order.cancel_after is not None and self._tokens >= order.cancel_after:
                    report.left_at_s[order.mark] = time.monotonic()
                    report.cancelled += 1
                    return False
        return True

    def _check(self, *, whole: bool) -> None:
        order, report = self._order, self._report
        found = script.flaws(order.mark, order.tokens, "".join(self._heard), whole=whole)
        if found:
            report.lost_tokens += found.lost
            report.doubled_tokens += found.doubled
            report.strange_tokens += found.strange
            if len(report.flawed) < _EXAMPLES:
                report.flawed.append(order.mark)

"""The vote of a few samples: does the device stand by its answer when it is asked again?

While the device writes its answer, it writes some more to the same question, drawn and not the best
token each time. Engines that answer several requests in one batch do so for little more time. An
answer that the others hardly resemble is doubted. It is the strongest sign that costs no label
(Wang et al., "Self-Consistency", ICLR 2023), and the dearest.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from statistics import fmean

from isthmus.core.chat import ChatRequest
from isthmus.core.errors import IsthmusError
from isthmus.core.events import Delta, Event
from isthmus.router.drift import agreement

TEMPERATURE, TOP_P = 0.8, 0.95
MAX_TOKENS = 64
"""How long the others may get: a longer answer says too much to be held against another."""

Ask = Callable[[ChatRequest], AsyncGenerator[Event, None]]


class Votes:
    """Other answers to `request`, being written from now on. Needs a running loop."""

    def __init__(self, ask: Ask, request: ChatRequest, count: int, *, floor: float) -> None:
        """`ask` has the device answer; `floor`: the mean likeness below which there is a doubt."""
        self._floor = floor
        self._others = [
            asyncio.create_task(_text(ask, _another(request, seed)), name="isthmus-vote")
            for seed in range(count)
        ]

    async def against(self, answer: str, tokens: int) -> bool:
        """Whether the others hardly resemble `answer` of so many tokens. False when in doubt."""
        if tokens > MAX_TOKENS:
            return False
        written = await asyncio.gather(*self._others)
        others = [text for text in written if text is not None]
        return bool(others) and fmean(agreement(answer, text) for text in others) < self._floor

    async def close(self) -> None:
        """Stop those that still write."""
        for task in self._others:
            task.cancel()
        await asyncio.gather(*self._others, return_exceptions=True)


def _another(request: ChatRequest, seed: int) -> ChatRequest:
    drawn = replace(request.sampling, temperature=TEMPERATURE, top_p=TOP_P, seed=seed)
    most = MAX_TOKENS if request.max_tokens is None else min(MAX_TOKENS, request.max_tokens)
    return replace(
        request,
        request_id=f"{request.request_id}-vote-{seed}",
        sampling=drawn,
        max_tokens=most,
        watched=False,
    )


async def _text(ask: Ask, request: ChatRequest) -> str | None:
    """The answer's text; None when there is none: whoever cannot answer has no vote."""
    try:
        async with aclosing(ask(request)) as events:
            return "".join([event.text async for event in events if isinstance(event, Delta)])
    except IsthmusError:
        return None

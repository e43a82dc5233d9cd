"""A cloud that says again what it was asked, and a request with values that must not leave."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable
from typing import Any

from isthmus.core.chat import ChatRequest
from isthmus.core.events import Delta, Event, TokenLogprob
from isthmus.edge.testing import ScriptedTier
from isthmus.edge.tiers import Check

MAIL, PHONE = "jane.doe@example.org", "+1 415 555 0132"
ASKED = f"Write a polite letter: reach me at {MAIL}, or call {PHONE} after noon."
IN_CLOUD = {"isthmus": {"route": "prefer_in_cloud"}}
PLACEHOLDER = re.compile(r"\[[A-Z_]+_[a-z]\d[a-z]\d\]")


def asked(text: str = ASKED) -> list[Any]:
    return [{"role": "user", "content": text}]


class Echo(ScriptedTier):
    """Answers with what it was asked, `edit`ed, three characters a token."""

    edit: Callable[[str], str] = staticmethod(lambda text: text)

    async def generate(
        self, request: ChatRequest, check: Check = lambda data: None
    ) -> AsyncGenerator[Event, None]:
        text = type(self).edit(request.messages[-1].text)
        pieces = [text[at : at + 3] for at in range(0, len(text), 3)]
        self.deltas = [
            Delta(piece, logprobs=(TokenLogprob(piece, -1.0, piece.encode()),)) for piece in pieces
        ]
        async for event in super().generate(request, check):
            yield event


def nothing_left(cloud: ScriptedTier, *values: str) -> bool:
    return not any(value.encode() in data for data in cloud.left for value in values)

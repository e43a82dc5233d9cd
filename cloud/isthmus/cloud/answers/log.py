"""All that was said of one answer, packed: readers take from it what they do not have yet.

The text lies in one run of bytes, and four numbers a piece tell where each one ends. A reader that
is behind gets several pieces as one, so what waits for it costs nothing beyond the answer itself.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from typing import Final, NamedTuple

from isthmus.cloud.ledger.base import CHECKPOINT_TOKENS
from isthmus.core.errors import IsthmusError
from isthmus.core.events import Delta, DraftVerdict, Finished, Started, TokenLogprob, ToolCallDelta

_MOST_BYTES: Final = 64 * 1024
_MOST_TOKENS: Final = CHECKPOINT_TOKENS
"""Of one message: beyond it the pieces go in several, each safe in the ledger before the next, and
far below what a receiver takes."""
_LOGPROB_BYTES: Final = 400
_OVERHEAD_BYTES: Final = 2_048
"""What an answer holds beside its text, and a log-probability with its candidates: roughly."""


class Place(NamedTuple):
    """How far a reader is, in pieces, bytes of text, tokens, and entries of the two lists."""

    pieces: int = 0
    text: int = 0
    tokens: int = 0
    logprobs: int = 0
    tool_calls: int = 0


class Log:
    """What was said so far, from behind the request's `answer_so_far` on, and how it ended."""

    def __init__(self, received: str = "", tokens: int = 0) -> None:
        self.started: Started | None = None
        self.end: Finished | IsthmusError | None = None
        self.verdict: DraftVerdict | None = None
        """What became of the request's draft."""
        self.begin = Place()
        """Where a reader begins that has nothing: behind what stands of a draft."""
        self._text = bytearray()
        self._ends = array("Q")
        self._logprobs: list[TokenLogprob] = []
        self._tool_calls: list[ToolCallDelta] = []
        self.last = Place()
        """Behind the last piece."""
        if received or tokens:
            self.add(Delta(received, tokens))

    @property
    def text(self) -> str:
        """All of the text."""
        return self._text.decode()

    @property
    def has_tool_calls(self) -> bool:
        """Whether a part of a tool call was written: nobody can go on from that."""
        return bool(self._tool_calls)

    @property
    def size_bytes(self) -> int:
        """About what it holds."""
        calls = sum(200 + len(call.arguments) for call in self._tool_calls)
        packed = len(self._text) + 8 * len(self._ends)
        return _OVERHEAD_BYTES + packed + calls + _LOGPROB_BYTES * len(self._logprobs)

    def stands(self, verdict: DraftVerdict, draft: str) -> None:
        """The answer begins with what stands of the request's draft, which its device has."""
        self.verdict = verdict
        text = draft.encode()[: verdict.accepted_bytes].decode()
        self.add(Delta(text, verdict.accepted_tokens))
        self.begin = self.last

    def add(self, delta: Delta) -> None:
        """The next piece."""
        self._text += delta.text.encode()
        self._logprobs += delta.logprobs
        self._tool_calls += delta.tool_calls
        self.last = Place(
            self.last.pieces + 1,
            len(self._text),
            self.last.tokens + delta.tokens,
            len(self._logprobs),
            len(self._tool_calls),
        )
        self._ends.extend(self.last[1:])

    def behind(self, received: str, tokens: int) -> Place | None:
        """The place of a reader that has this text; None when the answer does not begin so."""
        known = received.encode()
        if not self._text.startswith(known):
            return None
        tokens = min(tokens, self.last.tokens)
        at, ends = 0, self._ends[::4]
        if known:
            at = bisect_left(ends, len(known))
            at += at < len(ends) and ends[at] == len(known)
        # Pieces without text (half a character) lie in one place: their tokens tell them apart.
        while at < len(ends) and ends[at] == len(known) and self._ends[4 * at + 1] <= tokens:
            at += 1
        # Of a tool call nobody ever has a part: an attempt that broke there is not gone on from.
        return Place(at, len(known), tokens, self._ends[4 * at - 2] if at else 0)

    def after(self, place: Place) -> tuple[Delta, Place] | None:
        """What follows `place` as one piece, and the place behind it; None: nothing yet."""
        until = self.last
        if place[1:] == until[1:]:
            return None
        if until.pieces > place.pieces + _MOST_TOKENS:
            until = self._place(place.pieces + _MOST_TOKENS)
        while until.pieces > place.pieces + 1 and (
            until.tokens - place.tokens > _MOST_TOKENS or until.text - place.text > _MOST_BYTES
        ):
            until = self._place((place.pieces + 1 + until.pieces) // 2)
        delta = Delta(
            self._text[place.text : until.text].decode(),
            max(0, until.tokens - place.tokens),
            tuple(self._logprobs[place.logprobs : until.logprobs]) if self._logprobs else (),
            tuple(self._tool_calls[place.tool_calls : until.tool_calls])
            if self._tool_calls
            else (),
        )
        return delta, until

    def _place(self, pieces: int) -> Place:
        return Place(pieces, *self._ends[4 * pieces - 4 : 4 * pieces])

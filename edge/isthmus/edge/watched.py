"""The device's answer under watch: its last tokens are held back until nobody doubts them."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace

from isthmus.core.decision import Reason
from isthmus.core.errors import IsthmusError
from isthmus.core.events import Delta, Finished, FinishReason, FirstToken
from isthmus.edge.votes import Votes
from isthmus.router.doubt.cascade import Doubt, Verdict, Watch
from isthmus.router.doubt.handover import DOUBTS
from isthmus.router.doubt.second_look import SecondLook


@dataclass(frozen=True, slots=True)
class Doubted:
    """The device doubts what it writes. Whoever reads on gets the rest of it all the same."""

    reason: Reason
    draft: str = ""
    """What it wrote and nobody has seen, as far as it may be worth a look."""


@dataclass(frozen=True, slots=True)
class AfterPrefill:
    """The second look at one request."""

    look: SecondLook
    prior: float
    """What the first look said of the device's answer."""
    floor: float
    """The probability of a good answer below which there is a doubt."""

    def doubts(self, first: FirstToken) -> bool:
        """Whether the device had better not answer."""
        return self.look.rate(first, prior=self.prior) < self.floor


@dataclass(frozen=True, slots=True)
class WatchOver:
    """What watches one answer."""

    watch: Watch
    after_prefill: AfterPrefill | None = None
    votes: Votes | None = None
    """Only where nothing is shown before the answer's end."""


async def watched(
    events: AsyncGenerator[Delta | Finished, None], over: WatchOver, *, with_logprobs: bool
) -> AsyncGenerator[Delta | Finished | Doubted, None]:
    """`events` with the last tokens held back, and a `Doubted` where there is a doubt.

    There is one at most. Behind it come the tokens that were held back and the rest, unwatched,
    and so do they where a tool call begins. What a failure, or the end, leaves held back is given
    first: nobody doubted it. `with_logprobs`: the client asked for them too.
    """
    watch, second_look = over.watch, over.after_prefill
    held = _Held(with_logprobs=with_logprobs)
    doubted = False
    try:
        async for event in events:
            if isinstance(event, Finished):
                verdict = watch.end()
                # One that was cut at its length is not whole for another reason.
                if not doubted and event.reason is not FinishReason.LENGTH:
                    if verdict.doubt is not None:
                        yield _doubt(verdict.doubt, held)
                    elif over.votes and await over.votes.against(held.text, held.tokens):
                        yield Doubted(Reason.SAMPLES_DISAGREE, held.text.rstrip())
                if rest := held.rest():
                    yield rest
                yield event
                continue
            if event.first_token is not None and second_look is not None:
                doubted = second_look.doubts(event.first_token)
                if doubted:
                    yield Doubted(Reason.DOUBT_AFTER_PREFILL)
            held.push(event)
            if event.tool_calls or doubted:
                doubted = True
                if rest := held.rest():
                    yield rest
                continue
            verdict = _fed(watch, event)
            if piece := held.take_to(verdict.stands):
                yield piece
            if verdict.doubt is not None:
                doubted = True
                yield _doubt(verdict.doubt, held)
                if rest := held.rest():
                    yield rest
    except IsthmusError:
        if rest := held.rest():
            yield rest
        raise


def _fed(watch: Watch, delta: Delta) -> Verdict:
    logprobs = [token.logprob for token in delta.logprobs]
    return watch.feed(delta.text, logprobs, tokens=delta.tokens)


def _doubt(doubt: Doubt, held: _Held) -> Doubted:
    # What only became unlikely may be right; what repeats itself or breaks its form is not.
    return Doubted(DOUBTS[doubt], held.text.rstrip() if doubt is Doubt.UNSURE else "")


class _Held:
    """Pieces that are not given yet. A token belongs to the piece that its text begins in."""

    def __init__(self, *, with_logprobs: bool) -> None:
        self._pieces: deque[Delta] = deque()
        self._with_logprobs = with_logprobs
        self._taken = 0
        """Characters that were given."""

    @property
    def text(self) -> str:
        """All of their text."""
        return "".join(piece.text for piece in self._pieces)

    @property
    def tokens(self) -> int:
        """How many."""
        return sum(piece.tokens for piece in self._pieces)

    def push(self, piece: Delta) -> None:
        logprobs = piece.logprobs if self._with_logprobs else ()
        self._pieces.append(replace(piece, logprobs=logprobs, first_token=None))

    def take_to(self, end: int) -> Delta | None:
        """What comes before character `end` of the whole, with its tokens; None for nothing.

        Spaces before `end` wait for what follows: whoever goes on begins with them, since models
        have them in one token with the word behind.
        """
        if end <= self._taken:
            return None
        stands = self.text[: end - self._taken].rstrip()
        chars = len(stands)
        self._taken += chars
        taken: list[Delta] = []
        while chars > 0:
            piece = self._pieces.popleft()
            if len(piece.text) > chars:
                rest = replace(piece, text=piece.text[chars:], tokens=0, logprobs=())
                self._pieces.appendleft(rest)
                piece = replace(piece, text=piece.text[:chars])
            chars -= len(piece.text)
            taken.append(piece)
        return _joined(taken)

    def rest(self) -> Delta | None:
        """Everything; None when there is nothing."""
        pieces = list(self._pieces)
        self._pieces.clear()
        return _joined(pieces)


def _joined(pieces: list[Delta]) -> Delta | None:
    if not pieces:
        return None
    return Delta(
        "".join(piece.text for piece in pieces),
        sum(piece.tokens for piece in pieces),
        tuple(token for piece in pieces for token in piece.logprobs),
        tuple(call for piece in pieces for call in piece.tool_calls),
    )

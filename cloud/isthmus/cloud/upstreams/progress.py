"""What an answer has told so far, over all the upstreams that wrote it, and how it can go on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from isthmus.core.chat import ChatRequest, ResponseKind, ToolChoice
from isthmus.core.events import Delta, Event, Finished, FinishReason, Started
from isthmus.core.money import Usage

_SEEDS: Final = 2**63


class Progress:
    """One answer on its way. Every event of every upstream is shown to it and comes back mended."""

    def __init__(self, request: ChatRequest) -> None:
        self._request = request
        self._started: Started | None = None
        self._told: list[str] = []
        self._earlier_tokens = 0
        self._edge = ""
        self._new_chars = 0
        self._calls = False
        self.tokens = 0
        """Tokens told so far."""

    @property
    def begun(self) -> bool:
        """Whether a part of the answer is told."""
        return bool(self.tokens or self._told)

    @property
    def movable(self) -> bool:
        """Whether another upstream can go on from here: no part of a form or of a call can."""
        request = self._request
        formed = request.response_format.kind is not ResponseKind.TEXT
        must_call = bool(request.tools) and request.tool_choice is ToolChoice.REQUIRED
        return not self.begun or not (self._calls or formed or must_call)

    def rest(self) -> ChatRequest:
        """What the next upstream is to be asked."""
        request = self._request
        if not self.begun:
            return request
        left, seed = request.max_tokens, request.sampling.seed
        if seed is not None:
            # The same numbers again would choose as they did at the answer's beginning.
            seed = (seed + self.tokens) % _SEEDS
        return replace(
            request,
            answer_so_far=request.answer_so_far + "".join(self._told),
            max_tokens=None if left is None else left - self.tokens,
            sampling=replace(request.sampling, seed=seed),
        )

    def broke(self) -> Finished | None:
        """The upstream is gone. The end of the answer, if nothing is left to be asked for."""
        self._earlier_tokens = self.tokens
        self._edge = _begun_stop("".join(self._told), self._request.sampling.stop)
        self._new_chars = 0
        left = self._request.max_tokens
        if left is not None and self.begun and self.tokens >= left:
            return Finished(FinishReason.LENGTH, self._usage(Usage()))
        return None

    def see(self, event: Event) -> Sequence[Event]:
        """`event` as the caller is to have it: nothing is begun twice, and usage is of all."""
        match event:
            case Started():
                if self._started is not None:
                    return ()
                self._started = event
            case Delta():
                if self._edge:
                    return self._across(event)
                self._take(event)
            case Finished():
                return (replace(event, usage=self._usage(event.usage)),)
        return (event,)

    def _usage(self, last: Usage) -> Usage:
        """Of the whole answer, when `last` is that of its last upstream: the prompt counts once."""
        earlier = self._earlier_tokens
        if not earlier:
            return last
        started = self._started or Started("", 0)
        return Usage(
            # What the last one read as its prompt holds what the others wrote.
            started.prompt_tokens or max(0, last.prompt_tokens - earlier),
            earlier + max(last.completion_tokens, self.tokens - earlier),
            started.cached_tokens,
        )

    def _take(self, delta: Delta) -> None:
        self.tokens += delta.tokens
        if delta.text:
            self._told.append(delta.text)
        self._calls = self._calls or bool(delta.tool_calls)

    def _across(self, delta: Delta) -> Sequence[Event]:
        """`delta`, unless a stop text that began with one upstream ends with this one."""
        stops = self._request.sampling.stop
        text = self._edge + delta.text
        found = [at for stop in stops if (at := text.find(stop)) >= 0]
        if found:
            # What the earlier upstream told of it is told.
            kept = replace(delta, text=delta.text[: max(0, min(found) - len(self._edge))])
            self._take(kept)
            return kept, Finished(FinishReason.STOP, self._usage(Usage()))
        self._take(delta)
        self._new_chars += len(delta.text)
        # What lies wholly in the new text the new upstream finds by itself.
        self._edge = text if self._new_chars < max(map(len, stops)) else ""
        return (delta,)


def _begun_stop(text: str, stops: Sequence[str]) -> str:
    """The longest end of `text` that a stop text begins with."""
    longest = max((len(stop) - 1 for stop in stops), default=0)
    for size in range(min(longest, len(text)), 0, -1):
        if any(stop.startswith(text[-size:]) for stop in stops):
            return text[-size:]
    return ""

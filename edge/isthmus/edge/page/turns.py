"""Answers turns of the page's conversations.

The question is stored before the answer begins, the answer from time to time and at its end,
whatever that end is: stopped, failed, or the client gone.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from isthmus.core.chat import RouteMode
from isthmus.core.errors import ContextTooLong, IsthmusError, Unavailable
from isthmus.core.events import Delta, Finished
from isthmus.edge.agent import Agent
from isthmus.edge.answers import SSE_DONE, Writer, isthmus_object, sse
from isthmus.edge.faults import fault
from isthmus.edge.openai_api import parse_chat_request
from isthmus.edge.page.messages import MessageStatus
from isthmus.edge.page.store import Store
from isthmus.edge.page.turn import Turn
from isthmus.edge.trail import Trail
from isthmus.router.signals import estimate_tokens

_SAVED_EVERY_S: Final = 1.0
"""What a kill of the process may cost of an answer that is being written."""
_ANSWER_ROOM: Final = 0.25
"""The part of a context that is kept for the answer when the oldest messages are left out."""


class Turns:
    """Answers turns. For one event loop."""

    def __init__(self, agent: Agent, store: Store, *, deadline_s: float) -> None:
        self._agent = agent
        self._store = store
        self._deadline_s = deadline_s

    async def events(self, turn: Turn) -> AsyncGenerator[bytes, None]:
        """What is sent for a turn that was stored, as server-sent events. Never raises.

        Closing the iterator, or cancelling who reads it, stops the answer and stores its part.
        """
        try:
            yield turn.event()
            async with aclosing(self._chunks(turn)) as chunks:
                async for chunk in chunks:
                    yield chunk
        except IsthmusError as error:
            turn.failed(error)
        except Exception as error:
            turn.failed(fault(error, "a turn"))
        finally:
            await self.end(turn)
        yield turn.event() + SSE_DONE

    async def end(self, turn: Turn) -> None:
        """Store how a turn ended. One that nobody waited for was stopped."""
        if turn.answer.status is MessageStatus.RUNNING:
            turn.answer.status = MessageStatus.STOPPED
        await self._save(turn)

    async def _save(self, turn: Turn) -> bool:
        """False: somebody has deleted the conversation."""
        # The store says in the log what is wrong with it; the answer goes on.
        with contextlib.suppress(Unavailable):
            if not await self._store.save(turn.conversation, turn.answer):
                return False
            labels = ",".join(sorted(self._agent.screen.taint_of(turn.conversation)))
            if labels and labels != turn.taint:
                turn.taint = labels
                await self._store.taint(turn.conversation, labels)
        return True

    async def _chunks(self, turn: Turn) -> AsyncGenerator[bytes, None]:
        self._make_room(turn)
        while True:
            try:
                async with aclosing(self._attempt(turn)) as chunks:
                    async for chunk in chunks:
                        yield chunk
                return
            except ContextTooLong:
                if turn.answer.content or not turn.leave_out():
                    raise

    def _make_room(self, turn: Turn) -> None:
        """Leave out the oldest messages when no tier at hand has room for all of them."""
        tiers, cloud, route = self._agent.tiers, self._agent.cloud, turn.asked.route
        contexts = []
        if self._agent.device.ready and route != RouteMode.ONLY_IN_CLOUD:
            contexts.append(tiers.edge_state().context_tokens)
        consented = self._agent.consent.granted and route != RouteMode.ONLY_ON_DEVICE
        if cloud is not None and cloud.available and consented:
            known = tiers.cloud_state(consented=True).context_tokens
            if known is None:
                return
            contexts.append(known)
        if not contexts:
            return
        room = max(contexts)
        room -= min(turn.asked.max_tokens, round(room * _ANSWER_ROOM))
        while self._tokens(turn) > room and turn.leave_out():
            pass

    def _tokens(self, turn: Turn) -> int:
        return estimate_tokens(parse_chat_request(turn.request()).chat)

    async def _attempt(self, turn: Turn) -> AsyncGenerator[bytes, None]:
        parsed = parse_chat_request(turn.request(), default_deadline_s=self._deadline_s)
        trail, answer = Trail(parsed.chat), turn.answer
        if answer.left_out and turn.taint:
            # What is left out is not scanned again, and answers that stay may repeat it.
            self._agent.screen.inherit(turn.conversation, frozenset(turn.taint.split(",")))
        answer.request_id = trail.request.request_id
        writer, saved_s, begun = Writer.of(trail), time.monotonic(), False
        try:
            async with aclosing(self._agent.run(trail)) as events:
                async for event in events:
                    if not begun:
                        begun = True
                        yield sse(writer.first_chunk(with_usage=False))
                    if isinstance(event, Delta):
                        yield sse(writer.chunk(event, with_usage=False))
                        if time.monotonic() - saved_s > _SAVED_EVERY_S:
                            answer.content = trail.text
                            if not await self._save(turn):
                                return
                            saved_s = time.monotonic()
                    elif isinstance(event, Finished):
                        answer.finish_reason = event.reason.value
                        yield sse(writer.last_chunk(event, with_usage=False))
            answer.status = MessageStatus.DONE
        finally:
            answer.content = trail.text
            if trail.decision is not None:
                answer.isthmus = isthmus_object(trail)

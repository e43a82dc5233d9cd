"""What the page reads and writes over HTTP: conversations, the live picture, settings."""

from __future__ import annotations

import asyncio
import logging
import re
from contextlib import aclosing
from typing import Final

from starlette.requests import Request
from starlette.routing import BaseRoute, Route

from isthmus.edge.agent import Agent
from isthmus.edge.config import EdgeConfig
from isthmus.edge.endpoint import Answer, Endpoint, body_of
from isthmus.edge.fields import Field
from isthmus.edge.http import ClientGone, Refused, Reply, Stopping, attend
from isthmus.edge.page.files import Files
from isthmus.edge.page.kept import Kept
from isthmus.edge.page.live import WINDOWS, Live
from isthmus.edge.page.messages import (
    MAX_TITLE_CHARS,
    MessageStatus,
)
from isthmus.edge.page.settings import PageSettings
from isthmus.edge.page.turn import Turn, parse_turn
from isthmus.edge.page.turns import Turns

log = logging.getLogger(__name__)

MOST_LISTED: Final = 200
_PRIVATE: Final = {
    # A person's own words: not for a browser's disk, and not for another site's page.
    "cache-control": "no-store",
    "cross-origin-resource-policy": "same-origin",
    "x-content-type-options": "nosniff",
}
_CURSOR: Final = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)-([a-z]{1,64})")


class Page:
    """The page's side of the agent. For one event loop."""

    def __init__(
        self, agent: Agent, config: EdgeConfig, kept: Kept, stopping: asyncio.Event
    ) -> None:
        self._agent = agent
        self._config = config
        self._store = kept.store
        self._stopping = stopping
        self._live = Live(agent)
        self._settings = PageSettings(agent, kept.choices)
        self._turns = Turns(agent, kept.store, deadline_s=config.deadline_s)

    def routes(self) -> list[BaseRoute]:
        """Every route of the page."""
        files = Files()

        def route(path: str, **answers: Answer) -> Route:
            endpoint = Endpoint(answers, on_refusal=self._agent.metrics.rejected)
            return Route(path, endpoint, methods=list(answers))

        all_of_them = "/v1/isthmus/conversations"
        one = f"{all_of_them}/{{conversation}}"
        return [
            Route("/", files.index),
            Route("/ui/{path:path}", files.file),
            route(all_of_them, GET=self._list, POST=self._create, DELETE=self._delete_all),
            route(one, GET=self._get, PATCH=self._change, DELETE=self._delete),
            route(f"{one}/turns", POST=self._turn),
            route("/v1/isthmus/messages/{message}/rating", POST=self._rate),
            route("/v1/isthmus/live", GET=self._live_now),
            route("/v1/isthmus/settings", GET=self._show_settings, PATCH=self._change_settings),
        ]

    # --- conversations ------------------------------------------------------------------------

    async def _list(self, request: Request, reply: Reply) -> None:
        asked = request.query_params
        found, after = await self._store.latest(
            limit=_limit(asked.get("limit", "50")),
            before=_cursor(asked.get("before", "")),
            text=asked.get("q", ""),
        )
        told = {
            "object": "list",
            "data": [one.json() for one in found],
            "next": None if after is None else f"{after[0]:.6f}-{after[1]}",
        }
        await reply.whole(200, told, _PRIVATE)

    async def _create(self, request: Request, reply: Reply) -> None:
        root = Field(await body_of(request, self._config)).object()
        root.only("title")
        made = await self._store.create(_title(root.get("title")) or "")
        await reply.whole(201, made.json(), _PRIVATE)

    async def _get(self, request: Request, reply: Reply) -> None:
        found = await self._store.get(request.path_params["conversation"])
        if found is None:
            raise _no_conversation()
        head, messages = found
        told = head.json() | {"messages": [message.json() for message in messages]}
        await reply.whole(200, told, _PRIVATE)

    async def _change(self, request: Request, reply: Reply) -> None:
        root = Field(await body_of(request, self._config)).object()
        root.only("title", "head")
        title, head = _title(root.get("title")), root.get("head")
        conversation = request.path_params["conversation"]
        shown = head.text() if head.given else None
        found = await self._store.branch(conversation, shown)
        if found is not None and head.given and not found[1]:
            head.fail("names no message of this conversation")
        changed = await self._store.change(conversation, title=title, head=shown)
        if changed is None:
            raise _no_conversation()
        await reply.whole(200, changed.json(), _PRIVATE)

    async def _delete(self, request: Request, reply: Reply) -> None:
        gone = await self._store.delete(request.path_params["conversation"])
        if not gone:
            raise _no_conversation()
        await self._forgotten(gone, reply)

    async def _delete_all(self, request: Request, reply: Reply) -> None:
        await self._forgotten(await self._store.delete(), reply)

    async def _forgotten(self, gone: list[str], reply: Reply) -> None:
        for conversation in gone:
            self._agent.forget(conversation)
        await reply.whole(200, {"deleted": len(gone)}, _PRIVATE)

    # --- answers ------------------------------------------------------------------------------

    async def _turn(self, request: Request, reply: Reply) -> None:
        asked = parse_turn(await body_of(request, self._config))
        found = await self._store.branch(request.path_params["conversation"], asked.named)
        if found is None:
            raise _no_conversation()
        head, branch = found
        turn = Turn.of(head.id, branch, asked, taint=head.taint)
        if not await self._store.begin(head.id, turn.question, turn.answer):
            raise _no_conversation()

        async def stream() -> None:
            await reply.stream(_PRIVATE)
            async with aclosing(self._turns.events(turn)) as events:
                async for event in events:
                    await reply.events(event)
            await reply.events(b"", last=True)

        try:
            await attend(stream(), request.receive, self._stopping)
        except ClientGone:
            log.info("the client of request %s went away", turn.answer.request_id)
        except Stopping:
            await reply.events(turn.event(), last=True)
        finally:
            if turn.answer.status is MessageStatus.RUNNING:  # nobody has begun to read it
                await self._turns.end(turn)

    async def _rate(self, request: Request, reply: Reply) -> None:
        root = Field(await body_of(request, self._config)).object()
        root.only("rating")
        rating = root.need("rating").integer(-1, 1)
        message = await self._store.rate(request.path_params["message"], rating)
        if message is None:
            raise Refused(404, "there is no such answer", code="message_not_found", param="message")
        if message.request_id is not None:
            learning, found = self._agent.learning, None if rating == 0 else (rating + 1) / 2
            tier = await learning.judge(message.request_id, found)
            if tier is not None and found is not None:
                self._agent.metrics.routing.judged(tier, good=found > 0.5)
        await reply.whole(200, message.json(), _PRIVATE)

    # --- the device ---------------------------------------------------------------------------

    async def _live_now(self, request: Request, reply: Reply) -> None:
        window = Field(request.query_params.get("window", "1h"), "window").choice(*WINDOWS)
        await reply.whole(200, await self._live.json(window), _PRIVATE)

    async def _show_settings(self, request: Request, reply: Reply) -> None:
        await reply.whole(200, await self._settings.json(), _PRIVATE)

    async def _change_settings(self, request: Request, reply: Reply) -> None:
        await self._settings.change(await body_of(request, self._config))
        await self._show_settings(request, reply)


def _no_conversation() -> Refused:
    return Refused(
        404,
        "there is no such conversation here (any more)",
        code="conversation_not_found",
        param="conversation",
    )


def _title(field: Field) -> str | None:
    if not field.given:
        return None
    title = " ".join(field.text().split())
    if not 0 < len(title) <= MAX_TITLE_CHARS:
        field.fail(f"must have 1 to {MAX_TITLE_CHARS} characters")
    return title


def _limit(text: str) -> int:
    if not (re.fullmatch(r"\d{1,3}", text, re.ASCII) and 1 <= int(text) <= MOST_LISTED):
        Field(text, "limit").fail(f"must be a whole number from 1 to {MOST_LISTED}")
    return int(text)


def _cursor(text: str) -> tuple[float, str] | None:
    if not text:
        return None
    found = _CURSOR.fullmatch(text)
    if found is None:
        Field(text, "before").fail("must be the 'next' of a list that was given before")
    return float(found[1]), found[2]

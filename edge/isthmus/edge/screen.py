"""Looking at a request before it may go anywhere: whose conversation it is, and what is private."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import replace

from isthmus.core.chat import ChatRequest, Message, PrivacyClass, Role
from isthmus.edge.conversation import Conversation, Conversations, worst
from isthmus.privacy.scan import ScanResult

log = logging.getLogger(__name__)


class Screen:
    """The privacy scan together with what earlier turns of a conversation gave away."""

    def __init__(self, scan: Callable[[ChatRequest], ScanResult], *, timeout_s: float) -> None:
        self._scan = scan
        self._timeout_s = timeout_s
        self._conversations = Conversations()

    async def look(self, request: ChatRequest) -> tuple[Conversation, ScanResult]:
        """The request's conversation, and the worse of its scan and of what it inherits."""
        conversation = self._conversations.find(request.messages, request.preference.conversation)
        scan = await self.scan(request)
        if scan.privacy_class is not PrivacyClass.PUBLIC:
            sensitive_from = await self._sensitive_from(request)
            known = conversation.tainted_from
            conversation = replace(
                conversation,
                taint=worst(conversation.taint, scan.privacy_class),
                tainted_from=sensitive_from if known is None else min(known, sensitive_from),
            )
        if conversation.taint is not PrivacyClass.PUBLIC:
            # At once, not with the answer: a second try after a failure must know it too.
            self.remember(conversation, request)
        return conversation, replace(
            scan, privacy_class=worst(scan.privacy_class, conversation.taint)
        )

    def remember(
        self, conversation: Conversation, request: ChatRequest, answer: Message | None = None
    ) -> None:
        """Link the request's messages, and the answer, to the conversation."""
        messages = request.messages if answer is None else (*request.messages, answer)
        self._conversations.remember(conversation, messages, name=request.preference.conversation)

    async def scan(self, request: ChatRequest) -> ScanResult:
        """The scan, in a thread; one that fails or takes too long keeps the request here."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await asyncio.to_thread(self._scan, request)
        except Exception as error:
            log.warning("the privacy scan failed (%s): the request stays", type(error).__name__)
            return ScanResult(PrivacyClass.UNKNOWN, failed=True)

    async def _sensitive_from(self, request: ChatRequest) -> int:
        """`_first_sensitive`, in a thread and in time, or the first message that may be."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timeout_s):
                return await asyncio.to_thread(self._first_sensitive, request)
        # The instructions before it come again with every request that obeys them, and are scanned
        # again; tainted, they would hold every other conversation that shares them here for good.
        instructions = {Role.SYSTEM, Role.DEVELOPER}
        spoken = (i for i, one in enumerate(request.messages) if one.role not in instructions)
        return next(spoken, 0)

    def _first_sensitive(self, request: ChatRequest) -> int:
        """The first message that is sensitive by itself; 0 when none of them is."""
        for index, message in enumerate(request.messages):
            alone = replace(request, messages=(message,), tools=())
            try:
                if self._scan(alone).privacy_class is not PrivacyClass.PUBLIC:
                    return index
            except Exception as error:
                log.warning("the privacy scan of a message failed (%s)", type(error).__name__)
                return index
        return 0

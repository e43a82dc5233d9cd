"""What this device learns from how its answers were received. Nothing of it leaves the device."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3

from isthmus.core.decision import Target
from isthmus.core.errors import ConfigError
from isthmus.edge import lessons
from isthmus.edge.ledger import Ledger, open_ledger
from isthmus.edge.lessons import Source
from isthmus.router.online import OF_DOUBT, Correction, Lesson, Pace, learnt
from isthmus.router.quality import Quality

log = logging.getLogger(__name__)


class Learning:
    """Corrects the expected quality by the lessons in the ledger's file. For one event loop.

    Without a ledger nothing is learnt.
    """

    def __init__(self, ledger: Ledger | None, pace: Pace) -> None:
        self._ledger = ledger
        self._pace = pace
        self.correction = Correction()
        if ledger is not None:
            try:
                with contextlib.closing(open_ledger(ledger.path)) as db:
                    self.correction = learnt(lessons.latest(db), pace)
            except (sqlite3.Error, ConfigError) as error:
                log.warning("what was learnt before cannot be read: %s", type(error).__name__)

    def apply(self, quality: Quality) -> Quality:
        """`quality` as it is expected after all lessons."""
        return self.correction.apply(quality)

    async def judge(self, request_id: str, found: float) -> Target | None:
        """A person's judgement, 0 (bad) to 1 (good); who had answered, None: no such answer."""
        return await asyncio.to_thread(self._judge, request_id, found)

    def _judge(self, request_id: str, found: float) -> Target | None:
        if self._ledger is None:
            return None
        self._ledger.flush()
        with contextlib.closing(open_ledger(self._ledger.path)) as db:
            known = lessons.expected(db, request_id)
            if known is None:
                return None
            lesson = Lesson(*known, found)
            self._learn(db, request_id, Source.USER, lesson)
            return lesson.tier

    async def doubted(self, request_id: str, expected: float) -> None:
        """The device's answer was handed over on doubt. Never raises: the answer goes on."""
        if self._ledger is None:
            return
        lesson = Lesson(Target.EDGE, expected, 0.0, OF_DOUBT)
        try:
            await asyncio.to_thread(self._doubted, self._ledger, request_id, lesson)
        except (sqlite3.Error, ConfigError) as error:
            log.warning("a lesson was lost: %s", type(error).__name__)

    def _doubted(self, ledger: Ledger, request_id: str, lesson: Lesson) -> None:
        with contextlib.closing(open_ledger(ledger.path)) as db:
            self._learn(db, request_id, Source.DOUBT, lesson)

    def _learn(
        self, db: sqlite3.Connection, request_id: str, source: Source, lesson: Lesson
    ) -> None:
        lessons.note(db, request_id, source, lesson)
        # All of them again: a changed judgement counts once, and a restart changes nothing.
        self.correction = learnt(lessons.latest(db), self._pace)

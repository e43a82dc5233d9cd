"""What this device learns from how its answers were received. Nothing of it leaves the device."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable

from isthmus.core.decision import Reason, Target
from isthmus.core.errors import ConfigError
from isthmus.edge import lessons
from isthmus.edge.ledger import Ledger, open_ledger
from isthmus.edge.lessons import Source
from isthmus.edge.trail import Trail
from isthmus.router.doubt.handover import DOUBTS
from isthmus.router.online import OF_DOUBT, Correction, Lesson, Pace, learnt
from isthmus.router.quality import Quality

log = logging.getLogger(__name__)

_DOUBTS = {*DOUBTS.values(), Reason.DOUBT_AFTER_PREFILL, Reason.SAMPLES_DISAGREE}


class Learning:
    """Corrects the expected quality by the lessons in the ledger's file. For one event loop.

    Without a ledger nothing is learnt.
    """

    def __init__(
        self,
        ledger: Ledger | None,
        pace: Pace,
        on_judged: Callable[[Lesson], None] = lambda lesson: None,
    ) -> None:
        """`on_judged` hears of a person's judgements, from any thread."""
        self._ledger = ledger
        self._on_judged = on_judged
        self.pace = pace
        self._tasks: set[asyncio.Task[None]] = set()
        self.correction = Correction()
        if ledger is not None:
            try:
                with open_ledger(ledger.path) as db:
                    self.correction = learnt(lessons.latest(db), pace)
            except ConfigError as error:
                log.warning("what was learnt before cannot be read: %s", type(error).__name__)

    def apply(self, quality: Quality) -> Quality:
        """`quality` as it is expected after all lessons."""
        return self.correction.apply(quality)

    async def judge(self, request_id: str, found: float | None) -> Target | None:
        """A person's judgement, 0 (bad) to 1 (good), None: taken back.

        Returns who had answered, None: no such answer.
        """
        return await asyncio.to_thread(self._judge, request_id, found)

    def _judge(self, request_id: str, found: float | None) -> Target | None:
        if self._ledger is None:
            return None
        self._ledger.flush()
        with open_ledger(self._ledger.path) as db:
            known = lessons.expected(db, request_id)
            if known is None:
                return None
            lesson = None if found is None else Lesson(*known, found)
            self._learn(db, request_id, Source.USER, lesson)
            if lesson is not None:
                self._on_judged(lesson)
            return known[0]

    def consider(self, trail: Trail) -> None:
        """Learn, soon, from an answer that the device handed over on doubt."""
        expected = trail.expected_quality(Target.EDGE)
        if self._ledger is None or expected is None or _DOUBTS.isdisjoint(trail.reasons):
            return
        lesson = Lesson(Target.EDGE, expected, 0.0, OF_DOUBT)
        task = asyncio.create_task(
            self._doubted(self._ledger, trail.request.request_id, lesson), name="isthmus-lesson"
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Write down what is being learnt."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _doubted(self, ledger: Ledger, request_id: str, lesson: Lesson) -> None:
        try:
            await asyncio.to_thread(self._note_doubt, ledger, request_id, lesson)
        except ConfigError as error:
            log.warning("a lesson was lost: %s", type(error).__name__)

    def _note_doubt(self, ledger: Ledger, request_id: str, lesson: Lesson) -> None:
        with open_ledger(ledger.path) as db:
            self._learn(db, request_id, Source.DOUBT, lesson)

    def _learn(
        self, db: sqlite3.Connection, request_id: str, source: Source, lesson: Lesson | None
    ) -> None:
        if lesson is None:
            lessons.forget(db, request_id, source)
        else:
            lessons.note(db, request_id, source, lesson)
        # All of them again: a changed judgement counts once, and a restart changes nothing.
        self.correction = learnt(lessons.latest(db), self.pace)

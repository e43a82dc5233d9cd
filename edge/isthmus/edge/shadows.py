"""Second answers by the other tier, to watch drift. Off unless `router.shadow_share` is set.

A share of the requests in which nothing sensitive was found is answered once more, after the user
has the answer, by the tier that did not give it. Both answers are compared and forgotten: what is
kept is how alike they are. The second answer keeps to consent, budget and the last look at the
bytes as the first one does, and has an outcome and a receipt of its own.
"""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace

from isthmus.core.chat import Priority, PrivacyClass
from isthmus.core.deadline import Deadline
from isthmus.core.decision import Decision, Reason, Status, Target
from isthmus.core.errors import IsthmusError
from isthmus.core.events import Finished
from isthmus.edge.answering import Answering
from isthmus.edge.faults import fault
from isthmus.edge.metrics import Metrics
from isthmus.edge.screen import Look
from isthmus.edge.spending import Spending
from isthmus.edge.trail import Trail
from isthmus.router.drift import Drift, agreement
from isthmus.router.regret import regret_micro_usd

log = logging.getLogger(__name__)

PATIENCE_S = 120.0
"""How long a second answer may take."""


class Shadows:
    """Asks the other tier, one request at a time. For one event loop."""

    def __init__(
        self,
        share: float,
        *,
        answering: Answering,
        spending: Spending,
        metrics: Metrics,
        record: Callable[[Trail], None],
    ) -> None:
        """`record` books a second answer."""
        self.share = share
        """Of the requests that may be compared."""
        self._answering = answering
        self._spending = spending
        self._metrics = metrics
        self._record = record
        self._drifts = {target: Drift() for target in Target}
        self._running: asyncio.Task[None] | None = None

    def drift(self, target: Target) -> float:
        """Recent agreement of `target`'s answers with the other tier's, less the usual one."""
        return self._drifts[target].drift

    def consider(self, trail: Trail, look: Look) -> None:
        """Have an answer that is complete given once more, if the lot falls on it."""
        busy = self._running is not None and not self._running.done()
        if busy or random.random() >= self.share or not self._comparable(trail):
            return
        self._running = asyncio.create_task(self._shadow(trail, look), name="isthmus-shadow")

    async def close(self) -> None:
        """Give up the answer that runs."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    def _comparable(self, trail: Trail) -> bool:
        return (
            trail.status is Status.OK
            and trail.privacy_class is PrivacyClass.PUBLIC
            and trail.decision is not None
            and trail.decision.fallback_allowed
            and len(trail.legs) == 1
            and bool(trail.text)
            and not trail.has_tool_calls
            and self._answering.consent.granted
        )

    async def _shadow(self, trail: Trail, look: Look) -> None:
        second = self._begin(trail)
        try:
            async with aclosing(self._answering.answer(second, look)) as events:
                async for event in events:
                    if isinstance(event, Finished):
                        second.end(Status.OK)
        except asyncio.CancelledError:
            second.end(Status.CANCELLED)
            raise
        except IsthmusError as error:
            second.end(Status.FAILED, error)
        except Exception as error:
            second.end(Status.FAILED, fault(error, "a second answer"))
        finally:
            if second.status is Status.OK:
                self._compare(trail, second)
            self._record(second)

    def _compare(self, trail: Trail, second: Trail) -> None:
        agreed = second.agreement = agreement(trail.text, second.text)
        scores = {} if trail.decision is None else trail.decision.scores
        second.regret_micro_usd = regret_micro_usd(scores, trail.route, agreed)
        self._drifts[trail.route].observe(agreed)
        self._metrics.routing.compared(trail.route, agreed, second.regret_micro_usd)

    def _begin(self, trail: Trail) -> Trail:
        target = trail.route.other
        request = replace(
            trail.request,
            request_id=uuid.uuid4().hex,
            deadline=Deadline.after(PATIENCE_S),
            priority=Priority.BATCH,
        )
        scores = {} if trail.decision is None else trail.decision.scores
        decision = Decision(target, (Reason.SHADOW,), scores, fallback_allowed=False)
        return Trail(
            request,
            route=target,
            decision=decision,
            reasons=list(decision.reasons),
            privacy_class=trail.privacy_class,
            policy=trail.policy,
            found=trail.found,
            cloud_price=trail.cloud_price,
            purse=self._spending.purse(request, trail.cloud_price),
        )

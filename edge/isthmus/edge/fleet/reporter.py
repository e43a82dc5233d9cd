"""Sends the spool in batches: after an outage what waited goes first, and nothing goes twice
without the gateway knowing it again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from isthmus.core.errors import ConfigError, InvalidRequest, IsthmusError, Overloaded
from isthmus.edge.fleet.link import FleetLink
from isthmus.edge.fleet.pauses import Pauses
from isthmus.edge.fleet.spool import Spool, SpoolRow, SpoolState

log = logging.getLogger(__name__)

BATCH = 500
"""Rows a call; the gateway takes 1,000."""


class Reporter:
    """Empties the spool. For one event loop."""

    def __init__(
        self,
        link: FleetLink,
        spool: Spool,
        *,
        may_send: Callable[[], bool],
        shares: Callable[[], bool],
        pauses: Pauses,
        on_state: Callable[[SpoolState], None] = lambda state: None,
    ) -> None:
        """`may_send`: whether anything may leave now; `shares`: more than what is billed."""
        self._link = link
        self._spool = spool
        self._may_send = may_send
        self._shares = shares
        self._pauses = pauses
        self._on_state = on_state
        self.state = SpoolState()

    async def run(self) -> None:
        """For ever."""
        pause_s = self._pauses.at_start()
        while True:
            await self._rest(pause_s)
            try:
                await self.send()
                pause_s = self._pauses.after_success()
            except Overloaded as error:
                pause_s = self._pauses.after_failure(error.retry_after_s)
            except IsthmusError as error:
                log.info("the spool is not sent now: %s", type(error).__name__)
                pause_s = self._pauses.after_failure()

    async def _rest(self, pause_s: float) -> None:
        """Wait. However long it takes, the spool stays within its bounds."""
        while pause_s > 0:
            step_s = min(pause_s, self._pauses.usual_s)
            await asyncio.sleep(step_s)
            pause_s -= step_s
            if pause_s > 0:
                await self._trim()

    async def send(self) -> None:
        """Send what there is, if it may leave. Raises what the call raises, the rows kept."""
        await self._trim()
        while self._may_send():
            shares = self._shares()
            rows = await asyncio.to_thread(self._spool.read, BATCH)
            if not rows:
                return
            await self._send(rows, shares=shares)
            await self._trim()

    async def _send(self, rows: Sequence[SpoolRow], *, shares: bool) -> None:
        outcomes = [row.outcome for row in rows if row.outcome is not None and shares]
        acknowledgements = [row.acknowledgement for row in rows if row.acknowledgement is not None]
        try:
            await self._link.report(outcomes, acknowledgements)
        except InvalidRequest as error:
            if len(rows) == 1:
                log.warning("the gateway refuses a row of the spool (%s)", error.field)
                await asyncio.to_thread(lambda: self._spool.remove(rows, dropped=True))
                return
            # One bad row must not hold up the others: it is found by halves.
            middle = len(rows) // 2
            await self._send(rows[:middle], shares=shares)
            await self._send(rows[middle:], shares=shares)
            return
        await asyncio.to_thread(self._spool.remove, rows)

    async def _trim(self) -> None:
        shares = self._shares()
        try:
            self.state = await asyncio.to_thread(lambda: self._spool.trim(shares=shares))
        except ConfigError as error:
            log.warning("%s", error.message)
        self._on_state(self.state)

"""One upstream and how it fares: its load, its health by probing and by what came of requests."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Iterator
from typing import Final

from isthmus.cloud.upstreams.choice import Candidate
from isthmus.cloud.upstreams.client import UpstreamClient
from isthmus.cloud.upstreams.config import UpstreamsConfig
from isthmus.cloud.upstreams.outliers import Outlier
from isthmus.core.errors import IsthmusError, Overloaded

_log = logging.getLogger(__name__)

_DOWN_AFTER: Final = 2
_JITTER: Final = 0.2
_LEAST_WEIGHT: Final = 0.1
_LONGEST_PAUSE_S: Final = 5.0


class Upstream:
    """A client with a record. For one event loop; what it tells may be read from any thread."""

    def __init__(
        self,
        client: UpstreamClient,
        config: UpstreamsConfig,
        *,
        newcomer: bool = False,
        rng: random.Random | None = None,
    ) -> None:
        """`newcomer` has to start slowly, beside others that are there already."""
        self.client = client
        self.name = client.address.name
        self.in_flight = 0
        self.idle = asyncio.Event()
        """Set while no request is there."""
        self.idle.set()
        self.leaving = False
        """It is not among the addresses any more: what runs there may end."""
        self._config = config
        self._rng = rng or random.Random()
        self._outlier = Outlier(config, rng=self._rng)
        self._bad_probes = 0
        self._full_until_s = 0.0
        self._in_flight_then = 0
        self._back_s = time.monotonic() if newcomer else -config.slow_start_s
        self._wake = asyncio.Event()

    # --- for choosing -------------------------------------------------------------------------

    @property
    def healthy(self) -> bool:
        """Whether its probes succeed."""
        return self._bad_probes < _DOWN_AFTER

    @property
    def available(self) -> bool:
        """Whether requests should go there."""
        return self.state == "available"

    @property
    def state(self) -> str:
        """The same in a word, for a metric."""
        now_s = time.monotonic()
        if self.leaving:
            return "leaving"
        if not self.healthy:
            return "down"
        if self._outlier.ejected(now_s):
            return "ejected"
        return "available" if now_s >= self._full_until_s else "paused"

    def candidate(self) -> Candidate:
        """How it looks to the choice."""
        well_s = time.monotonic() - max(self._back_s, self._outlier.ejected_until_s)
        slow_s = self._config.slow_start_s
        weight = min(1.0, max(_LEAST_WEIGHT, well_s / slow_s)) if slow_s else 1.0
        return Candidate(self.client.address.key, self.load, weight)

    @property
    def load(self) -> float:
        """Requests there: those of this gateway, or more if it has told of others'."""
        told = self.client.told.load
        if told is None:
            return self.in_flight
        return max(self.in_flight, told + self.in_flight - self._in_flight_then)

    # --- what came of requests ----------------------------------------------------------------

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """Around a request there."""
        self.in_flight += 1
        self.idle.clear()
        try:
            yield
        finally:
            self.in_flight -= 1
            if not self.in_flight:
                self.idle.set()

    def succeeded(self) -> None:
        """A request was answered, or refused for its own fault."""
        self._outlier.succeeded(time.monotonic())

    def failed(self, error: IsthmusError, *, may_eject: Callable[[], bool]) -> bool:
        """A request failed; whether that ejected it, which `may_eject` may forbid."""
        now_s = time.monotonic()
        if isinstance(error, Overloaded):
            self._full_until_s = now_s + min(error.retry_after_s, _LONGEST_PAUSE_S)
            return False
        self._wake.set()  # a probe will tell whether it is gone
        if not self._outlier.failed(now_s) or not may_eject():
            return False
        self._outlier.eject(now_s)
        _log.warning("upstream %s is ejected: %s", self.name, error.message)
        return True

    # --- probing ------------------------------------------------------------------------------

    async def watch(self) -> None:
        """Probe it for ever: regularly, and at once when a request failed."""
        while True:
            seconds = self._config.probe_s * (1 + self._rng.uniform(-_JITTER, _JITTER))
            with contextlib.suppress(TimeoutError):
                # Not `wait_for`, which may lose a cancellation (cpython#86296).
                async with asyncio.timeout(seconds):
                    await self._wake.wait()
                # Not faster than this, however many fail.
                await asyncio.sleep(seconds / 20)
            self._wake.clear()
            await self.probe()

    async def probe(self) -> None:
        """Ask it how it is."""
        was_healthy = self.healthy
        try:
            await self.client.probe()
        except IsthmusError as error:
            self._bad_probes += 1
            if was_healthy and not self.healthy:
                _log.warning("upstream %s is down: %s", self.name, error.message)
                self.client.cut()
            elif self.healthy:
                self._wake.set()  # to be sure, and soon
            return
        self._in_flight_then = self.in_flight
        if not was_healthy:
            _log.info("upstream %s is back", self.name)
            self._back_s = time.monotonic()
        self._bad_probes = 0

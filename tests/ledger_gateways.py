"""Gateways as processes that share a ledger in PostgreSQL."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from isthmus.cli.gateway_process import Served, start_gateway
from isthmus.core.errors import Unavailable
from ledger_devices import PRICES

ROOMY = {"tenant": {"tokens_per_month": 10**12, "streams": 10**6}}
"""Quotas that nothing reaches: they are counted, and their rows are locked."""


START_S = 300.0
"""Machines stall."""


class Gateways:
    """`count` of them, in front of a scripted backend each; one that ended can be started again."""

    def __init__(self, folder: Path, url: sa.URL, count: int = 2, **settings: Any) -> None:
        dsn = url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._folder = folder
        self._settings = {
            "ledger": {"kind": "postgresql", "dsn": dsn} | settings.pop("ledger", {}),
            "prices": PRICES,
            "quotas": ROOMY,
            "backend": {
                "kind": "scripted",
                "model": "scripted",
                "options": {"tokens_per_s": 100.0, "first_token_ms": 20.0},
            },
        } | settings
        self._lives = 0
        self._running: list[Served | None] = [None] * count
        self.told: list[dict[str, Any]] = [{}] * count

    @property
    def addresses(self) -> list[str]:
        """Where they listen."""
        return [str(told["address"]) for told in self.told]

    async def start(self) -> None:
        """Start those that do not run, again where the database was away, as a supervisor does."""
        missing = [number for number, one in enumerate(self._running) if one is None]
        await asyncio.gather(*map(self._start, missing))

    async def _start(self, number: int) -> None:
        for is_last in (False, False, True):
            self._lives += 1
            name = f"gateway-{self._lives}"
            self._running[number] = served = start_gateway(
                self._folder, name=name, **self._settings
            )
            try:
                self.told[number] = await asyncio.to_thread(served.ready, START_S)
                return
            except Unavailable:
                if is_last:
                    raise

    def kill(self, number: int) -> None:
        """End one without a word."""
        served, self._running[number] = self._running[number], None
        assert served is not None
        served.kill()

    def stop(self, number: int) -> int:
        """Ask one to end; its exit status."""
        served, self._running[number] = self._running[number], None
        assert served is not None
        served.terminate()
        return served.wait()

    def said(self) -> str:
        """All that they logged."""
        logs = sorted(self._folder.glob("gateway-*.log"))
        return "".join(path.read_text("utf-8", errors="replace") for path in logs)

    def close(self) -> None:
        """End all of them."""
        running = [one for one in self._running if one is not None]
        for served in running:
            served.terminate()
        for served in running:
            served.kill_after(10)

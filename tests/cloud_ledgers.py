"""A ledger on a database of its own, with a clock that tests set."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import sqlalchemy as sa

from isthmus.cloud.identity.base import Caller
from isthmus.cloud.ledger.base import Opening
from isthmus.cloud.ledger.database import make_engine, parse_url
from isthmus.cloud.ledger.prices import PriceBook, PriceEntry
from isthmus.cloud.ledger.quotas import QuotaConfig
from isthmus.cloud.ledger.sql import SqlLedger
from isthmus.cloud.ledger.tables import requests

PHONE = Caller("acme", "phone-1")
BOOK = PriceBook([PriceEntry.model_validate({"input_usd_per_mtok": 1, "output_usd_per_mtok": 2})])
"""A prompt token costs a micro-dollar, an answer's two."""


class Clock:
    """Milliseconds since 1970, as far as a test lets them pass."""

    def __init__(self) -> None:
        self.ms = int(time.time() * 1000)

    def __call__(self) -> int:
        return self.ms


def opening(
    request_id: str = "r1",
    *,
    caller: Caller = PHONE,
    body: bytes = b"a",
    prompt: int = 10,
    most: int = 1000,
    received: int = 0,
) -> Opening:
    return Opening(caller, request_id, body, "m", prompt, most, received)


@contextmanager
def postgres_database() -> Iterator[sa.URL]:
    """An empty database on the server that `make test-postgres` starts, gone afterwards."""
    server = parse_url(os.environ["ISTHMUS_TEST_POSTGRES"])
    admin = sa.create_engine(server, isolation_level="AUTOCOMMIT", pool_pre_ping=True)
    name = f"test_{secrets.token_hex(6)}"
    with admin.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    try:
        yield server.set(database=name)
    finally:
        with admin.connect() as connection:
            connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
        admin.dispose()


@asynccontextmanager
async def open_ledger(url: sa.URL, **settings: Any) -> AsyncIterator[SqlLedger]:
    """A ledger of its own on `url`; quotas as in a file."""
    quotas = QuotaConfig.model_validate(settings.pop("quotas", {}))
    wait_s = settings.pop("wait_s", 20.0)
    engine = make_engine(url, timeout_s=settings.pop("timeout_s", 20.0))
    ledger = SqlLedger(engine, **{"prices": BOOK, "quotas": quotas, "wait_s": wait_s} | settings)
    await ledger.start()
    try:
        yield ledger
    finally:
        await ledger.close()


async def written(ledger: SqlLedger) -> None:
    """Return when everything that was queued is in the database."""
    await ledger.reconcile(PHONE, [])


def rows(url: sa.URL) -> list[dict[str, Any]]:
    """What the database holds, by request id."""
    engine = make_engine(url, timeout_s=60.0, writes=False)
    with engine.connect() as connection:
        found = connection.execute(sa.select(requests).order_by(requests.c.request_id))
        result = [dict(row) for row in found.mappings()]
    engine.dispose()
    return result

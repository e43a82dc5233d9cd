"""`isthmus cloud usage` tells who used what."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from cloud_ledgers import Clock, open_ledger, opening, written
from isthmus.cli.cloud_usage import _days
from isthmus.cli.main import main
from isthmus.cloud.identity.base import Caller
from isthmus.cloud.ledger.base import Opening
from isthmus.cloud.ledger.database import make_engine, sqlite_url
from isthmus.cloud.ledger.usage import Dimension, Wanted, usage
from isthmus.core.decision import Status
from isthmus.core.errors import InvalidRequest
from isthmus.core.money import Usage

TODAY = date(2026, 3, 31)


async def filled(url: sa.URL) -> None:
    """Two tenants, three devices, two models, two days; one request still runs."""
    clock = Clock()
    async with open_ledger(url, now_ms=clock) as ledger:
        for number, (tenant, device, model, day) in enumerate(
            [
                ("acme", "a", "big", 30),
                ("acme", "a", "big", 30),
                ("acme", "a", "small", 31),
                ("acme", "b", "big", 31),
                ("else", "a", "big", 31),
            ]
        ):
            clock.ms = int(datetime(2026, 3, day, 12, tzinfo=UTC).timestamp() * 1000)
            asked = Opening(Caller(tenant, device), f"r{number}", b"x", model, 10, 100)
            account = await ledger.open(asked)
            await account.settle(Usage(10, 5, 4), Status.OK)
        running = await ledger.open(opening("running", caller=Caller("else", "a")))
        running.wrote(Usage(10, 3))
        await written(ledger)


async def test_it_is_summed_up_by_what_is_asked_for(ledger_url: sa.URL) -> None:
    await filled(ledger_url)
    engine = make_engine(ledger_url, writes=False)
    by_tenant = usage(engine, [Dimension.TENANT], Wanted())
    assert [(row.group["tenant"], row.requests) for row in by_tenant] == [("acme", 4), ("else", 2)]
    assert [row.charge_micro_usd for row in by_tenant] == [4 * 20, 20 + 16]
    assert [row.open_requests for row in by_tenant] == [0, 1]
    by_day = usage(engine, [Dimension.DAY, Dimension.MODEL], Wanted(tenant="acme"))
    assert [(*row.group.values(), row.requests, row.cached_tokens) for row in by_day] == [
        ("2026-03-30", "big", 2, 8),
        ("2026-03-31", "big", 1, 4),
        ("2026-03-31", "small", 1, 4),
    ]
    (one,) = usage(engine, [], Wanted(TODAY, TODAY, device="a", model="big"))
    assert (one.group, one.requests) == ({}, 1)
    (nothing,) = usage(engine, [], Wanted(tenant="nobody"))
    assert (nothing.requests, nothing.charge_micro_usd) == (0, 0)
    engine.dispose()


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Any:
    """Runs the command on a ledger of this test's; its status and what it printed."""
    monkeypatch.setenv("ISTHMUS_CLOUD_LEDGER__KIND", "sqlite")
    monkeypatch.setenv("ISTHMUS_CLOUD_LEDGER__PATH", str(tmp_path / "ledger.db"))

    def run(*flags: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["cloud", "usage", *flags])
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return run


def test_json_and_csv_say_the_same(program: Any, tmp_path: Path) -> None:
    asyncio.run(filled(sqlite_url(tmp_path / "ledger.db")))
    status, out, _ = program("--period", "all", "--json")
    told = json.loads(out.splitlines()[-1])
    assert status == 0
    assert told["total"]["requests"] == 6
    assert told["total"]["charge_micro_usd"] == 5 * 20 + 16
    _, table, _ = program("--period", "all", "--csv")
    rows = list(csv.DictReader(io.StringIO(table)))
    assert [{name: str(value) for name, value in row.items()} for row in told["rows"]] == rows
    _, shown, _ = program("--since", "2026-03-30", "--until", "2026-03-30", "--by", "tenant")
    assert "together: 2 requests, 0.000040 USD" in shown


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (["--by", "colour"], "--by"),
        (["--since", "yesterday"], "--since"),
        (["--period", "0d"], "--period"),
        (["--csv", "--json"], "--csv"),
        ([], "no ledger at"),
    ],
)
def test_a_wrong_wish_is_told_in_a_line(program: Any, flags: list[str], names: str) -> None:
    status, out, told = program(*flags)
    assert (status, out) == (2, "")
    assert names in told
    assert len(told.splitlines()) == 1


@pytest.mark.parametrize(
    ("period", "days"),
    [
        ("today", (TODAY, TODAY)),
        ("yesterday", (date(2026, 3, 30), date(2026, 3, 30))),
        ("month", (date(2026, 3, 1), TODAY)),
        ("last-month", (date(2026, 2, 1), date(2026, 2, 28))),
        ("7d", (date(2026, 3, 25), TODAY)),
        ("all", (None, None)),
    ],
)
def test_periods_are_those_of_the_calendar(period: str, days: tuple[date, date]) -> None:
    assert _days(period, TODAY) == days


def test_a_period_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        _days("week", TODAY)

"""A database that is away: nobody waits for ever, nothing is lost, nothing is charged twice."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from cloud_ledgers import BOOK, PHONE, open_ledger, opening, rows, written
from isthmus.cloud.ledger import writer
from isthmus.cloud.ledger.base import Acknowledged
from isthmus.cloud.ledger.config import LedgerConfig
from isthmus.cloud.ledger.database import make_engine, sqlite_url
from isthmus.cloud.ledger.entries import Key
from isthmus.cloud.ledger.late import LateBook, LateEntry
from isthmus.cloud.ledger.sql import SqlLedger
from isthmus.core.decision import Status
from isthmus.core.errors import ConfigError, QuotaExceeded, Unavailable
from isthmus.core.money import Usage

WAIT_S = 0.5


async def brought_in(ledger: SqlLedger) -> None:
    """Return when the database has everything."""
    for _ in range(200):
        await ledger._beat()
        if not ledger.state().late_requests:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("something is still late")


@pytest.fixture
def url(tmp_path: Path) -> sa.URL:
    return sqlite_url(tmp_path / "ledger.db")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_LONGEST_PAUSE_S", 0.05)


@contextlib.contextmanager
def away(url: sa.URL) -> Iterator[None]:
    """Somebody else holds the database's lock meanwhile."""
    engine = make_engine(url)
    with engine.begin():
        yield
    engine.dispose()


async def test_a_new_request_is_refused_within_a_bound_and_charged_nothing(url: sa.URL) -> None:
    async with open_ledger(url, wait_s=WAIT_S, timeout_s=0.05) as ledger:
        with away(url):
            with pytest.raises(Unavailable):
                await ledger.open(opening())
            assert ledger.state().away_s > 0
        # The refused one was not written down, or was and cost nothing.
        await written(ledger)
        account = await ledger.open(opening("r2"))
        assert ledger.state().away_s == 0
        await account.settle(Usage(10, 1), Status.OK)
    assert sum(row["charge_micro_usd"] for row in rows(url)) == 12


def move(path: Path, to: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        if Path(f"{path}{suffix}").exists():
            Path(f"{path}{suffix}").rename(f"{to}{suffix}")


async def test_a_file_that_is_moved_away_is_away_until_it_is_back(
    url: sa.URL, tmp_path: Path
) -> None:
    path, elsewhere = tmp_path / "ledger.db", tmp_path / "elsewhere.db"
    async with open_ledger(url, wait_s=WAIT_S, timeout_s=0.05) as ledger:
        await (await ledger.open(opening("r1"))).settle(Usage(10, 1), Status.OK)
        move(path, elsewhere)
        with pytest.raises(Unavailable):
            await ledger.open(opening("r2"))
        move(elsewhere, path)
        await written(ledger)
        await (await ledger.open(opening("r3"))).settle(Usage(10, 1), Status.OK)
    assert [row["request_id"] for row in rows(url) if row["charge_micro_usd"]] == ["r1", "r3"]


async def test_it_stays_away_when_everybody_has_given_up(url: sa.URL) -> None:
    async with open_ledger(url, wait_s=WAIT_S, timeout_s=0.05) as ledger:
        with away(url):
            with pytest.raises(Unavailable) as refused:
                await ledger.open(opening())
            assert refused.value.retry_after_s
            await asyncio.sleep(0.3)
            assert ledger.state().away_s > 0.3
            assert ledger.state().waiting_changes == 0
        await written(ledger)
        assert ledger.state().away_s == 0
        account = await ledger.open(opening("r2"))
        await account.settle(Usage(10, 1), Status.OK)
    assert [row["request_id"] for row in rows(url)] == ["r2"]


async def test_what_a_database_did_and_could_not_tell_is_closed_again(
    url: sa.URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection breaks under a commit: it is in the database, and nobody waits for it."""
    gone = OperationalError("COMMIT", {}, Exception("gone"), connection_invalidated=True)
    async with open_ledger(url, wait_s=WAIT_S, quotas={"device": {"streams": 1}}) as ledger:
        assert ledger._writer is not None
        write = ledger._writer._try
        monkeypatch.setattr(ledger._writer, "_try", lambda changes: write(changes) or gone)
        with pytest.raises(Unavailable):
            await ledger.open(opening())
        monkeypatch.undo()
        await written(ledger)
        other = await ledger.open(opening("r2"))
        await other.settle(Usage(10, 1), Status.OK)
    found = [(row["request_id"], row["status"], row["charge_micro_usd"]) for row in rows(url)]
    assert found == [("r1", "failed", 0), ("r2", "ok", 12)]


async def test_an_attempt_that_nobody_waits_for_takes_nothing_from_earlier_ones(
    url: sa.URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = OperationalError("COMMIT", {}, Exception("gone"), connection_invalidated=True)
    async with open_ledger(url, wait_s=WAIT_S) as ledger:
        first = await ledger.open(opening())
        await first.settle(Usage(10, 40), Status.FAILED)
        assert ledger._writer is not None
        write = ledger._writer._try
        monkeypatch.setattr(ledger._writer, "_try", lambda changes: write(changes) or gone)
        with pytest.raises(Unavailable):
            await ledger.open(opening(received=40))
        monkeypatch.undo()
        await written(ledger)
    assert [(row["status"], row["charge_micro_usd"]) for row in rows(url)] == [("failed", 90)]


async def test_a_running_answer_ends_when_nothing_more_may_be_shown(url: sa.URL) -> None:
    async with open_ledger(url, wait_s=WAIT_S, timeout_s=0.05) as ledger:
        account = await ledger.open(opening())
        with away(url):
            account.wrote(Usage(10, 32))
            assert not account.behind
            account.wrote(Usage(10, 33))
            assert account.behind
            with pytest.raises(Unavailable):
                await account.catch_up()
            # What it costs is told at once, and written down when it can be.
            assert await account.settle(Usage(10, 32), Status.FAILED) == 74
        await written(ledger)
        await asyncio.sleep(0.05)
    assert [(row["status"], row["charge_micro_usd"]) for row in rows(url)] == [("failed", 74)]


async def test_what_waits_at_the_end_is_told_and_made_good_by_the_device(
    url: sa.URL, caplog: pytest.LogCaptureFixture
) -> None:
    with contextlib.ExitStack() as gone:
        async with open_ledger(url, wait_s=WAIT_S, timeout_s=0.05) as ledger:
            account = await ledger.open(opening())
            account.wrote(Usage(10, 20))
            await written(ledger)
            gone.enter_context(away(url))
            await account.settle(Usage(10, 30), Status.OK)
    assert "unwritten" in caplog.text
    async with open_ledger(url) as ledger:
        told = await ledger.reconcile(PHONE, [Acknowledged("r1", Usage(10, 30))])
    assert told.settled == 1
    assert rows(url)[0]["charge_micro_usd"] == 70


async def test_where_it_is_wanted_answers_go_on_and_are_brought_in_later(
    url: sa.URL, tmp_path: Path
) -> None:
    async with open_ledger(
        url, wait_s=WAIT_S, timeout_s=0.05, late_dir=tmp_path / "late"
    ) as ledger:
        running = await ledger.open(opening("r1"))
        with away(url):
            new = await ledger.open(opening("r2"))
            for shown in range(1, 101):
                for account in (running, new):
                    account.wrote(Usage(10, shown))
                    if account.behind:
                        await account.catch_up()
            assert await running.settle(Usage(10, 100), Status.OK) == 210
            assert await new.settle(Usage(10, 100), Status.OK) == 210
            assert ledger.state().late_requests == 2
        await brought_in(ledger)
    assert [(row["status"], row["charge_micro_usd"]) for row in rows(url)] == [("ok", 210)] * 2
    assert list((tmp_path / "late").iterdir()) == []


@contextlib.contextmanager
def full_disk(book: LateBook) -> Iterator[None]:
    """Its file takes ten bytes more, and then nothing."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (os.fstat(book._file).st_size + 10, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_nothing_is_given_out_that_a_full_disk_cannot_note(
    url: sa.URL, tmp_path: Path
) -> None:
    late = tmp_path / "late"
    async with open_ledger(url, wait_s=WAIT_S, timeout_s=0.05, late_dir=late) as ledger:
        running = await ledger.open(opening("r1"))
        assert ledger._late is not None
        with away(url):
            new = await ledger.open(opening("r2"))
            new.wrote(Usage(10, 1))
            with full_disk(ledger._late):
                running.wrote(Usage(10, 40))
                with pytest.raises(Unavailable):
                    await running.catch_up()
                with pytest.raises(Unavailable):
                    new.wrote(Usage(10, 40))
                assert await running.settle(Usage(10, 20), Status.FAILED) == 50
                assert await new.settle(Usage(10, 20), Status.FAILED) == 50
        await brought_in(ledger)
    assert [(row["status"], row["charge_micro_usd"]) for row in rows(url)] == [("failed", 50)] * 2


def test_a_line_that_a_full_disk_cut_off_takes_no_other_with_it(tmp_path: Path) -> None:
    book = LateBook(tmp_path, "dead")
    price = BOOK.price("m")
    entries = [
        LateEntry(Key("acme", "phone", f"r{n}"), "dead", 0, b"", "m", price, 1, Usage(1, 2))
        for n in range(2)
    ]
    with full_disk(book):
        for _ in range(2):
            with pytest.raises(Unavailable):
                book.note(entries[0])
    book.note(entries[1])
    book.close()
    ((_, found),) = LateBook(tmp_path, "next").left_behind()
    assert found == [entries[1]]


async def test_a_kill_while_it_is_away_loses_no_more_than_another(
    url: sa.URL, tmp_path: Path
) -> None:
    late = tmp_path / "late"
    killed = contextlib.AsyncExitStack()
    dead = await killed.enter_async_context(
        open_ledger(url, wait_s=WAIT_S, timeout_s=0.05, late_dir=late)
    )
    running = await dead.open(opening("r1"))
    with away(url):
        new = await dead.open(opening("r2"))
        for shown in range(1, 91):
            for account in (running, new):
                account.wrote(Usage(10, shown))
                if account.behind:
                    await account.catch_up()
    # Its thread, its lock and its file end as a kill ends them; what it had queued is gone.
    assert dead._writer is not None
    with dead._writer._changed:
        dead._writer._urgent.clear()
        dead._writer._soon.clear()
    assert dead._late is not None
    dead._late._lock.release()
    (path,) = late.glob("*.jsonl")
    path.write_bytes(path.read_bytes() + b'{"key": ["acme", "pho')
    for _ in range(2):
        async with open_ledger(url, late_dir=late) as ledger:
            pass
    shown = {row["request_id"]: row["completion_tokens"] for row in rows(url)}
    assert {name: 58 <= count <= 90 for name, count in shown.items()} == {"r1": True, "r2": True}
    async with open_ledger(url, late_dir=late) as ledger:
        told = [Acknowledged(name, Usage(10, 90)) for name in shown]
        assert (await ledger.reconcile(PHONE, told)).settled == 2
    assert [row["charge_micro_usd"] for row in rows(url)] == [190, 190]
    dead._late.entries.clear()
    await killed.aclose()


async def test_quotas_count_what_was_served_while_it_was_away(url: sa.URL, tmp_path: Path) -> None:
    quotas = {"device": {"tokens_per_month": 200}}
    async with open_ledger(
        url, wait_s=WAIT_S, timeout_s=0.05, late_dir=tmp_path / "late", quotas=quotas
    ) as ledger:
        first = await ledger.open(opening("r1", most=10))
        await first.settle(Usage(10, 10), Status.OK)
        with away(url):
            late = await ledger.open(opening("r2"))
            late.wrote(Usage(10, 150))
            await late.settle(Usage(10, 150), Status.OK)
        await brought_in(ledger)
        await (await ledger.open(opening("r3", most=10))).settle(Usage(10, 10), Status.OK)
        with pytest.raises(QuotaExceeded):
            await ledger.open(opening("r4", most=10))


async def test_a_stream_that_a_kill_ended_while_it_was_away_is_free_again(
    url: sa.URL, tmp_path: Path
) -> None:
    late, quotas = tmp_path / "late", {"device": {"streams": 1}}
    killed = contextlib.AsyncExitStack()
    settings = {"wait_s": WAIT_S, "timeout_s": 0.05, "quotas": quotas}
    dead = await killed.enter_async_context(open_ledger(url, late_dir=late, **settings))
    async with open_ledger(url, **settings) as living:
        await (await living.open(opening("r0"))).settle(Usage(10, 1), Status.OK)
        running = await dead.open(opening("r1"))
        with away(url):
            running.wrote(Usage(10, 40))
            await running.catch_up()
        assert dead._late is not None
        dead._late._lock.release()
        async with open_ledger(url, late_dir=late, **settings):
            pass
        account = await living.open(opening("r2"))
        await account.settle(Usage(10, 1), Status.OK)
    dead._late.entries.clear()
    await killed.aclose()


async def test_what_somebody_else_answered_since_is_not_charged_again(
    url: sa.URL, tmp_path: Path
) -> None:
    async with (
        open_ledger(url, wait_s=WAIT_S, timeout_s=0.05, late_dir=tmp_path / "late") as first,
        open_ledger(url) as second,
    ):
        with away(url):
            late = await first.open(opening("r1"))
            late.wrote(Usage(10, 40))
        other = await second.open(opening("r1", received=40))
        await late.settle(Usage(10, 40), Status.FAILED)
        assert await other.settle(Usage(10, 50), Status.OK) == 110
        await brought_in(first)
    assert [row["charge_micro_usd"] for row in rows(url)] == [110]


def test_a_folder_that_cannot_be_written_is_told_at_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError) as refused:
        LateBook(tmp_path / "file" / "late", "me")
    assert refused.value.field == "ledger.late_dir"


def test_nothing_is_noted_unless_it_is_wanted(tmp_path: Path) -> None:
    assert LedgerConfig().late_folder is None
    assert LedgerConfig(when_away="serve", late_dir=tmp_path).late_folder == tmp_path
    with pytest.raises(ValueError, match="late_dir"):
        LedgerConfig(late_dir=tmp_path)

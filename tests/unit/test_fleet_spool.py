"""The spool and who sends it: nothing lost, nothing blocked, nothing that is not shared."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest

from isthmus.core.chat import PrivacyClass
from isthmus.core.decision import Outcome, Status, Target
from isthmus.core.errors import InvalidRequest, Overloaded, Unavailable
from isthmus.edge.fleet import reporter as module
from isthmus.edge.fleet.pauses import Pauses
from isthmus.edge.fleet.reporter import Reporter
from isthmus.edge.fleet.spool import Spool, SpoolRow, ledger_spool
from isthmus.edge.ledger import Ledger, open_ledger
from isthmus.v1 import fleet_pb2
from waiting import eventually


class Gateway:
    """Takes batches, fails when told to, refuses rows that are `bad`."""

    def __init__(self) -> None:
        self.batches: list[tuple[list[bytes], list[bytes]]] = []
        self.failures: list[Exception] = []

    async def report(self, outcomes: Sequence[bytes], acknowledgements: Sequence[bytes]) -> int:
        if self.failures:
            raise self.failures.pop(0)
        if b"bad" in outcomes:
            raise InvalidRequest("a row is wrong", field="outcomes[0]")
        self.batches.append((list(outcomes), list(acknowledgements)))
        return len(outcomes)

    async def sync(self, request: fleet_pb2.SyncDeviceRequest) -> fleet_pb2.SyncDeviceResponse:
        raise NotImplementedError

    @property
    def outcomes(self) -> list[bytes]:
        return [one for outcomes, _ in self.batches for one in outcomes]

    @property
    def acknowledgements(self) -> list[bytes]:
        return [one for _, acknowledgements in self.batches for one in acknowledgements]


def outcome(name: str) -> Outcome:
    return Outcome(name, 1.0, Target.EDGE, (), Status.OK, PrivacyClass.PUBLIC)


def record(path: Path, *rows: SpoolRow) -> None:
    """Write rows as the agent does, by a ledger that is then closed."""
    ledger = Ledger(path)
    for number, row in enumerate(rows):
        ledger.record(outcome(f"r{number}"), spooled=(row,))
    ledger.close()


def shared(name: str) -> SpoolRow:
    return SpoolRow(outcome=name.encode())


def billed(name: str) -> SpoolRow:
    return SpoolRow(acknowledgement=name.encode())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def spool(path: Path, *, max_rows: int = 1000, max_days: float = 1.0) -> Spool:
    return ledger_spool(path, max_rows=max_rows, max_days=max_days)


def reporter(gateway: Gateway, at: Spool, *, sends: bool = True, shares: bool = True) -> Reporter:
    pauses = Pauses(0.01)
    return Reporter(gateway, at, may_send=lambda: sends, shares=lambda: shares, pauses=pauses)


async def test_what_was_written_before_a_restart_is_sent_after_it_and_once(path: Path) -> None:
    record(path, shared("a"), SpoolRow(b"b", b"B"), billed("C"))
    gateway = Gateway()
    await reporter(gateway, spool(path)).send()
    await reporter(gateway, spool(path)).send()
    assert gateway.batches == [([b"a", b"b"], [b"B", b"C"])]
    assert spool(path).read(10) == ()


async def test_an_outage_keeps_the_rows_and_the_next_call_sends_them(path: Path) -> None:
    record(path, shared("a"))
    gateway = Gateway()
    gateway.failures = [Unavailable("away"), Overloaded("full", retry_after_s=0.01)]
    sending = asyncio.create_task(reporter(gateway, spool(path)).run())
    assert await eventually(lambda: gateway.outcomes == [b"a"])
    sending.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await sending


async def test_a_full_spool_goes_out_in_batches(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 3)
    record(path, *(shared(f"{n}") for n in range(8)))
    gateway = Gateway()
    await reporter(gateway, spool(path)).send()
    assert [len(outcomes) for outcomes, _ in gateway.batches] == [3, 3, 2]
    assert gateway.outcomes == [b"%d" % n for n in range(8)]


async def test_one_row_that_no_gateway_takes_holds_up_no_other(path: Path) -> None:
    record(path, shared("a"), shared("b"), shared("bad"), shared("c"), billed("D"))
    gateway = Gateway()
    at = reporter(gateway, spool(path))
    await at.send()
    assert (gateway.outcomes, gateway.acknowledgements) == ([b"a", b"b", b"c"], [b"D"])
    assert at.state.dropped == 1


async def test_without_consent_nothing_leaves_and_what_is_billed_waits(path: Path) -> None:
    record(path, SpoolRow(b"a", b"A"), shared("b"))
    gateway = Gateway()
    await reporter(gateway, spool(path), sends=False, shares=False).send()
    assert gateway.batches == []
    await reporter(gateway, spool(path)).send()
    assert gateway.batches == [([], [b"A"])], "what was to be shared was deleted with the consent"


async def test_an_owner_who_shares_nothing_sends_what_is_billed_alone(path: Path) -> None:
    record(path, SpoolRow(b"a", b"A"), shared("b"))
    gateway = Gateway()
    await reporter(gateway, spool(path), shares=False).send()
    assert gateway.batches == [([], [b"A"])]


def test_the_oldest_rows_go_first_and_those_that_are_billed_last(path: Path) -> None:
    record(path, billed("A"), shared("b"), shared("c"), billed("D"), shared("e"))
    state = spool(path, max_rows=3).trim(shares=True)
    kept = spool(path).read(10)
    assert [row.outcome or row.acknowledgement for row in kept] == [b"A", b"D", b"e"]
    assert (state.rows, state.dropped) == (3, 2)
    assert spool(path, max_rows=1).trim(shares=True).dropped == 4, "ever, not since"


async def test_however_long_the_outage_the_spool_stays_within_its_bounds(path: Path) -> None:
    gateway = Gateway()
    gateway.failures = [Overloaded("full", retry_after_s=3600.0)]
    record(path, shared("a"))
    at = reporter(gateway, spool(path, max_rows=2))
    sending = asyncio.create_task(at.run())
    assert await eventually(lambda: not gateway.failures)
    record(path, *(shared(f"{n}") for n in range(5)))
    assert await eventually(lambda: at.state.dropped == 4)
    sending.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await sending


def test_rows_that_became_too_old_are_dropped(path: Path) -> None:
    record(path, shared("a"), shared("b"))
    with open_ledger(path) as db, db:
        db.execute("UPDATE spool SET at_unix_s = 0 WHERE sequence = 1")
    state = spool(path).trim(shares=True)
    assert (state.rows, state.dropped) == (1, 1)


def test_a_row_lies_there_as_soon_as_the_outcome_does(path: Path) -> None:
    ledger = Ledger(path)
    ledger.record(outcome("r"), spooled=(shared("a"),))
    ledger.flush()
    with contextlib.closing(sqlite3.connect(path)) as db:
        counts = db.execute("SELECT (SELECT count(*) FROM outcomes), (SELECT count(*) FROM spool)")
        assert counts.fetchone() == (1, 1)
    ledger.close()


def test_pauses_grow_with_failures_are_bounded_and_begin_anew() -> None:
    pauses = Pauses(60.0, draw=lambda: 1.0)
    assert [pauses.after_failure() for _ in range(5)] == [1, 2, 4, 8, 16]
    assert max(pauses.after_failure() for _ in range(100)) == 3600
    assert pauses.after_failure(at_least_s=7000.0) > 7000
    assert pauses.after_success() == 72
    assert pauses.after_failure() == 1
    assert Pauses(60.0, draw=lambda: 0.0).after_success() == 48

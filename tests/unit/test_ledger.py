"""The ledger: what is in it, and what it outlives."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from isthmus.core.chat import PrivacyClass
from isthmus.core.decision import Outcome, Reason, Status, Target
from isthmus.core.errors import ConfigError
from isthmus.core.money import Usage
from isthmus.edge.ledger import Ledger, read_outcomes


def outcome(request_id: str = "r1", at_unix_s: float = 1.0) -> Outcome:
    return Outcome(
        request_id=request_id,
        at_unix_s=at_unix_s,
        route=Target.CLOUD,
        reasons=(Reason.HARD, Reason.HANDED_OVER),
        status=Status.OK,
        privacy_class=PrivacyClass.PUBLIC,
        model="big",
        usage=Usage(10, 20, 5),
        ttft_ms=12.5,
        tpot_ms=None,
        total_ms=99.0,
        price_micro_usd=7,
        saved_micro_usd=3,
        error_kind="unavailable",
    )


def test_an_outcome_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "ledger.sqlite"
    ledger = Ledger(path)
    ledger.record(outcome())
    ledger.close()
    assert read_outcomes(path) == (outcome(),)


def test_the_newest_come_first_and_no_more_than_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(path)
    for number in range(5):
        ledger.record(outcome(f"r{number}", float(number)))
    ledger.close()
    assert [o.request_id for o in read_outcomes(path, limit=2)] == ["r4", "r3"]


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "home" / "ledger.sqlite"
    Ledger(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_without_a_ledger_there_is_nothing_to_read(tmp_path: Path) -> None:
    assert read_outcomes(tmp_path / "none.sqlite") == ()
    assert not (tmp_path / "none.sqlite").exists()


def test_another_program_that_ends_takes_nothing_from_under_the_agent(tmp_path: Path) -> None:
    """A file's locks go with the first of a process's descriptors of it that is closed, and
    SQLite's write-ahead log with the last program that seems to use it.
    """
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(path)
    ledger.record(outcome("before"))
    ledger.flush()
    assert ledger.spent_since(0) == 7
    other = "import sys; from isthmus.edge.ledger import read_outcomes; read_outcomes()"
    subprocess.run(
        [sys.executable, "-c", other], env=os.environ | {"ISTHMUS_HOME": str(tmp_path)}, check=True
    )
    ledger.record(outcome("after"))
    ledger.flush()
    kept = {one.request_id for one in read_outcomes(path)}
    ledger.close()
    assert kept == {"before", "after"}
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_who_reads_waits_for_nobody_who_writes(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    Ledger(path).close()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        assert read_outcomes(path) == ()


def test_two_programs_may_make_one_ledger_at_once(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    with contextlib.closing(other):
        other.execute("BEGIN IMMEDIATE")
        made = threading.Timer(0.2, other.commit)
        made.start()
        Ledger(path).close()
        made.join()
    assert read_outcomes(path) == ()


def test_two_agents_may_share_one_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    one, two = Ledger(path), Ledger(path)
    for number in range(50):
        one.record(outcome(f"a{number}"))
        two.record(outcome(f"b{number}"))
    one.close()
    two.close()
    assert len(read_outcomes(path)) == 100


def test_rows_survive_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    script = f"""
import sys, time
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_ledger import Ledger, outcome, read_outcomes
path = Path({str(path)!r})
ledger = Ledger(path)
for number in range(20):
    ledger.record(outcome(f"r{{number}}"))
while len(read_outcomes(path)) < 20:
    time.sleep(0.01)
print("written", flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        os.kill(process.pid, signal.SIGKILL)
    ledger = Ledger(path)
    ledger.record(outcome("after"))
    ledger.close()
    assert len(read_outcomes(path)) == 21


def test_a_ledger_of_a_newer_isthmus_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(ConfigError, match="newer Isthmus"):
        Ledger(path)


def test_a_damaged_file_says_which_one_and_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"this is no database, and long enough to be looked at" * 40)
    with pytest.raises(ConfigError, match=r"ledger\.sqlite.*it is damaged; move it away") as caught:
        Ledger(path)
    assert caught.value.field == "ISTHMUS_HOME"


def test_a_file_that_is_damaged_further_in_says_so_too(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(path)
    for number in range(200):
        ledger.record(outcome(f"r{number}"))
    ledger.close()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    damaged = Ledger(path)
    with pytest.raises(ConfigError, match=r"ledger\.sqlite.*it is damaged; move it away"):
        damaged.spent_since(0.0)
    damaged.close()


def test_a_ledger_that_is_moved_away_under_an_agent_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(path)
    ledger.record(outcome("before"))
    ledger.flush()
    for file in tmp_path.glob("ledger.sqlite*"):
        file.rename(tmp_path / f"moved-{file.name}")
    ledger.record(outcome("after"))
    ledger.close()
    assert [o.request_id for o in read_outcomes(path)] == ["after"]
    assert [o.request_id for o in read_outcomes(tmp_path / "moved-ledger.sqlite")] == ["before"]


def test_rows_wait_for_another_program_longer_than_sqlite_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("isthmus.edge.database._PATIENCE_S", 0.01)
    lost: list[int] = []
    ledger = Ledger(tmp_path / "ledger.sqlite", on_loss=lost.append)
    with contextlib.closing(sqlite3.connect(ledger.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        ledger.record(outcome())
        while not caplog.records:
            time.sleep(0.01)
    ledger.flush()
    ledger.close()
    assert (read_outcomes(ledger.path), lost) == ((outcome(),), [])
    assert "SQLITE_BUSY" in caplog.text


def test_what_cannot_be_written_until_the_end_is_lost_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("isthmus.edge.database._PATIENCE_S", 0.01)
    lost: list[int] = []
    ledger = Ledger(tmp_path / "ledger.sqlite", on_loss=lost.append)
    with contextlib.closing(sqlite3.connect(ledger.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        ledger.record(outcome())
        ledger.close()
    assert sum(lost) == 1


def test_rows_that_cannot_be_written_are_counted_not_raised(tmp_path: Path) -> None:
    lost: list[int] = []
    ledger = Ledger(tmp_path / "ledger.sqlite", on_loss=lost.append)
    ledger.close()
    ledger.record(outcome())
    assert lost == [1]


def test_a_row_that_no_column_can_hold_is_lost_alone(tmp_path: Path) -> None:
    lost: list[int] = []
    ledger = Ledger(tmp_path / "ledger.sqlite", on_loss=lost.append)
    ledger.record(outcome("before"))
    ledger.record(replace(outcome("huge"), usage=Usage(2**64 - 1, 1, 0)))
    ledger.record(outcome("after", 2.0))
    ledger.close()
    assert lost == [1]
    assert [o.request_id for o in read_outcomes(ledger.path)] == ["after", "before"]


def test_the_table_has_no_column_for_text(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    Ledger(path).close()
    db = sqlite3.connect(path)
    columns = {row[1] for row in db.execute("PRAGMA table_info(outcomes)")}
    db.close()
    assert columns.isdisjoint({"text", "prompt", "answer", "messages", "content", "conversation"})
    assert "route" in columns

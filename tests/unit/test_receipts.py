"""Receipts: what they tell, and that nothing of the chain can be changed unnoticed."""

from __future__ import annotations

import json
import sqlite3
import stat
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import program
from isthmus.core.chat import PrivacyClass
from isthmus.core.decision import Outcome, Status, Target
from isthmus.core.errors import ConfigError
from isthmus.edge.ledger import Ledger, open_ledger
from isthmus.edge.receipts import KEY_FILE, device_key, read_chain, read_head
from isthmus.privacy.receipts import START, DeviceKey, Entry, Malformed, Receipt, Sent, check

KEY = DeviceKey.new()


def receipt(number: int = 1, *, at_unix_s: float = 1000.0) -> Receipt:
    return Receipt(
        request_id=f"r{number}",
        at_unix_s=at_unix_s + number,
        made_by=("edge", "cloud"),
        status="ok",
        privacy_class="public",
        policy="balanced#12ab",
        labels={"PERSON": {"redacted": number}, "PHONE": {"allowed": 1}},
        sent=(Sent.of(b"bytes" * number),),
        content_hmac=KEY.content_hmac(b"what was asked"),
    )


def chain(count: int) -> tuple[list[Entry], Entry]:
    entries: list[Entry] = []
    for number in range(1, count + 1):
        previous = entries[-1].hash if entries else START
        entries.append(KEY.receipt(receipt(number), sequence=number, previous=previous))
    return entries, KEY.head(count=count, last=entries[-1].hash)


def outcome(request_id: str) -> Outcome:
    return Outcome(request_id, 1.0, Target.EDGE, (), Status.OK, PrivacyClass.PUBLIC)


def test_a_chain_that_nobody_touched_is_sound() -> None:
    entries, head = chain(5)
    checked = check(entries, head, KEY.public)
    assert (checked.receipts, checked.first, checked.problems) == (5, 1, ())


def test_a_receipt_comes_back_from_its_statement_and_from_json() -> None:
    entry = KEY.receipt(receipt(3), sequence=7, previous="ab")
    told = entry.read()
    assert (told.pop("sequence"), told.pop("previous")) == (7, "ab")
    assert told == json.loads(json.dumps(asdict(receipt(3))))
    assert Entry.from_json(json.loads(json.dumps(entry.json()))) == entry


@given(st.data())
def test_any_change_of_any_receipt_shows(data: st.DataObject) -> None:
    entries, head = chain(4)
    at = data.draw(st.integers(0, 3), label="receipt")
    told = entries[at].read()
    name = data.draw(st.sampled_from(sorted(told)), label="field")
    value = data.draw(st.one_of(st.integers(), st.text(), st.none()), label="value")
    if value == told[name]:
        return
    changed = json.dumps(told | {name: value}, sort_keys=True, separators=(",", ":"))
    entries[at] = replace(entries[at], statement=changed)
    assert check(entries, head, KEY.public).problems


@pytest.mark.parametrize(
    ("do", "problem"),
    [
        (lambda e: e.pop(1), "receipt 2 is missing"),
        (lambda e: e.pop(), "the head tells of 4 receipts, the last one here is 3"),
        (lambda e: e.insert(1, e.pop(2)), "receipt 2 is missing: 3 follows 1"),
        (lambda e: e.insert(2, e[1]), "receipt 3 is missing: 2 follows 2"),
        (lambda e: e.__setitem__(1, replace(e[1], signature="00")), "receipt 2 was altered"),
        (lambda e: e.__setitem__(1, Entry("[]", "")), "entry 2 is no receipt"),
    ],
    ids=["left out", "cut off", "put elsewhere", "twice", "another signature", "no receipt"],
)  # fmt: skip
def test_what_was_done_to_the_chain_is_named(do: object, problem: str) -> None:
    entries, head = chain(4)
    assert callable(do)
    do(entries)
    assert any(told.startswith(problem) for told in check(entries, head, KEY.public).problems)


def test_a_chain_signed_anew_with_another_key_shows() -> None:
    other = DeviceKey.new()
    entry = other.receipt(receipt(), sequence=1, previous=START)
    problems = check([entry], other.head(count=1, last=entry.hash), KEY.public).problems
    assert len(problems) == 2
    assert all("another key" in problem for problem in problems)


def test_an_export_may_begin_in_the_middle_but_must_reach_the_head() -> None:
    entries, head = chain(6)
    assert check(entries[3:], head, KEY.public).problems == ()
    assert check(entries[3:], head, KEY.public).first == 4
    assert check(entries[3:], None, KEY.public).problems
    assert check([], head, KEY.public).problems


def test_the_key_and_the_hash_of_what_was_asked_are_the_devices_own() -> None:
    again = DeviceKey.from_pem(KEY.pem())
    assert again.public == KEY.public
    assert again.content_hmac(b"x") == KEY.content_hmac(b"x") != DeviceKey.new().content_hmac(b"x")
    with pytest.raises(Malformed, match="not a private key"):
        DeviceKey.from_pem(b"-----BEGIN NONSENSE-----")


def test_the_key_is_made_once_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    made: list[str] = []
    threads = [
        threading.Thread(target=lambda: made.append(device_key(tmp_path / "home").public))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    assert len(set(made)) == 1
    assert {file.name for file in (tmp_path / "home").iterdir()} == {KEY_FILE, "device_key.lock"}
    assert stat.S_IMODE((tmp_path / "home" / KEY_FILE).stat().st_mode) == 0o600


def test_a_folder_without_hard_links_keeps_a_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refused)
    assert device_key(tmp_path).public == device_key(tmp_path).public


def test_a_damaged_key_is_an_error_that_names_the_way_out(tmp_path: Path) -> None:
    (tmp_path / KEY_FILE).write_bytes(b"gone")
    with pytest.raises(ConfigError, match="put the right one back") as error:
        device_key(tmp_path)
    assert error.value.field == "ISTHMUS_HOME"


def _recorded(folder: Path, receipts: Sequence[Receipt]) -> Path:
    ledger = Ledger(folder / "ledger.sqlite")
    for one in receipts:
        ledger.record(outcome(one.request_id), one)
    ledger.close()
    return ledger.path


def test_what_the_ledger_records_is_a_sound_chain_over_restarts(tmp_path: Path) -> None:
    _recorded(tmp_path, [receipt(n) for n in range(3)])
    path = _recorded(tmp_path, [receipt(n) for n in range(3, 5)])
    with open_ledger(path) as db:
        checked = check(read_chain(db), read_head(db), device_key(tmp_path).public)
    assert (checked.receipts, checked.problems) == (5, ())


def test_two_agents_that_share_a_ledger_make_one_chain(tmp_path: Path) -> None:
    ledgers = [Ledger(tmp_path / "ledger.sqlite") for _ in range(2)]
    for number in range(200):
        ledgers[number % 2].record(outcome(f"r{number}"), receipt(number))
    for ledger in ledgers:
        ledger.close()
    with open_ledger(ledgers[0].path) as db:
        checked = check(read_chain(db), read_head(db), device_key(tmp_path).public)
    assert (checked.receipts, checked.problems) == (200, ())


def test_a_receipt_can_be_had_as_soon_as_its_answer_has_ended(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.record(outcome("r9"), receipt(9))
    found = ledger.receipt("r9")
    assert found is not None
    assert found.read()["request_id"] == "r9"
    assert ledger.receipt("unknown") is None
    ledger.close()


def test_a_ledger_from_before_receipts_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with closing(sqlite3.connect(path)) as db:
        db.execute(
            "CREATE TABLE outcomes (request_id TEXT PRIMARY KEY, at_unix_s REAL, route TEXT, "
            "reasons TEXT, status TEXT, privacy_class TEXT, model TEXT, prompt_tokens INTEGER, "
            "completion_tokens INTEGER, cached_tokens INTEGER, ttft_ms REAL, tpot_ms REAL, "
            "total_ms REAL, price_micro_usd INTEGER, saved_micro_usd INTEGER, error_kind TEXT)"
        )
        db.execute("PRAGMA user_version=1")
    _recorded(tmp_path, [receipt()])
    with open_ledger(path) as db:
        assert len(list(read_chain(db))) == 1


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path))
    _recorded(tmp_path, [receipt(n) for n in range(1, 4)])
    return tmp_path


def test_the_program_verifies_its_ledger_and_an_export_of_it(home: Path) -> None:
    out = home / "audit.jsonl"
    assert program.run("privacy", "verify").exit_code == 0
    assert program.run("privacy", "export", str(out)).exit_code == 0
    done = program.run("privacy", "verify", str(out), "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["receipts"] == 3
    lines = out.read_text("utf-8").splitlines()
    out.write_text("\n".join([lines[0], *lines[2:]]), "utf-8")
    done = program.run("privacy", "verify", str(out))
    assert done.exit_code == 1
    assert "receipt 2 is missing" in done.stderr


def test_a_ledger_that_somebody_changed_does_not_verify(home: Path) -> None:
    with open_ledger(home / "ledger.sqlite") as db, db:
        db.execute("DELETE FROM receipts WHERE sequence = 3")
    done = program.run("privacy", "verify")
    assert done.exit_code == 1
    assert "the head tells of 3 receipts, the last one here is 2" in done.stderr


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("UPDATE receipts SET at_unix_s = 0 WHERE sequence = 2", "receipt 2 is filed under"),
        ("UPDATE receipts SET request_id = 'x' WHERE sequence = 2", "receipt 2 is filed under"),
        ("UPDATE receipt_head SET count = 9", "the head is filed with"),
    ],
)
def test_a_receipt_that_somebody_filed_elsewhere_does_not_verify(
    home: Path, change: str, what: str
) -> None:
    with open_ledger(home / "ledger.sqlite") as db, db:
        db.execute(change)
    done = program.run("privacy", "verify")
    assert done.exit_code == 1
    assert what in done.stderr


def test_another_key_can_be_asked_for(home: Path) -> None:
    done = program.run("privacy", "verify", "--key", DeviceKey.new().public)
    assert done.exit_code == 1
    assert "another key" in done.stderr
    assert program.run("privacy", "verify", "--key", "abc").exit_code == 2


def test_a_period_is_summed_up_by_request_and_by_label(home: Path) -> None:
    now = 4e9  # a time after every test
    nothing_left = replace(receipt(7, at_unix_s=now), sent=(), labels={"SECRET": {"stayed": 2}})
    _recorded(home, [nothing_left])
    told = json.loads(program.run("privacy", "report", "--since", "all", "--json").stdout)
    assert told["requests"] == {"stayed": 1, "redacted": 3, "allowed": 0}
    assert told["labels"]["PERSON"] == {"stayed": 0, "redacted": 6, "allowed": 0}
    assert told["labels"]["SECRET"] == {"stayed": 2, "redacted": 0, "allowed": 0}
    assert told["bytes_left"] == sum(5 * n for n in range(1, 4))
    lately = json.loads(program.run("privacy", "report", "--since", "7d", "--json").stdout)
    assert lately["requests"] == {"stayed": 1, "redacted": 0, "allowed": 0}


def test_one_receipt_is_shown_by_the_id_of_its_request(home: Path) -> None:
    done = program.run("privacy", "receipt", "r2")
    assert json.loads(done.stdout)["statement"]["request_id"] == "r2"
    assert program.run("privacy", "receipt", "r99").exit_code == 2


@pytest.mark.parametrize("command", [("verify",), ("report",), ("receipt", "r1")])
def test_without_a_ledger_the_way_to_one_is_told(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path / "none"))
    done = program.run("privacy", *command)
    assert done.exit_code == 2
    assert "isthmus up" in done.stderr
    assert not (tmp_path / "none").exists()


def test_a_receipt_has_no_room_for_text() -> None:
    assert {field.name for field in fields(Receipt)} == {
        "request_id", "at_unix_s", "made_by", "status", "privacy_class", "policy", "labels",
        "sent", "content_hmac",
    }  # fmt: skip

"""What is served while the database is away, where the configuration wants that: noted in a file
beside the gateway, brought in when the database is back.

A line for the first token of an answer, one for every 32 further ones and one for its end, so that
a kill loses no more than it does with the database there. The file of a gateway that was killed is
brought in by the next one that starts with the same folder.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from filelock import FileLock, Timeout

from isthmus.cloud.ledger.base import CHECKPOINT_TOKENS
from isthmus.cloud.ledger.counters import Count
from isthmus.cloud.ledger.database import COME_BACK_S
from isthmus.cloud.ledger.entries import Key, closed_row, counted, is_row, shown_values
from isthmus.cloud.ledger.memory import shown
from isthmus.cloud.ledger.quotas import Use
from isthmus.cloud.ledger.tables import ABANDONED, OPEN, requests
from isthmus.core.decision import Status
from isthmus.core.errors import ConfigError, Unavailable
from isthmus.core.money import Price, Usage

_log = logging.getLogger(__name__)

_PATTERN: Final = "late-*.jsonl"


@dataclass(frozen=True, slots=True)
class LateEntry:
    """A request as far as it was shown."""

    key: Key
    owner: str
    epoch: int
    """0: it was never opened in the database."""
    body_hash: bytes
    model: str
    price: Price
    opened_ms: int
    usage: Usage
    status: str = ""
    """Empty: it runs."""

    def line(self) -> bytes:
        """For the file."""
        price = (
            self.price.input_usd_per_mtok,
            self.price.output_usd_per_mtok,
            self.price.cached_usd_per_mtok,
        )
        usage = (self.usage.prompt_tokens, self.usage.completion_tokens, self.usage.cached_tokens)
        values = {
            "key": self.key,
            "owner": self.owner,
            "epoch": self.epoch,
            "body_hash": self.body_hash.hex(),
            "model": self.model,
            "price": [None if amount is None else str(amount) for amount in price],
            "opened_ms": self.opened_ms,
            "usage": usage,
            "status": self.status,
        }
        return json.dumps(values).encode() + b"\n"

    @classmethod
    def of(cls, line: bytes) -> LateEntry:
        """From the file. Raises `ValueError` for a line that a kill cut off."""
        try:
            values: dict[str, Any] = json.loads(line)
            amounts = [None if text is None else Decimal(text) for text in values["price"]]
            first, second, cached = amounts
            return cls(
                Key(*values["key"]),
                values["owner"],
                values["epoch"],
                bytes.fromhex(values["body_hash"]),
                values["model"],
                Price(first or Decimal(0), second or Decimal(0), cached),
                values["opened_ms"],
                Usage(*values["usage"]),
                values["status"],
            )
        except (KeyError, TypeError, ArithmeticError) as error:
            raise ValueError("not an entry") from error


class LateBook:
    """The file of one gateway."""

    def __init__(self, folder: Path, gateway: str) -> None:
        """Raises `ConfigError` where nothing can be written."""
        self._folder = folder
        path = folder / f"late-{gateway}.jsonl"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(path.with_suffix(".lock"))
            self._lock.acquire(blocking=False)
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise ConfigError(
                f"ledger.late_dir {folder} cannot be written ({error.strerror})",
                field="ledger.late_dir",
            ) from None
        self._path = path
        self._torn = False
        """The last line is not whole."""
        self.entries: dict[Key, LateEntry] = {}
        """What is not in the database yet."""

    def note(self, entry: LateEntry) -> None:
        """Write `entry` down, in the place of what was written of it before.

        Raises `Unavailable` where the file cannot take it; `entries` has it all the same.
        """
        self.entries[entry.key] = entry
        line = b"\n" * self._torn + entry.line()
        try:
            written = os.write(self._file, line)
        except OSError as error:
            _log.error("ledger.late_dir cannot be written (%s)", error.strerror)
            written = 0
        self._torn = (self._torn or written > 0) and written < len(line)
        if written < len(line):
            raise Unavailable(
                "the gateway's ledger is away, and nothing is given out that it cannot note; "
                "try again",
                field="ledger",
                retry_after_s=COME_BACK_S,
            )

    def drop(self, keys: list[Key]) -> None:
        """These are in the database."""
        for key in keys:
            self.entries.pop(key, None)
        if not self.entries:
            os.ftruncate(self._file, 0)

    def left_behind(self) -> Iterator[tuple[Path, list[LateEntry]]]:
        """The files of gateways that are gone, each with what it says last of every request."""
        for path in sorted(self._folder.glob(_PATTERN)):
            lock = FileLock(path.with_suffix(".lock"))
            try:
                with lock.acquire(blocking=False):
                    entries: dict[Key, LateEntry] = {}
                    for line in path.read_bytes().splitlines():
                        try:
                            entry = LateEntry.of(line)
                        except ValueError:
                            continue  # the last one, which the kill cut off
                        entries[entry.key] = entry
                    yield path, list(entries.values())
                    path.unlink()
                path.with_suffix(".lock").unlink(missing_ok=True)
            except Timeout:
                continue  # its gateway lives

    def close(self) -> None:
        """Leave the file where something in it is not in the database."""
        os.close(self._file)
        if not self.entries:
            self._path.unlink(missing_ok=True)
        self._lock.release()
        if not self.entries:
            self._path.with_suffix(".lock").unlink(missing_ok=True)


class LateAccount:
    """An account of a request that could not be opened; no quota was asked."""

    lost = False
    behind = False

    def __init__(self, book: LateBook, entry: LateEntry, ended: Callable[[], None]) -> None:
        self._book = book
        self._entry = entry
        self._noted = -CHECKPOINT_TOKENS
        self._ended = ended

    @property
    def price(self) -> Price:
        """What it is charged at."""
        return self._entry.price

    def wrote(self, usage: Usage) -> None:
        """Note it, every so often."""
        if self._entry.status:
            return
        self._entry = replace(self._entry, usage=usage)
        if usage.completion_tokens - self._noted >= CHECKPOINT_TOKENS:
            self._noted = usage.completion_tokens
            self._book.note(self._entry)

    async def catch_up(self) -> None:
        """A file is never behind."""

    async def settle(self, usage: Usage, status: Status) -> int:
        """Note the end, the first time. Never raises."""
        if not self._entry.status:
            told = shown(usage, status)
            self._entry = replace(self._entry, usage=told, status=status.value)
            with contextlib.suppress(Unavailable):
                self._book.note(self._entry)
            self._ended()
        return self.price.cost_micro_usd(self._entry.usage)


def bring_in(connection: sa.Connection, count: Count, entries: list[LateEntry]) -> int:
    """Write down what was served meanwhile; how many entries changed the ledger.

    No quota refuses it, and all of them count it. A request that somebody took over or settled
    since stays as it is: it is charged there.
    """
    changed = 0
    for entry in sorted(entries, key=lambda one: one.key):
        there = sa.select(requests).where(*is_row(entry.key)).with_for_update()
        row = connection.execute(there).one_or_none()
        status = entry.status or ABANDONED
        told = shown_values(entry.usage, entry.price)
        now = Use(0, told["prompt_tokens"] + told["completion_tokens"], told["charge_micro_usd"])
        tenant, device, _ = entry.key
        if row is None:
            if entry.epoch == 0:
                values = closed_row(
                    entry.key,
                    owner=entry.owner,
                    body_hash=entry.body_hash,
                    model=entry.model,
                    price=entry.price,
                    opened_ms=entry.opened_ms,
                    usage=entry.usage,
                    status=status,
                    now_ms=count.now_ms,
                )
                connection.execute(sa.insert(requests).values(values))
                count.add(tenant, device, entry.opened_ms, now.plus(Use(requests=1)), streams=0)
                changed += 1
            continue
        mine = row.owner == entry.owner and not row.reconciled
        runs = row.status == OPEN and row.epoch == entry.epoch
        # Reaped while it was away: the epoch was raised, and nobody else has gone on with it.
        reaped = row.status == ABANDONED and row.epoch == entry.epoch + 1
        # The database came back just as the gateway ceased to wait for this row.
        given_up = entry.epoch == 0 and row.epoch == 1 and row.completion_tokens == 0
        if mine and (runs or reaped or given_up):
            connection.execute(
                sa.update(requests)
                .where(*is_row(entry.key))
                .values(status=status, settled_ms=count.now_ms, **told)
            )
            was = counted(row)
            more = Use(0, now.tokens - was.tokens, now.micro_usd - was.micro_usd)
            streams = -1 if row.status == OPEN else 0
            count.add(tenant, device, row.opened_ms, more, streams=streams)
            changed += 1
    return changed

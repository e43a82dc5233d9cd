"""`isthmus cloud usage`: who used what, from the gateway's ledger."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.core.errors import InvalidRequest

if TYPE_CHECKING:
    from isthmus.cloud.ledger.usage import UsageRow

EXAMPLE = """
Example: isthmus cloud usage --config gateway.toml --period last-month --by tenant,model --csv
"""

_FOLDED = 8
"""Characters in a line of a name, at least."""
_SUMS = (
    "requests",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "charge_micro_usd",
    "open_requests",
    "cut_off_requests",
)


def usage(
    config: Annotated[
        Path | None, typer.Option(help="The gateway's TOML file; ISTHMUS_CLOUD_* go over it.")
    ] = None,
    period: Annotated[
        str, typer.Option(help="today, yesterday, month, last-month, 30d or all; in UTC.")
    ] = "month",
    since: Annotated[str | None, typer.Option(help="The first day, e.g. 2026-01-31.")] = None,
    until: Annotated[str | None, typer.Option(help="The last day.")] = None,
    by: Annotated[
        str, typer.Option(help="Any of tenant, device, model, day; empty: one sum.")
    ] = "tenant,device,model,day",
    tenant: Annotated[str | None, typer.Option(help="This tenant alone.")] = None,
    device: Annotated[str | None, typer.Option(help="This device alone.")] = None,
    model: Annotated[str | None, typer.Option(help="This model alone.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, with a head.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Tell tokens and money by tenant, device, model and day."""
    from isthmus.cloud.config import CloudConfig
    from isthmus.cloud.ledger.database import make_engine
    from isthmus.cloud.ledger.usage import Dimension, Wanted
    from isthmus.cloud.ledger.usage import usage as summed_up

    if as_csv and as_json:
        raise InvalidRequest("--csv or --json, not both", field="--csv")
    names = [name.strip() for name in by.split(",") if name.strip()]
    unknown = set(names) - {one.value for one in Dimension}
    if unknown:
        raise InvalidRequest(
            f"{min(unknown)!r} is none of tenant, device, model, day", field="--by"
        )
    dimensions = [Dimension(name) for name in dict.fromkeys(names)]
    begin, end = _days(period, datetime.now(UTC).date())
    begin = begin if since is None else _day(since, "--since")
    end = end if until is None else _day(until, "--until")
    engine = make_engine(CloudConfig.load(config).ledger.existing_url(), writes=False)
    try:
        rows = summed_up(engine, dimensions, Wanted(begin, end, tenant, device, model))
    finally:
        engine.dispose()
    head = [one.value for one in dimensions]
    if as_csv:
        write = csv.writer(sys.stdout, lineterminator="\n")
        write.writerow([*head, *_SUMS])
        write.writerows([*row.group.values(), *_sums(row).values()] for row in rows)
    elif as_json:
        told = {
            "since": begin and begin.isoformat(),
            "until": end and end.isoformat(),
            "rows": [row.group | _sums(row) for row in rows],
            "total": {name: sum(_sums(row)[name] for row in rows) for name in _SUMS},
        }
        print(json.dumps(told))
    else:
        _show(head, rows)


def _sums(row: UsageRow) -> dict[str, int]:
    return {name: getattr(row, name) for name in _SUMS}


def _days(period: str, today: date) -> tuple[date | None, date | None]:
    """The first and the last day of a period. Raises `InvalidRequest`."""
    month = today.replace(day=1)
    yesterday = today - timedelta(days=1)
    before = month - timedelta(days=1)
    named: dict[str, tuple[date | None, date | None]] = {
        "today": (today, today),
        "yesterday": (yesterday, yesterday),
        "month": (month, today),
        "last-month": (before.replace(day=1), before),
        "all": (None, None),
    }
    if period in named:
        return named[period]
    days = re.fullmatch(r"([1-9]\d{0,4})d", period)
    if days is None:
        raise InvalidRequest(
            "must be today, yesterday, month, last-month, a number of days as 30d, or all",
            field="--period",
        )
    return today - timedelta(days=int(days[1]) - 1), today


def _day(text: str, flag: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InvalidRequest("must be a day as 2026-01-31", field=flag) from None


def _show(head: Sequence[str], rows: Sequence[UsageRow]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from isthmus.core.money import usd

    shown = [
        (
            f"{row.requests:,}",
            f"{row.prompt_tokens:,}",
            f"{row.cached_tokens:,}",
            f"{row.completion_tokens:,}",
            f"{usd(row.charge_micro_usd):,.6f}",
        )
        for row in rows
    ]
    table: Any = Table(box=box.SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    for name in head:
        table.add_column(name, overflow="fold")
    for index, name in enumerate(("requests", "prompt", "cached", "answer", "USD")):
        # A name may be folded, an amount may not.
        width = max([len(name), *(len(figures[index]) for figures in shown)])
        table.add_column(name, justify="right", min_width=width)
    for row, figures in zip(rows, shown, strict=True):
        table.add_row(*row.group.values(), *figures)
    console = Console()
    least = sum((column.min_width or _FOLDED) + 2 for column in table.columns)
    Console(width=max(console.width, least)).print(table)
    total = sum(row.charge_micro_usd for row in rows)
    print(f"together: {sum(row.requests for row in rows):,} requests, {usd(total):,.6f} USD")
    unsure = sum(row.open_requests + row.cut_off_requests for row in rows)
    if unsure:
        print(f"{unsure:,} of them run, or were cut off and wait for their device's word")

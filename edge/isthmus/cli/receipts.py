"""`isthmus privacy receipt / verify / export / report`: what is on record about what left."""

from __future__ import annotations

import json
import re
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.core.errors import InvalidRequest

if TYPE_CHECKING:
    from isthmus.privacy.receipts import Entry

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object as the last line.")]
Since = Annotated[str, typer.Option(help="How far back: 30m, 12h, 7d; or 'all'.", metavar="PERIOD")]
_UNITS_S = {"m": 60, "h": 3600, "d": 86400}


def receipt(
    request_id: Annotated[str, typer.Argument(help="The answer's x-request-id.")],
) -> None:
    """Show the receipt of one answer: where it was made and what left the device for it."""
    from isthmus.edge.receipts import find

    with _ledger() as db:
        entry = find(db, request_id)
    if entry is None:
        raise InvalidRequest("there is no receipt of such a request here", field="REQUEST_ID")
    print(json.dumps(entry.json()))


def verify(
    file: Annotated[
        Path | None, typer.Argument(help="An export; without it this device's own ledger.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(help="The public key that must have signed; else this device's own."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check that no receipt was altered, left out or put elsewhere.

    Exit status 1 when something is wrong.
    """
    from isthmus.edge.receipts import misfiled, read_chain, read_head
    from isthmus.privacy.receipts import Malformed, check

    public = key or _own_key()
    try:
        if file is not None:
            entries = list(_read_export(file))
            checked = check(entries[:-1], entries[-1] if entries else None, public)
        else:
            with _ledger() as db:
                checked = check(read_chain(db), read_head(db), public)
                checked = replace(checked, problems=(*checked.problems, *misfiled(db)))
    except Malformed as error:
        raise InvalidRequest(str(error), field="--key") from None
    for problem in checked.problems:
        print(problem, file=sys.stderr)
    if as_json:
        print(
            json.dumps(
                {
                    "receipts": checked.receipts,
                    "first": checked.first,
                    "key": public,
                    "problems": checked.problems,
                }
            )
        )
    elif not checked.problems:
        start = f" from {checked.first} on" if checked.first not in {None, 1} else ""
        print(f"receipts{start}: {checked.receipts}, whole, and signed with {public}")
    if checked.problems:
        raise typer.Exit(1)


def export(
    out: Annotated[Path, typer.Argument(help="The JSONL file to write.")],
    since: Since = "all",
) -> None:
    """Write the receipts as JSON lines, the signed head as the last one."""
    from isthmus.edge.receipts import read_chain, read_head

    with _ledger() as db:
        lines = [json.dumps(one.json()) for one in read_chain(db, since_unix_s=_start(since))]
        head = read_head(db)
    if head is None:
        raise InvalidRequest("there are no receipts yet", field="OUT")
    lines.append(json.dumps(head.json()))
    try:
        out.write_text("\n".join(lines) + "\n", "utf-8")
    except OSError as error:
        raise InvalidRequest(f"cannot write {out}: {error.strerror}", field="OUT") from None
    print(f"receipts in {out}: {len(lines) - 1}", file=sys.stderr)


def report(since: Since = "7d", as_json: AsJson = False) -> None:
    """Sum up a period: what stayed on the device, what was redacted, what was allowed to leave."""
    from isthmus.edge.receipts import read_chain

    with _ledger() as db:
        found = summary(entry.read() for entry in read_chain(db, since_unix_s=_start(since)))
    if as_json:
        print(json.dumps({"since": since} | found))
        return
    asked = found["requests"]
    print(f"requests ({since}): {sum(asked.values())}; bytes that left: {found['bytes_left']:,}")
    for what, count in asked.items():
        print(f"  {what:9} {count:7}")
    if found["labels"]:
        print(f"{'values':16} {'stayed':>8} {'redacted':>9} {'allowed':>8}")
    for label, counts in found["labels"].items():
        print(f"  {label:14} {counts['stayed']:8} {counts['redacted']:9} {counts['allowed']:8}")


def summary(statements: Iterator[dict[str, Any]]) -> dict[str, Any]:
    """Counts of requests by what became of them, of values by label, and the bytes that left."""
    requests: Counter[str] = Counter(stayed=0, redacted=0, allowed=0)
    labels: dict[str, Counter[str]] = {}
    bytes_left = 0
    for statement in statements:
        treatments: Counter[str] = Counter()
        for label, counts in statement["labels"].items():
            labels.setdefault(label, Counter(stayed=0, redacted=0, allowed=0)).update(counts)
            treatments.update(counts)
        sent = statement["sent"]
        bytes_left += sum(message["size_bytes"] for message in sent)
        left = "redacted" if treatments["redacted"] else "allowed"
        requests[left if sent else "stayed"] += 1
    return {
        "requests": dict(requests),
        "labels": {label: dict(labels[label]) for label in sorted(labels)},
        "bytes_left": bytes_left,
    }


def _ledger() -> AbstractContextManager[sqlite3.Connection]:
    from isthmus.edge.ledger import ledger_path, open_ledger

    if not ledger_path().exists():
        raise InvalidRequest(
            f"there is no ledger yet ({ledger_path()}): it is made by the first request to "
            "isthmus up or isthmus edge serve",
            field="ISTHMUS_HOME",
        )
    return open_ledger(ledger_path())


def _own_key() -> str:
    from isthmus.core.paths import home
    from isthmus.edge.receipts import KEY_FILE, device_key

    if not (home() / KEY_FILE).exists():
        raise InvalidRequest(
            "this device has no key yet (isthmus up makes it), so it has signed nothing: "
            "give the public key of the device that did",
            field="--key",
        )
    return device_key(home()).public


def _start(since: str) -> float:
    if since == "all":
        return 0.0
    found = re.fullmatch(r"(\d{1,6})([mhd])", since)
    if found is None:
        raise InvalidRequest("must be like 30m, 12h or 7d, or 'all'", field="--since")
    return time.time() - int(found[1]) * _UNITS_S[found[2]]


def _read_export(file: Path) -> Iterator[Entry]:
    from isthmus.cli.generate import read_text
    from isthmus.privacy.receipts import Entry, Malformed

    for number, line in enumerate(read_text(file).splitlines(), start=1):
        try:
            value = json.loads(line)
            yield Entry.from_json(value if isinstance(value, dict) else {})
        except (Malformed, json.JSONDecodeError):
            raise InvalidRequest(
                f"line {number} is no receipt; was it written by isthmus privacy export?",
                field="FILE",
            ) from None

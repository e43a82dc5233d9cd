"""What a device says that it received, beside what was written down for it.

An answer that a gateway settled is charged as it did. One that a kill left open is brought to the
device's figure. A device can have heard less than was written down by any number: what lay unread
in a connection's buffers goes with the connection. It can have heard more by `CHECKPOINT_TOKENS`
and no more, since none is shown ahead of that: a claim beyond is cut to it, and counted. A device
cannot bring a kill about, so it cannot gain by claims. Tokens of the prompt are the gateway's to
count, and are taken from the device only where a kill came first.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

import sqlalchemy as sa

from isthmus.cloud.identity.base import Caller
from isthmus.cloud.ledger.base import CHECKPOINT_TOKENS, Acknowledged, Reconciled
from isthmus.cloud.ledger.counters import Count
from isthmus.cloud.ledger.entries import Key, counted, is_row, price_of, shown_values
from isthmus.cloud.ledger.memory import shown
from isthmus.cloud.ledger.quotas import Use
from isthmus.cloud.ledger.tables import ABANDONED, OPEN, requests
from isthmus.core.decision import Status
from isthmus.core.money import Usage

_AT_A_TIME: Final = 200


def reconcile_rows(
    connection: sa.Connection,
    count: Count,
    caller: Caller,
    acknowledged: Sequence[Acknowledged],
    answering: Collection[Key],
) -> Reconciled:
    """Compare and correct. Of what this gateway is still `answering` it knows better."""
    by_id = {one.request_id: one.received for one in acknowledged}
    ids = sorted(by_id)
    results: list[str] = []
    for begin in range(0, len(ids), _AT_A_TIME):
        look = (
            sa.select(requests)
            .where(
                requests.c.tenant == caller.tenant,
                requests.c.device == caller.device,
                requests.c.request_id.in_(ids[begin : begin + _AT_A_TIME]),
            )
            .order_by(requests.c.request_id)
            .with_for_update()
        )
        for row in connection.execute(look).all():
            key = Key(row.tenant, row.device, row.request_id)
            if key not in answering:
                results.append(_reconcile(connection, count, key, row, by_id[row.request_id]))
    known = {name: results.count(name) for name in ("equal", "corrected", "disputed")}
    return Reconciled(**known, unknown=len(acknowledged) - len(results))


def _reconcile(
    connection: sa.Connection, count: Count, key: Key, row: sa.Row[Any], received: Usage
) -> str:
    if row.status not in {OPEN, ABANDONED} or row.reconciled:
        same = row.completion_tokens == received.completion_tokens
        return "equal" if same else "disputed"
    usage = _believed(row, received)
    is_open = row.status == OPEN
    values = shown_values(usage, price_of(row))
    connection.execute(
        sa.update(requests)
        .where(*is_row(key))
        .values(
            # A former owner that still lives is not heard from here on.
            epoch=row.epoch + 1 if is_open else row.epoch,
            status=ABANDONED,
            settled_ms=count.now_ms if is_open else row.settled_ms,
            reconciled=True,
            **values,
        )
    )
    was = counted(row)
    change = Use(
        0, usage.total_tokens - was.tokens, int(values["charge_micro_usd"]) - was.micro_usd
    )
    count.add(key.tenant, key.device, row.opened_ms, change, streams=-1 if is_open else 0)
    if usage.completion_tokens != received.completion_tokens:
        return "disputed"
    same = row.completion_tokens == received.completion_tokens
    return "equal" if same and not is_open else "corrected"


def _believed(row: sa.Row[Any], received: Usage) -> Usage:
    """The device's figure, or the nearest to it that can be true."""
    most = row.completion_tokens + CHECKPOINT_TOKENS
    completion_tokens = min(max(received.completion_tokens, 0), most)
    if row.prompt_tokens:
        told = Usage(row.prompt_tokens, completion_tokens, row.cached_tokens)
    else:
        # The kill came before the first checkpoint: the device alone knows what it was told.
        room = max(row.reserved_tokens, row.prompt_tokens)
        prompt_tokens = min(received.prompt_tokens, room)
        told = Usage(prompt_tokens, completion_tokens, min(received.cached_tokens, prompt_tokens))
    return shown(told, Status.FAILED)

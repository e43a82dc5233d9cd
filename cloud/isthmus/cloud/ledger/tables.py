"""The tables. Sums are whole micro-dollars, instants milliseconds since 1970, days UTC."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
)

metadata: Final = MetaData()

OPEN: Final = "open"
"""The status of a request that is being answered; the others are those of `core.Status`."""
ABANDONED: Final = "abandoned"
"""The status of a request whose gateway died: charged as far as it was written down."""

requests: Final = Table(
    "requests",
    metadata,
    Column("tenant", String, primary_key=True),
    Column("device", String, primary_key=True),
    Column("request_id", String, primary_key=True),
    Column("body_hash", LargeBinary, nullable=False),
    Column("model", String, nullable=False),
    Column("day", String(10), nullable=False),
    Column("opened_ms", BigInteger, nullable=False),
    # The lease: what another epoch or another gateway writes is not heard.
    Column("owner", String, nullable=False),
    Column("epoch", Integer, nullable=False),
    # The price it is charged at, in micro-dollars per million tokens.
    Column("input_rate", BigInteger, nullable=False),
    Column("cached_rate", BigInteger, nullable=False),
    Column("output_rate", BigInteger, nullable=False),
    # What was shown, as of the last checkpoint, and what that costs.
    Column("began", Boolean, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("charge_micro_usd", BigInteger, nullable=False),
    # What quotas count while it is open: the most that it may become.
    Column("reserved_tokens", BigInteger, nullable=False),
    Column("reserved_micro_usd", BigInteger, nullable=False),
    Column("status", String, nullable=False),
    Column("settled_ms", BigInteger),
    Column("reconciled", Boolean, nullable=False),
)
"""One row a request of a device: reservation, lease and charge at once."""

Index("requests_by_day", requests.c.day, requests.c.tenant)
Index("requests_by_opening", requests.c.tenant, requests.c.opened_ms)
Index(
    "requests_open",
    requests.c.owner,
    sqlite_where=requests.c.status == OPEN,
    postgresql_where=requests.c.status == OPEN,
)

counters: Final = Table(
    "counters",
    metadata,
    Column("tenant", String, primary_key=True),
    Column("device", String, primary_key=True),
    Column("period", String, primary_key=True),
    Column("start_ms", BigInteger, primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("micro_usd", BigInteger, nullable=False),
)
"""What a quota has used of a period; the tenant's own has no device. Made from `requests`, and
the lock under which a quota is looked at and used."""

gateways: Final = Table(
    "gateways",
    metadata,
    Column("gateway", String, primary_key=True),
    Column("alive_until_ms", BigInteger, nullable=False),
)
"""Which gateways live. What a dead one left open is settled by the others."""

usage_days: Final = Table(
    "usage_days",
    metadata,
    Column("tenant", String, primary_key=True),
    Column("device", String, primary_key=True),
    Column("model", String, primary_key=True),
    Column("day", String(10), primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("charge_micro_usd", BigInteger, nullable=False),
    Column("cut_off_requests", BigInteger, nullable=False),
)
"""What requests used that are older than `keep_days`; their rows are gone."""

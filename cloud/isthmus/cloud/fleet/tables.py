"""The fleet's tables, in the ledger's database. Instants are milliseconds since 1970."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
)

from isthmus.cloud.ledger.tables import metadata

outcomes: Final = Table(
    "fleet_outcomes",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("day", Integer, nullable=False),
)
"""What was counted: a hash of tenant, device and request, and the day of the report since 1970."""

Index("fleet_outcomes_by_day", outcomes.c.day)

bundles: Final = Table(
    "fleet_bundles",
    metadata,
    Column("tenant", String, primary_key=True),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("version", String, nullable=False),
    Column("published_ms", BigInteger, nullable=False),
    Column("rolls_back_to", BigInteger),
    Column("payload", LargeBinary, nullable=False),
    Column("signature", LargeBinary, nullable=False),
    # Who is handed it: named devices, and a share of the classes, drawn by this salt.
    Column("percent", Float, nullable=False),
    Column("classes", String, nullable=False),
    Column("devices", String, nullable=False),
    Column("salt", LargeBinary, nullable=False),
)
"""Bundles as they were signed, and their stages. Lists are JSON."""

devices: Final = Table(
    "fleet_devices",
    metadata,
    Column("tenant", String, primary_key=True),
    Column("device", String, primary_key=True),
    Column("device_class", String, nullable=False),
    Column("seen_ms", BigInteger, nullable=False),
    Column("reported_ms", BigInteger),
    # What it runs, and what became of the last bundle that it tried.
    Column("sequence", BigInteger, nullable=False),
    Column("tried_sequence", BigInteger, nullable=False),
    Column("state", String, nullable=False),
    Column("problem", String, nullable=False),
    # How it is, where its owner shares that.
    Column("shares", Boolean, nullable=False),
    Column("software", String, nullable=False),
    Column("backend", String, nullable=False),
    Column("battery", String, nullable=False),
    Column("heat", String, nullable=False),
    Column("offline_s", BigInteger, nullable=False),
    Column("dropped_rows", BigInteger, nullable=False),
)
"""What each device said last."""

"""Requests, what quotas have used, and the gateways that live."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the first tables."""
    op.create_table(
        "requests",
        sa.Column("tenant", sa.String, primary_key=True),
        sa.Column("device", sa.String, primary_key=True),
        sa.Column("request_id", sa.String, primary_key=True),
        sa.Column("body_hash", sa.LargeBinary, nullable=False),
        sa.Column("model", sa.String, nullable=False),
        sa.Column("day", sa.String(10), nullable=False),
        sa.Column("opened_ms", sa.BigInteger, nullable=False),
        sa.Column("owner", sa.String, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("input_rate", sa.BigInteger, nullable=False),
        sa.Column("cached_rate", sa.BigInteger, nullable=False),
        sa.Column("output_rate", sa.BigInteger, nullable=False),
        sa.Column("began", sa.Boolean, nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger, nullable=False),
        sa.Column("cached_tokens", sa.BigInteger, nullable=False),
        sa.Column("completion_tokens", sa.BigInteger, nullable=False),
        sa.Column("charge_micro_usd", sa.BigInteger, nullable=False),
        sa.Column("reserved_tokens", sa.BigInteger, nullable=False),
        sa.Column("reserved_micro_usd", sa.BigInteger, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("settled_ms", sa.BigInteger),
        sa.Column("reconciled", sa.Boolean, nullable=False),
    )
    op.create_index("requests_by_day", "requests", ["day", "tenant"])
    op.create_index("requests_by_opening", "requests", ["tenant", "opened_ms"])
    still_open = sa.text("status = 'open'")
    op.create_index(
        "requests_open",
        "requests",
        ["owner"],
        sqlite_where=still_open,
        postgresql_where=still_open,
    )
    op.create_table(
        "counters",
        sa.Column("tenant", sa.String, primary_key=True),
        sa.Column("device", sa.String, primary_key=True),
        sa.Column("period", sa.String, primary_key=True),
        sa.Column("start_ms", sa.BigInteger, primary_key=True),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column("tokens", sa.BigInteger, nullable=False),
        sa.Column("micro_usd", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "gateways",
        sa.Column("gateway", sa.String, primary_key=True),
        sa.Column("alive_until_ms", sa.BigInteger, nullable=False),
    )

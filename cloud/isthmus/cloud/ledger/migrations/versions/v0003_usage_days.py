"""What requests used that are no longer kept one by one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the table of days."""
    op.create_table(
        "usage_days",
        sa.Column("tenant", sa.String, primary_key=True),
        sa.Column("device", sa.String, primary_key=True),
        sa.Column("model", sa.String, primary_key=True),
        sa.Column("day", sa.String(10), primary_key=True),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger, nullable=False),
        sa.Column("cached_tokens", sa.BigInteger, nullable=False),
        sa.Column("completion_tokens", sa.BigInteger, nullable=False),
        sa.Column("charge_micro_usd", sa.BigInteger, nullable=False),
        sa.Column("cut_off_requests", sa.BigInteger, nullable=False),
    )

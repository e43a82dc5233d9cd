"""What devices report, and what they are handed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the fleet's tables."""
    op.create_table(
        "fleet_outcomes",
        sa.Column("digest", sa.LargeBinary, primary_key=True),
        sa.Column("day", sa.Integer, nullable=False),
    )
    op.create_index("fleet_outcomes_by_day", "fleet_outcomes", ["day"])
    op.create_table(
        "fleet_bundles",
        sa.Column("tenant", sa.String, primary_key=True),
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("version", sa.String, nullable=False),
        sa.Column("published_ms", sa.BigInteger, nullable=False),
        sa.Column("rolls_back_to", sa.BigInteger),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("signature", sa.LargeBinary, nullable=False),
        sa.Column("percent", sa.Float, nullable=False),
        sa.Column("classes", sa.String, nullable=False),
        sa.Column("devices", sa.String, nullable=False),
        sa.Column("salt", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "fleet_devices",
        sa.Column("tenant", sa.String, primary_key=True),
        sa.Column("device", sa.String, primary_key=True),
        sa.Column("device_class", sa.String, nullable=False),
        sa.Column("seen_ms", sa.BigInteger, nullable=False),
        sa.Column("reported_ms", sa.BigInteger),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("tried_sequence", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("problem", sa.String, nullable=False),
        sa.Column("shares", sa.Boolean, nullable=False),
        sa.Column("software", sa.String, nullable=False),
        sa.Column("backend", sa.String, nullable=False),
        sa.Column("battery", sa.String, nullable=False),
        sa.Column("heat", sa.String, nullable=False),
        sa.Column("offline_s", sa.BigInteger, nullable=False),
        sa.Column("dropped_rows", sa.BigInteger, nullable=False),
    )

"""The fleet as the gateway sees it: what devices report, and the bundles that they are handed."""

from __future__ import annotations

import sqlalchemy as sa

from isthmus.cloud.fleet.config import FleetConfig
from isthmus.cloud.fleet.metrics import FleetMetrics
from isthmus.cloud.fleet.service import Fleet
from isthmus.cloud.ledger.base import Ledger
from isthmus.cloud.ledger.config import LedgerConfig
from isthmus.cloud.ledger.database import make_engine
from isthmus.cloud.metrics import Metrics


def create(config: FleetConfig, database: LedgerConfig, ledger: Ledger, metrics: Metrics) -> Fleet:
    """The fleet in the ledger's database; opens nothing yet. Raises `ConfigError`."""
    engine = make_engine(database_url(database), timeout_s=database.wait_s)
    fleet = Fleet(config, engine, ledger, FleetMetrics(config, metrics.registry))
    metrics.add([fleet.snapshot])
    return fleet


def database_url(database: LedgerConfig) -> sa.URL:
    """Where the fleet is kept: with the ledger, or in memory where that forgets."""
    return sa.make_url("sqlite://") if database.kind == "off" else database.url()

"""What is owed: usage by device, tenant, model and day, in whole micro-dollars."""

from __future__ import annotations

from isthmus.cloud.ledger.base import Ledger, Observer
from isthmus.cloud.ledger.config import LedgerConfig
from isthmus.cloud.ledger.memory import MemoryLedger
from isthmus.cloud.ledger.prices import PriceBook
from isthmus.cloud.ledger.quotas import QuotaConfig
from isthmus.core.errors import ConfigError


def create(
    config: LedgerConfig,
    prices: PriceBook,
    quotas: QuotaConfig,
    observer: Observer | None = None,
) -> Ledger:
    """The ledger that `config` asks for; opens nothing yet. Raises `ConfigError`."""
    if config.kind == "off":
        if quotas != QuotaConfig():
            raise ConfigError('quotas need a ledger; ledger.kind is "off"', field="quotas")
        return MemoryLedger(prices.price)
    from isthmus.cloud.ledger.database import make_engine
    from isthmus.cloud.ledger.sql import SqlLedger

    return SqlLedger(
        make_engine(config.url(), timeout_s=config.wait_s),
        prices=prices,
        quotas=quotas,
        observer=observer,
        wait_s=config.wait_s,
        late_dir=config.late_folder,
        keep_days=config.keep_days,
    )

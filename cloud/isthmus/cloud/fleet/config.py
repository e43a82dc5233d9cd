"""The settings of the fleet."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class FleetConfig(BaseModel):
    """The gateway's table `fleet`. What devices report and are handed lies in the ledger's
    database; with `ledger.kind = "off"` it is forgotten at the end.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    sync_interval_s: float = Field(default=300.0, ge=0.05, le=86_400)
    """How often devices are asked to come for bundles."""
    remember_days: int = Field(default=30, ge=1, le=3650)
    """How long an outcome is known again. Longer than devices keep one (`fleet.spool_days`)."""
    max_classes: int = Field(default=32, ge=1, le=1000)
    """Device classes with series of their own; further ones count as `other`."""
    max_models: int = Field(default=32, ge=1, le=1000)
    """Models with series of their own; further ones count as `other`."""
    max_tenants: int = Field(default=32, ge=1, le=1000)
    """Tenants whose bundles have series of their own; those of further ones count as `other`."""
    snapshot_s: float = Field(default=15.0, ge=0.05, le=3600)
    """How old the figures of devices and bundles in `/metrics` may be."""

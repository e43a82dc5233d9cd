"""The settings of the device as one of a fleet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class FleetConfig(BaseModel):
    """The agent's table `fleet`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    key_file: Path | None = None
    """The operator's public keys, PEM (`isthmus cloud fleet key`). None: no bundle is taken."""
    sync_interval_s: Seconds = 300.0
    """How often the gateway is asked for a bundle, unless it says otherwise itself."""
    share: bool | None = None
    """Whether outcomes and the device's coarse state are shared with the operator, beyond what is
    billed. None: as `isthmus privacy consent --share` says, else not. False forbids it."""
    report_interval_s: Seconds = 60.0
    """How often the spool is sent."""
    spool_rows: Annotated[int, Field(ge=1, le=10_000_000)] = 20_000
    """The most rows that wait for a gateway; then the oldest are dropped."""
    spool_days: Seconds = 14.0
    """How old they may become."""

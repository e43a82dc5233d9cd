"""When the cloud or a network is gone for a while."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from isthmus.core.errors import ConfigError

_FORM = re.compile(
    r"(?P<what>cloud|network)(?::(?P<which>[\w.-]+))?@(?P<hour>\d{1,3}):(?P<minute>[0-5]\d)"
    r"\+(?P<length>\d+(?:\.\d+)?)(?P<unit>[hms])"
)
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0}


class Part(StrEnum):
    """What fails."""

    CLOUD = "cloud"
    NETWORK = "network"


@dataclass(frozen=True, slots=True)
class Outage:
    """From `start_s` on, seconds after the first one of the run, something is gone."""

    part: Part
    start_s: float
    length_s: float
    network: str | None = None
    """The kind of network that is gone; None: all of them."""
    gpus_left: float = 0.0
    """The share of the GPUs that goes on, when the cloud fails."""

    @property
    def end_s(self) -> float:
        """When it is back."""
        return self.start_s + self.length_s


def parse_outage(text: str) -> Outage:
    """`cloud@13:00+1h`, `cloud:0.5@13:00+1h` (half of the GPUs go on), `network@13:00+1h`,
    `network:5g@13:30+20m`. The time counts from the start of the run.
    """
    form = _FORM.fullmatch(text.strip())
    if form is None:
        raise ConfigError(
            "is not of the form cloud@13:00+1h, cloud:0.5@13:00+1h (the share of GPUs that goes "
            "on) or network:5g@13:00+1h",
            field="fail",
        )
    part, which = Part(form["what"]), form["which"]
    left = 0.0
    if part is Part.CLOUD and which is not None:
        try:
            left = float(which)
        except ValueError:
            left = -1.0
        if not 0 <= left < 1:
            raise ConfigError(
                "needs a share of GPUs that goes on, from 0 to below 1: cloud:0.5@13:00+1h",
                field="fail",
            )
    start_s = int(form["hour"]) * 3600.0 + int(form["minute"]) * 60.0
    length_s = float(form["length"]) * _UNITS[form["unit"]]
    if not length_s:
        raise ConfigError("must last longer than no time", field="fail")
    network = which if part is Part.NETWORK else None
    return Outage(part, start_s, length_s, network, left)

"""What a sensor is, and which figures cannot be."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from isthmus.router.signals import DeviceHealth


class Sensor(Protocol):
    """Something that knows of the device's state."""

    @property
    def name(self) -> str: ...

    @property
    def slow(self) -> bool:
        """Whether asking may take seconds: then it is asked ever more seldom while it fails."""
        ...

    def read(self) -> DeviceHealth:
        """What it knows now. May block for seconds; may raise anything: then it knows nothing."""
        ...


def plausible(health: DeviceHealth) -> DeviceHealth:
    """`health` without figures that cannot be."""
    limits = {
        "battery": (0.0, 1.0),
        "battery_wh": (0.01, 1e5),
        "battery_temperature_c": (-40.0, 150.0),
        "temperature_c": (-40.0, 150.0),
        "load": (0.0, 1.0),
        "memory_free_bytes": (0, 2**60),
    }
    wrong: dict[str, None] = {
        name: None
        for name, (least, most) in limits.items()
        if (value := getattr(health, name)) is not None and not least <= value <= most
    }
    return replace(health, **wrong) if wrong else health

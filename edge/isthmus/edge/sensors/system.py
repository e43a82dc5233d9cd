"""Load, memory and battery as psutil finds them on any system."""

from __future__ import annotations

import contextlib

from isthmus.edge.sensors.base import plausible
from isthmus.router.signals import DeviceHealth


class PsutilSensor:
    """What psutil knows of this system: load and memory everywhere, the rest here and there."""

    name = "psutil"
    slow = False

    def __init__(self) -> None:
        import psutil

        self._psutil = psutil
        psutil.cpu_percent(interval=None)  # the first one has no time to look back on

    def read(self) -> DeviceHealth:
        """What psutil says."""
        psutil = self._psutil
        battery = None
        if hasattr(psutil, "sensors_battery"):
            # On some machines it trips over its own files; load and memory are still known.
            with contextlib.suppress(Exception):
                battery = psutil.sensors_battery()
        return plausible(
            DeviceHealth(
                battery=None if battery is None else battery.percent / 100,
                charging=None if battery is None else battery.power_plugged,
                load=psutil.cpu_percent(interval=None) / 100,
                memory_free_bytes=psutil.virtual_memory().available,
            )
        )

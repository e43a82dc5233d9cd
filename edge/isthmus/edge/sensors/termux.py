"""Android's battery, for an agent that runs in Termux."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from typing import Any

from isthmus.edge.sensors.base import plausible
from isthmus.router.signals import DeviceHealth


class TermuxSensor:
    """Android's battery through the add-on Termux:API."""

    name = "termux"
    slow = True
    command = "termux-battery-status"

    def __init__(self, command: Sequence[str] | None = None, *, timeout_s: float = 4.0) -> None:
        self._command = [self.command] if command is None else list(command)
        self._timeout_s = timeout_s

    def read(self) -> DeviceHealth:
        """What the add-on says. Without its app the command never ends: that raises too."""
        done = subprocess.run(
            self._command, capture_output=True, timeout=self._timeout_s, check=True
        )
        said: dict[str, Any] = json.loads(done.stdout)
        percentage, temperature = said.get("percentage"), said.get("temperature")
        plugged = said.get("plugged")
        return plausible(
            DeviceHealth(
                battery=None if percentage is None else float(percentage) / 100,
                charging=None if plugged is None else plugged != "UNPLUGGED",
                battery_temperature_c=None if temperature is None else float(temperature),
            )
        )

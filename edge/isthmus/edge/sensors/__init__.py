"""The device's battery, heat and memory, from whatever this device has to tell them.

A sensor is asked in the background, never while a request waits. What it does not know is `None`,
never zero: what is absent takes no part in a decision. Of several sensors the first that knows a
figure gives it.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path

from isthmus.core.errors import ConfigError
from isthmus.edge.sensors.base import Sensor
from isthmus.edge.sensors.file import FileSensor
from isthmus.edge.sensors.sysfs import SysfsSensor
from isthmus.edge.sensors.system import PsutilSensor
from isthmus.edge.sensors.termux import TermuxSensor
from isthmus.router.signals import DeviceHealth

log = logging.getLogger(__name__)

NAMES = ("file", "termux", "sysfs", "psutil")
"""In the order in which they are asked."""
_MAX_BACKOFF = 6
"""How often the pause after a failure is doubled at most."""


class Sensors:
    """Asks the sensors every `interval_s`, in a thread of its own; `health` never waits."""

    def __init__(self, sensors: Sequence[Sensor] = (), *, interval_s: float = 10.0) -> None:
        self.health = DeviceHealth()
        """What was read last."""
        self.problems: dict[str, str] = {}
        """Why a sensor said nothing, by its name."""
        self._sensors = tuple(sensors)
        self._interval_s = interval_s
        self._failures = dict.fromkeys((one.name for one in sensors), 0)
        self._turn = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to ask. Idempotent."""
        if self._sensors and self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="isthmus-sensors", daemon=True)
            self._thread.start()

    def sample(self) -> DeviceHealth:
        """Ask every sensor now. Blocking."""
        health = DeviceHealth()
        for sensor in self._sensors:
            failures = self._failures[sensor.name]
            if sensor.slow and self._turn % 2**failures:
                continue
            try:
                health = _first_known(health, sensor.read())
            except Exception as error:
                self._failures[sensor.name] = min(failures + 1, _MAX_BACKOFF)
                self.problems[sensor.name] = f"{type(error).__name__}: {error}"
                if not failures:
                    log.info("the sensor %s says nothing (%s)", sensor.name, type(error).__name__)
            else:
                self._failures[sensor.name] = 0
                self.problems.pop(sensor.name, None)
        self._turn += 1
        self.health = health
        return health

    def close(self) -> None:
        """Stop asking. A sensor that hangs is left to itself."""
        self._stop.set()

    def _watch(self) -> None:
        while not self._stop.is_set():
            self.sample()
            self._stop.wait(self._interval_s)


def make_sensors(
    names: Sequence[str] = NAMES, *, file: Path | None = None, interval_s: float = 10.0
) -> Sensors:
    """The sensors of this device, of those that are named. Raises `ConfigError`."""
    makers: dict[str, Callable[[], Sensor | None]] = {
        "file": lambda: None if file is None else FileSensor(file),
        "termux": lambda: TermuxSensor() if shutil.which(TermuxSensor.command) else None,
        "sysfs": lambda: SysfsSensor() if Path("/sys/class").is_dir() else None,
        "psutil": PsutilSensor,
    }
    unknown = sorted(set(names) - makers.keys())
    if unknown:
        raise ConfigError(
            f"knows no {unknown[0]}: the sensors are {', '.join(makers)}", field="sensors"
        )
    found = (makers[name]() for name in makers if name in names)
    return Sensors([one for one in found if one is not None], interval_s=interval_s)


def _first_known(health: DeviceHealth, more: DeviceHealth) -> DeviceHealth:
    """`health`, with what it does not know from `more`."""
    new = {
        one.name: value
        for one in fields(DeviceHealth)
        if getattr(health, one.name) is None and (value := getattr(more, one.name)) is not None
    }
    return replace(health, **new) if new else health

"""Linux: batteries, thermal zones and whether the processor is held back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from isthmus.edge.sensors.base import plausible
from isthmus.router.signals import DeviceHealth


class SysfsSensor:
    """Linux's power supplies and thermal zones, as a tree of small files.

    Source: the kernel's Documentation/ABI/testing/sysfs-class-power and sysfs-class-thermal.
    """

    name = "sysfs"
    slow = False
    _PROCESSOR = re.compile(r"cpu|soc|pkg|core|cluster|gpu|acpitz", re.IGNORECASE)
    _BATTERY = re.compile(r"batt", re.IGNORECASE)
    _COOLING = re.compile(r"processor|cpu", re.IGNORECASE)

    def __init__(self, root: Path = Path("/sys")) -> None:
        self._power = root / "class" / "power_supply"
        self._thermal = root / "class" / "thermal"

    def read(self) -> DeviceHealth:
        """What the files say; those that cannot be read say nothing."""
        health = self._supplies()
        zones = [(_text(zone / "type") or "", zone) for zone in self._all(self._thermal, "thermal")]
        processor = self._hottest(zone for kind, zone in zones if self._PROCESSOR.search(kind))
        battery = self._hottest(zone for kind, zone in zones if self._BATTERY.search(kind))
        held_back = [
            _number(device / "cur_state")
            for device in self._all(self._thermal, "cooling_device")
            if self._COOLING.search(_text(device / "type") or "")
        ]
        known = [state for state in held_back if state is not None]
        return plausible(
            replace(
                health,
                temperature_c=processor,
                battery_temperature_c=health.battery_temperature_c or battery,
                throttled=any(state > 0 for state in known) if known else None,
            )
        )

    def _supplies(self) -> DeviceHealth:
        shares, capacities, heats = list[float](), list[float](), list[float]()
        states, mains = set[str](), list[float]()
        for supply in self._all(self._power, ""):
            if _text(supply / "scope") == "Device":
                continue  # a mouse's
            if _text(supply / "type") != "Battery":
                online = _number(supply / "online")
                mains += [] if online is None else [online]
                continue
            share, heat = _number(supply / "capacity"), _number(supply / "temp")
            wh = _capacity_wh(supply)
            shares += [] if share is None else [share / 100]
            capacities += [] if wh is None else [wh]
            heats += [] if heat is None else [heat / 10]
            states.add(_text(supply / "status") or "")
        if not shares:
            return DeviceHealth()
        charging: bool | None = None
        if states & {"Charging", "Full", "Not charging"} or any(mains):
            charging = True
        elif "Discharging" in states or mains:
            charging = False
        return DeviceHealth(
            battery=sum(shares) / len(shares),
            charging=charging,
            battery_wh=sum(capacities) if capacities else None,
            battery_temperature_c=max(heats) if heats else None,
        )

    @staticmethod
    def _all(folder: Path, prefix: str) -> Iterator[Path]:
        try:
            yield from sorted(one for one in folder.iterdir() if one.name.startswith(prefix))
        except OSError:
            return

    @staticmethod
    def _hottest(zones: Iterator[Path]) -> float | None:
        # Zones that are switched off report nonsense: 0 K, or a counter's last value.
        heats = [heat / 1000 for zone in zones if (heat := _number(zone / "temp")) is not None]
        return max((heat for heat in heats if -40 < heat < 150), default=None)


def _capacity_wh(supply: Path) -> float | None:
    micro_wh = _number(supply / "energy_full")
    if micro_wh is not None:
        return micro_wh / 1e6
    micro_ah = _number(supply / "charge_full")
    micro_v = _number(supply / "voltage_min_design") or _number(supply / "voltage_now")
    return None if micro_ah is None or micro_v is None else micro_ah * micro_v / 1e12


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def _number(path: Path) -> float | None:
    text = _text(path)
    try:
        return None if text is None else float(text)
    except ValueError:
        return None

"""Any device's state, from a file that something on it keeps fresh."""

from __future__ import annotations

import json
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

from isthmus.edge.sensors.base import plausible
from isthmus.router.signals import DeviceHealth

_MAX_AGE_S = 120.0
_FLAGS = {"charging", "throttled"}


class FileSensor:
    """A JSON file with the fields of `DeviceHealth`, kept fresh by whatever knows them."""

    name = "file"
    slow = False

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> DeviceHealth:
        """What the file says; nothing when it is old. Raises for what is no such file."""
        if time.time() - self.path.stat().st_mtime > _MAX_AGE_S:
            return DeviceHealth()
        found: Any = json.loads(self.path.read_text(encoding="utf-8"))
        known = {one.name for one in fields(DeviceHealth)}
        if not isinstance(found, dict) or not found.keys() <= known:
            raise ValueError(f"an object with {', '.join(sorted(known))} is wanted")
        for name, value in found.items():
            fits = isinstance(value, int | float) and isinstance(value, bool) == (name in _FLAGS)
            if value is not None and not fits:
                raise ValueError(f"{name} is of the wrong kind")
        return plausible(DeviceHealth(**found))

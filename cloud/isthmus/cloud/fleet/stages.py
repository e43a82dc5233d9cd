"""Stages: which devices are handed a bundle. A share of them is drawn by a keyed hash, so that the
same devices stay in it while it grows, and none can tell beforehand, or arrange, that it is one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from isthmus.core.errors import InvalidRequest

_DRAWN = 1 << 64


@dataclass(frozen=True, slots=True)
class Stage:
    """Named devices, and `percent` of those of the named classes (none named: of all)."""

    percent: float = 100.0
    classes: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.percent <= 100:
            raise InvalidRequest("percent must be from 0 to 100", field="percent")

    def includes(self, device: str, device_class: str, salt: bytes) -> bool:
        """Whether a device is handed the bundle. `salt`: the bundle's own."""
        if device in self.devices:
            return True
        if self.classes and device_class not in self.classes:
            return False
        drawn = hashlib.blake2b(device.encode(), key=salt, digest_size=8).digest()
        return int.from_bytes(drawn) < self.percent / 100 * _DRAWN


def list_to_json(names: Sequence[str]) -> str:
    """As a column of the database."""
    return json.dumps(sorted(set(names)))


def list_from_json(text: str) -> tuple[str, ...]:
    """From a column of the database."""
    return tuple(json.loads(text))

"""What a device refused of what was chosen for it, and what runs instead: for `isthmus doctor`.

A refusal shows when a plan is made or a step first has its size, so it is kept in a file of this
machine until the same choice works, another is made, or the device's driver changes.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

from isthmus.core.errors import ConfigError
from isthmus.kernels.opencl.capabilities import Capabilities
from isthmus.kernels.opencl.files import write_whole

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Refusal:
    """One choice that is not used."""

    chosen: str
    instead: str
    reason: str

    def __str__(self) -> str:
        return f"{self.chosen} is refused ({self.reason}); {self.instead} runs instead"


class Refusals:
    """The refusals of one device, by a weight's form and tile; in `folder`, or nowhere."""

    def __init__(self, folder: Path | None, device: Capabilities) -> None:
        self._path = None if folder is None else folder / "refused.json"
        self._device = device.identity
        self._known = self._whole().get(self._device, {})

    @property
    def known(self) -> dict[str, Refusal]:
        """By form and tile."""
        return dict(self._known)

    def note(self, key: str, refusal: Refusal | None) -> None:
        """Remember what became of a choice; None where it works."""
        if self._known.get(key) == refusal:
            return
        if refusal is None:
            del self._known[key]
        else:
            _log.warning("%s: %s", key, refusal)
            self._known[key] = refusal
        if self._path is None:
            return
        whole = self._whole() | {self._device: self._known}
        told = {
            device: {key: asdict(one) for key, one in sorted(refusals.items())}
            for device, refusals in whole.items()
            if refusals
        }
        try:
            write_whole(self._path, json.dumps(told, indent=1) + "\n")
        except ConfigError as error:
            _log.warning("a refusal is not kept: %s", error.message)

    def _whole(self) -> dict[str, dict[str, Refusal]]:
        """All devices'; a damaged file is as good as none."""
        try:
            found = json.loads(self._path.read_text("utf-8")) if self._path else {}
            return {
                device: {key: Refusal(**one) for key, one in refusals.items()}
                for device, refusals in found.items()
            }
        except (OSError, ValueError, TypeError, AttributeError):
            return {}

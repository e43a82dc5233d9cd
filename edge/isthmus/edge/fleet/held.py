"""The bundles that a device keeps, and what became of them: a restart forgets nothing.

fleet/held.json      which bundle is in use, which before it, the highest sequence ever taken,
and how the last trial ended
fleet/bundle-7.pb    a bundle as it came, signature included: it is checked again when read
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from pathlib import Path

from google.protobuf.message import DecodeError
from pydantic import TypeAdapter, ValidationError

from isthmus.core.bundle import BundleState, SignedBundle
from isthmus.core.errors import ConfigError
from isthmus.core.paths import write_whole
from isthmus.core.wire.fleet import signed_from_wire, signed_to_wire
from isthmus.v1 import fleet_pb2

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Held:
    """What is written down. A sequence of 0 stands for no bundle."""

    sequence: int = 0
    """In use."""
    previous: int = 0
    """In use before, to go back to."""
    highest: int = 0
    """Ever taken: what is below is a replay."""
    tried: int = 0
    """Tried last."""
    state: BundleState | None = None
    """What became of that one."""
    problem: str = ""
    software: str = ""
    """The version that refused it: a newer one may try again."""
    starts: int = 0
    """How often the agent began with the bundle in use and did not live long."""


class HeldBundles:
    """The folder. Blocking; raises `ConfigError` where it cannot be written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self) -> Held:
        """What is written down; nothing where there is nothing, or it is damaged."""
        try:
            text = (self._folder / "held.json").read_bytes()
            return TypeAdapter(Held).validate_json(text)
        except FileNotFoundError:
            return Held()
        except (OSError, ValidationError) as error:
            log.warning("what was held of bundles cannot be read: %s", type(error).__name__)
            return Held()

    def write(self, held: Held, *, new: SignedBundle | None = None) -> None:
        """Write `held` down, and `new`, the bundle in use, before it."""
        try:
            if new is not None:
                write_whole(self._path(held.sequence), signed_to_wire(new).SerializeToString())
            text = TypeAdapter(dict[str, object]).dump_json(asdict(held))
            write_whole(self._folder / "held.json", text)
            wanted = {self._path(held.sequence), self._path(held.previous)}
            for path in self._folder.glob("bundle-*.pb"):
                if path not in wanted:
                    path.unlink()
        except OSError as error:
            raise ConfigError(
                f"cannot keep bundles in {self._folder} ({error.strerror}): make it writable, or "
                "set ISTHMUS_HOME to another folder",
                field="ISTHMUS_HOME",
            ) from None

    def bundle(self, sequence: int) -> SignedBundle | None:
        """A bundle that was kept, not checked yet; None where it is gone."""
        try:
            return signed_from_wire(
                fleet_pb2.SignedBundle.FromString(self._path(sequence).read_bytes())
            )
        except (OSError, DecodeError):
            return None

    def _path(self, sequence: int) -> Path:
        return self._folder / f"bundle-{sequence}.pb"

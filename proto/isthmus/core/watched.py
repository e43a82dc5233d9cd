"""Files that are read again when they change: secrets, keys and certificates are replaced on disk
while a program runs.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Generic, TypeVar

from isthmus.core.errors import ConfigError

_log = logging.getLogger(__name__)

_T = TypeVar("_T")
_Stamp = tuple[int, int, int, int]

LOOK_S = 1.0
"""How often the files are looked at, at most."""


class Watched(Generic[_T]):
    """What `read` makes of `paths`; for any thread.

    A change that cannot be used (half of a pair, a file that is being written) is logged and leaves
    the value before in force, until the next change.
    """

    def __init__(
        self,
        paths: Iterable[Path],
        read: Callable[[], _T],
        *,
        on_read: Callable[[bool], None] = lambda good: None,
    ) -> None:
        """`read` raises `ConfigError` for what it cannot use, here too. `on_read` hears how each
        reading after the first went.
        """
        self._paths = tuple(paths)
        self._read = read
        self._on_read = on_read
        self._lock = threading.Lock()
        # Taken before the reading: what changes meanwhile is seen at the next look.
        self._stamps = self._stamped()
        self._value = read()
        self._looked_at_s = time.monotonic()

    def __call__(self) -> _T:
        """The value as it is now."""
        if time.monotonic() - self._looked_at_s >= LOOK_S:
            with self._lock:
                self._look()
        return self._value

    def _look(self) -> None:
        now_s = time.monotonic()
        if now_s - self._looked_at_s < LOOK_S:
            return  # another thread was here first
        self._looked_at_s = now_s
        stamps = self._stamped()
        if stamps == self._stamps:
            return
        self._stamps = stamps
        names = ", ".join(str(path) for path in self._paths)
        try:
            self._value = self._read()
        except ConfigError as error:
            _log.warning("%s changed and cannot be used, the one before stays: %s", names, error)
            self._on_read(False)
        else:
            _log.info("%s changed and was read again", names)
            self._on_read(True)

    def _stamped(self) -> tuple[_Stamp | None, ...]:
        return tuple(_stamp(path) for path in self._paths)


def _stamp(path: Path) -> _Stamp | None:
    """What changes with a file's content; a link counts as what it leads to."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def read_secret(path: Path, field: str) -> str:
    """A token that a file holds, without the white space around it. Raises `ConfigError`."""
    try:
        token = path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise ConfigError(f"{field} cannot be read ({error.strerror})", field=field) from None
    except ValueError:
        token = " "
    if not token:
        raise ConfigError(f"{field} is empty", field=field)
    if not token.isprintable() or " " in token:
        raise ConfigError(f"{field} must hold printable ASCII without spaces", field=field)
    return token


def read_bytes(path: Path, field: str) -> bytes:
    """The bytes of a file that the setting `field` names. Raises `ConfigError`."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{field} cannot be read ({error.strerror})", field=field) from None

"""Where Isthmus keeps its files: one folder, moved by ISTHMUS_HOME."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from pathlib import Path

import platformdirs

_making = threading.Lock()


def home() -> Path:
    """The folder for models, caches and the ledger; not created here."""
    configured = os.environ.get("ISTHMUS_HOME")
    return Path(configured).expanduser() if configured else platformdirs.user_data_path("isthmus")


def models_dir() -> Path:
    """Downloaded models, one folder each."""
    return home() / "models"


def cache_dir() -> Path:
    """What can be made again: prepared weights, compiled kernels."""
    return home() / "cache"


def tuned_dir() -> Path:
    """What was measured on this machine's devices: the choices of `isthmus tune`, and reports."""
    return home() / "tuned"


def make_private(path: Path) -> None:
    """Make an empty file that its owner alone can read, with its folder; one that is there stays.

    For what names devices, people or money. SQLite gives the files beside a database its mode.
    A file that is there is not opened: to close it again would drop the locks that this process
    holds on it (https://sqlite.org/howtocorrupt.html, section 2.2). Raises `OSError`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Nor may another thread lock the new file before its first descriptor is closed.
    with _making, contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def write_whole(path: Path, content: bytes) -> None:
    """Put `content` in the place of a file, for its owner alone: a reader sees the old or the new,
    whoever else writes it and whenever the power fails. Raises `OSError`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # with mode 0600
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        Path(draft).replace(path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


def file_at(path: Path) -> tuple[int, int] | None:
    """Which file lies at `path`: not the one that is open, if that was moved or deleted."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino

"""Files that are whole or not there."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from isthmus.core.errors import ConfigError


def write_whole(path: Path, text: str) -> None:
    """Write a file under another name and rename it. Raises `ConfigError` when that fails."""
    draft = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(text)
        Path(draft).replace(path)
    except OSError as error:
        if draft is not None:
            Path(draft).unlink(missing_ok=True)
        raise ConfigError(f"cannot write {path} ({error.strerror})", field="ISTHMUS_HOME") from None


def remove(path: Path) -> None:
    """Remove a file if it is there. Raises `ConfigError` when that fails."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(
            f"cannot remove {path} ({error.strerror})", field="ISTHMUS_HOME"
        ) from None

"""Who is let in no more: a file with a `tenant/device` or a token's `jti` a line."""

from __future__ import annotations

from pathlib import Path

from isthmus.core.errors import ConfigError
from isthmus.core.watched import read_bytes


def read_revoked(path: Path, field: str = "auth.revoked_file") -> frozenset[str]:
    """The names in the file at `path`; `#` begins a remark. Raises `ConfigError`."""
    try:
        text = read_bytes(path, field).decode()
    except UnicodeDecodeError:
        raise ConfigError(f"{field} is no text", field=field) from None
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return frozenset(line for line in lines if line)

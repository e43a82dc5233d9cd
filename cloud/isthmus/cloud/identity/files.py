"""Files of keys: replaced whole, and readable by their owner alone where they are secret."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from filelock import FileLock, Timeout

from isthmus.core.errors import ConfigError, Unavailable

_WRITING_S: Final = 10.0


@contextlib.contextmanager
def writable(folder: Path) -> Iterator[None]:
    """Write into `folder`, which is made if it is not there, its owner's alone.

    Raises `ConfigError` when it cannot be written.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise ConfigError(
            f"{error.filename or folder} cannot be written ({error.strerror})", field="folder"
        ) from None


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Be the only writer of `folder`. Raises `Unavailable` while another one writes."""
    with writable(folder):
        try:
            with FileLock(folder / ".lock", timeout=_WRITING_S):
                yield
        except Timeout:
            raise Unavailable(f"another process has been writing in {folder} for long") from None


def replace(path: Path, text: str, *, mode: int) -> None:
    """Write `text` beside `path` and put it in its place."""
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    """Write a private key so that its owner alone can read it."""
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    replace(path, pem.decode(), mode=0o600)

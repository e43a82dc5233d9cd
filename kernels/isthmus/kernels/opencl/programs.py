"""Kernel sources with their defines, and the compiled programs kept on disk by content."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path

_INCLUDE = re.compile(r'^#include "([a-z_0-9]+\.h)"$', re.MULTILINE)
_FORMAT = 1


@cache
def read_source(name: str) -> str:
    """A file of `kernels/cl` with its own includes in place: no driver has to find a file."""
    text = resources.files("isthmus.kernels").joinpath("cl", name).read_text("utf-8")
    return _INCLUDE.sub(lambda match: read_source(match[1]), text)


@dataclass(frozen=True, slots=True)
class Source:
    """A file of `kernels/cl` and the defines that override its defaults."""

    file: str
    defines: Mapping[str, int | float] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The source, includes in place."""
        return read_source(self.file)

    @property
    def options(self) -> str:
        """The compiler's options, always in the same order."""
        return " ".join(["-cl-std=CL1.2", *(f"-D{k}={v}" for k, v in sorted(self.defines.items()))])


class ProgramCache:
    """Compiled programs in a folder, or with None nowhere. A file is whole or not there."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def key(self, source: Source, device: str) -> str:
        """sha256 over everything that the compiler sees."""
        known = "\0".join((str(_FORMAT), device, source.options, source.text))
        return hashlib.sha256(known.encode()).hexdigest()

    def read(self, key: str) -> bytes | None:
        """The program of this key, or None when it was never kept."""
        if self._folder is None:
            return None
        try:
            return (self._folder / key).read_bytes()
        except OSError:
            return None

    def write(self, key: str, binary: bytes) -> None:
        """Keep a program. A full or read-only disk costs time at the next start, nothing else."""
        if self._folder is None:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            handle, draft = tempfile.mkstemp(dir=self._folder)
        except OSError:
            return
        try:
            with os.fdopen(handle, "wb") as out:
                out.write(binary)
            Path(draft).replace(self._folder / key)
        except OSError:
            Path(draft).unlink(missing_ok=True)

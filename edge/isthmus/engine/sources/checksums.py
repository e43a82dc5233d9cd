"""The checksums of a model folder, in a file that `sha256sum -c` reads."""

from __future__ import annotations

import hashlib
from pathlib import Path

NAME = "SHA256SUMS"


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_model(path: Path) -> str:
    """The sha256 of a model's weights: of its file, or of those of a folder, name by name."""
    if path.is_file():
        return sha256_of(path)
    sums = (f"{sha256_of(one)}  {one.name}\n" for one in sorted(path.glob("*.safetensors")))
    return hashlib.sha256("".join(sums).encode()).hexdigest()


def write_checksums(folder: Path) -> None:
    """Write those of every file in `folder`."""
    sums = {p.name: sha256_of(p) for p in sorted(folder.iterdir()) if p.name != NAME}
    (folder / NAME).write_text("".join(f"{digest}  {name}\n" for name, digest in sums.items()))


def first_wrong(folder: Path) -> str | None:
    """The first file that is not as it was when the checksums were written; None: all are.

    A folder without checksums has nothing to compare. Raises OSError.
    """
    try:
        lines = (folder / NAME).read_text("utf-8").splitlines()
    except FileNotFoundError:
        return None
    for line in lines:
        digest, _, name = line.partition("  ")
        path = folder / Path(name).name
        if not path.is_file() or sha256_of(path) != digest:
            return path.name
    return None

"""The trained file: small, versioned and checked. Arrays and words alone; nothing in it is run.

    magic        8 bytes, ISTHMUSR
    format       uint32, little endian, as all numbers
    header       uint32 length, then UTF-8 JSON: names, shapes and types of the arrays, the kinds,
                 the pairs, provenance and figures
    arrays       one after the other, as the header lists them, deflated together
    sha256       32 bytes, of everything before

A file is read whole, checked whole, and used only if every index in it stays inside and every
number is finite. Features are found by name: a file that was trained on others is refused.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.core.errors import ConfigError
from isthmus.router.features import NAMES
from isthmus.router.general import PARTS, General
from isthmus.router.ngrams import BINS
from isthmus.router.pair import Calibration, Pair
from isthmus.router.section import Section
from isthmus.router.trees import Forest

MAGIC, FORMAT = b"ISTHMUSR", 1
MAX_BYTES = 16 << 20
"""Longest file; the one that ships has well under a megabyte."""
_TYPES = {"<f4": np.float32, "<i4": np.int32, "<i2": np.int16, "|i1": np.int8}
_TREES = ("feature", "threshold", "left", "right", "value", "roots", "starts", "bias")
_GENERAL = (
    "mean", "scale", "gate", "line", "ngrams", "ngram_scale", "ngram_bias", "blend",
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class RouterFile:
    """What was trained: the general heads, and what is known of pairs."""

    general: General
    calibrations: tuple[Calibration, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)
    """What cross-validation gave when it was trained."""
    sections: Mapping[str, Section] = field(default_factory=dict)
    """What else was trained, by name: the heads that read the device's own doubt."""
    version: str = ""
    """The start of the file's sha256; empty for one that was never stored."""

    def calibration(self, pair: Pair | None) -> Calibration | None:
        """What is known of `pair`, if anything."""
        return next((known for known in self.calibrations if known.pair == pair), None)

    def knowing(self, calibration: Calibration) -> RouterFile:
        """A copy with this calibration in the place of any other of its pair."""
        others = (known for known in self.calibrations if known.pair != calibration.pair)
        return replace(self, calibrations=(*others, calibration), version="")

    def having(self, sections: Mapping[str, Section]) -> RouterFile:
        """A copy with these sections put in or exchanged."""
        return replace(self, sections={**self.sections, **sections}, version="")

    def to_bytes(self) -> bytes:
        """The file."""
        trees = self.general.trees
        arrays = {f"trees.{name}": getattr(trees, name) for name in _TREES}
        arrays |= {name: getattr(self.general, name) for name in _GENERAL}
        arrays |= {f"pair.{i}": known.weights for i, known in enumerate(self.calibrations)}
        for name, section in sorted(self.sections.items()):
            arrays |= {f"section.{name}.{key}": a for key, a in sorted(section.arrays.items())}
        header = {
            "features": list(NAMES),
            "kinds": list(self.general.kinds),
            "depth": trees.depth,
            "pairs": [
                {"edge": c.pair.edge, "cloud": c.pair.cloud, "provenance": dict(c.provenance)}
                for c in self.calibrations
            ],
            "provenance": dict(self.provenance),
            "figures": dict(self.figures),
            "sections": {name: dict(section.says) for name, section in self.sections.items()},
            "arrays": [[name, a.dtype.str, list(a.shape)] for name, a in arrays.items()],
        }
        words = json.dumps(header, ensure_ascii=False, sort_keys=True).encode()
        start = MAGIC + struct.pack("<II", FORMAT, len(words)) + words
        plain = b"".join(np.ascontiguousarray(a).tobytes() for a in arrays.values())
        body = start + zlib.compress(plain, 9)
        return body + hashlib.sha256(body).digest()

    def save(self, path: Path) -> None:
        """Write the file; a reader sees the old one or the new one."""
        partial = path.with_name(f".{path.name}.partial")
        partial.write_bytes(self.to_bytes())
        partial.replace(path)


def load(path: Path) -> RouterFile:
    """The file at `path`. Raises `ConfigError` that says what is wrong with it."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}", field="router.file") from None
    try:
        return from_bytes(data)
    except ValueError as error:
        raise ConfigError(f"{path} is no trained file: {error}", field="router.file") from None


@cache
def shipped() -> RouterFile:
    """The file that comes with the package."""
    return from_bytes((files("isthmus.router") / "shipped.router").read_bytes())


def from_bytes(data: bytes) -> RouterFile:
    """The file of these bytes. Raises `ValueError` for anything that is not one."""
    fixed = len(MAGIC) + 8
    if len(data) > MAX_BYTES:
        raise ValueError(f"it is longer than {MAX_BYTES >> 20} MiB")
    if data[: len(MAGIC)] != MAGIC or len(data) < fixed + 32:
        raise ValueError(f"it does not begin with {MAGIC.decode()}, or is cut short")
    version, length = struct.unpack_from("<II", data, len(MAGIC))
    if version != FORMAT:
        raise ValueError(f"its format is {version}, and {FORMAT} is read here: train it again")
    digest = hashlib.sha256(data[:-32])
    if digest.digest() != data[-32:]:
        raise ValueError("its sha256 does not match: it is damaged or cut short")
    if length > len(data) - fixed - 32:
        raise ValueError("its header is longer than the file")
    header = json.loads(data[fixed : fixed + length].decode())
    inflate = zlib.decompressobj()
    try:
        body = inflate.decompress(data[fixed + length : -32], MAX_BYTES)
    except zlib.error as error:
        raise ValueError(f"its arrays cannot be inflated ({error})") from None
    if not inflate.eof or inflate.unused_data:
        raise ValueError("its arrays are too long, cut short or followed by something")
    try:
        return _read(header, memoryview(body), digest.hexdigest()[:12])
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"its header lacks or misplaces something ({error})") from None


def _read(header: Mapping[str, Any], body: memoryview, version: str) -> RouterFile:
    if tuple(header["features"]) != NAMES:
        raise ValueError("it was trained on other features: train it again")
    arrays = _arrays(header["arrays"], body)
    trees = Forest(**{name: arrays[f"trees.{name}"] for name in _TREES}, depth=header["depth"])
    trees.check(len(NAMES))
    kinds = tuple(str(kind) for kind in header["kinds"])
    general = General(kinds=kinds, trees=trees, **{name: arrays[name] for name in _GENERAL})
    f, k = len(NAMES), len(kinds)
    shapes = {
        "mean": (f,), "scale": (f,), "gate": (f + 1, k), "line": (f + 1, k),
        "ngrams": (BINS, k + 1), "ngram_scale": (k + 1,), "ngram_bias": (k + 1,),
        "blend": (len(PARTS),), "trees.starts": (k + 1,),
    }  # fmt: skip
    shapes |= {f"pair.{i}": (f + 2, 2) for i in range(len(header["pairs"]))}
    for name, shape in shapes.items():
        if arrays[name].shape != shape or not np.isfinite(arrays[name]).all():
            raise ValueError(f"its array {name} has the wrong shape or a number that is not finite")
    sections = {
        str(name): Section(
            says,
            {
                key.removeprefix(f"section.{name}."): array
                for key, array in arrays.items()
                if key.startswith(f"section.{name}.")
            },
        )
        for name, says in header.get("sections", {}).items()
    }
    if not all(section.finite() for section in sections.values()):
        raise ValueError("a section has a number that is not finite")
    calibrations = tuple(
        Calibration(
            Pair(str(pair["edge"]), str(pair["cloud"])), arrays[f"pair.{i}"], pair["provenance"]
        )
        for i, pair in enumerate(header["pairs"])
    )
    provenance, figures = header["provenance"], header["figures"]
    return RouterFile(general, calibrations, provenance, figures, sections, version)


def _arrays(listed: Sequence[Any], body: memoryview) -> dict[str, NDArray[Any]]:
    """The arrays, read-only views of `body`, which they fill exactly."""
    arrays: dict[str, NDArray[Any]] = {}
    at = 0
    for name, code, shape in listed:
        if code not in _TYPES or not all(isinstance(n, int) and 0 <= n <= MAX_BYTES for n in shape):
            raise ValueError(f"its array {name!r} is of a type or shape that is not read")
        size = math.prod(shape) * np.dtype(code).itemsize
        if size > len(body) - at:
            raise ValueError("its arrays are cut short")
        arrays[name] = np.frombuffer(body[at : at + size], code).reshape(shape)
        at += size
    if at != len(body):
        raise ValueError("something follows its arrays")
    return arrays

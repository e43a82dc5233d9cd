"""The trained file: small, versioned and checked. Arrays and words alone; nothing in it is run.

    magic        8 bytes, ISTHMUSR
    format       uint32, little endian, as all numbers
    header       uint32 length, then UTF-8 JSON: what each section says, the names, shapes and
                 types of the arrays (`section/name`), provenance and figures
    arrays       one after the other, as the header lists them, deflated together
    sha256       32 bytes, of everything before

A file is read whole and checked whole. What a section means its reader knows: the general heads
and the pairs are read here; the others (the second look, the option logits, the answer's text)
by those who ask for them.
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
from isthmus.router.learned import general, pair
from isthmus.router.learned.general import General
from isthmus.router.learned.pair import Calibration, Pair
from isthmus.router.learned.section import Section

MAGIC, FORMAT = b"ISTHMUSR", 2
MAX_BYTES = 16 << 20
"""Longest file, and longest arrays; the file that ships has well under a megabyte."""
_TYPES = ("<f4", "<i4", "<i2", "|i1")
_FIXED = len(MAGIC) + 8
_DIGEST = 32


@dataclass(frozen=True, slots=True, eq=False)
class RouterFile:
    """What was trained: the general heads, what is known of pairs, and other sections."""

    general: General
    calibrations: tuple[Calibration, ...] = ()
    sections: Mapping[str, Section] = field(default_factory=dict)
    """The other sections, by name."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)
    """What cross-validation gave when it was trained."""
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
        sections = {
            **self.sections,
            general.SECTION: self.general.section(),
            pair.SECTION: pair.section(self.calibrations),
        }
        arrays = {
            f"{name}/{key}": np.ascontiguousarray(array)
            for name, section in sections.items()
            for key, array in section.arrays.items()
        }
        header = {
            "sections": {name: dict(section.says) for name, section in sections.items()},
            "provenance": dict(self.provenance),
            "figures": dict(self.figures),
            "arrays": [[name, a.dtype.str, list(a.shape)] for name, a in arrays.items()],
        }
        words = json.dumps(header, ensure_ascii=False, sort_keys=True).encode()
        deflated = zlib.compress(b"".join(array.tobytes() for array in arrays.values()), 9)
        body = MAGIC + struct.pack("<II", FORMAT, len(words)) + words + deflated
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
    return from_bytes((files("isthmus.router.learned") / "shipped.router").read_bytes())


def from_bytes(data: bytes) -> RouterFile:
    """The file of these bytes. Raises `ValueError` for anything that is not one."""
    if len(data) > MAX_BYTES:
        raise ValueError(f"it is longer than {MAX_BYTES >> 20} MiB")
    if not data.startswith(MAGIC) or len(data) < _FIXED + _DIGEST:
        raise ValueError(f"it does not begin with {MAGIC.decode()}, or is cut short")
    version, length = struct.unpack_from("<II", data, len(MAGIC))
    if version != FORMAT:
        raise ValueError(f"its format is {version}, and {FORMAT} is read here: train it again")
    digest = hashlib.sha256(data[:-_DIGEST])
    if digest.digest() != data[-_DIGEST:]:
        raise ValueError("its sha256 does not match: it is damaged or cut short")
    if length > len(data) - _FIXED - _DIGEST:
        raise ValueError("its header is longer than the file")
    header = json.loads(data[_FIXED : _FIXED + length].decode())
    body = _inflated(data[_FIXED + length : -_DIGEST])
    try:
        sections = _sections(header["sections"], header["arrays"], memoryview(body))
        provenance, figures = dict(header["provenance"]), dict(header["figures"])
        heads = sections.pop(general.SECTION)
    except (KeyError, TypeError, AttributeError):
        raise ValueError("its header lacks something") from None
    known = pair.read(sections.pop(pair.SECTION, None))
    version_of = digest.hexdigest()[:12]
    return RouterFile(General.of(heads), known, sections, provenance, figures, version_of)


def _inflated(deflated: bytes) -> bytes:
    inflate = zlib.decompressobj()
    try:
        body = inflate.decompress(deflated, MAX_BYTES)
    except zlib.error as error:
        raise ValueError(f"its arrays cannot be inflated ({error})") from None
    if not inflate.eof or inflate.unused_data:
        raise ValueError("its arrays are too long, cut short or followed by something")
    return body


def _sections(
    says: Mapping[str, Any], listed: Sequence[Any], body: memoryview
) -> dict[str, Section]:
    """The sections, whose arrays are read-only views of `body` and fill it exactly."""
    arrays: dict[str, dict[str, NDArray[Any]]] = {str(name): {} for name in says}
    at = 0
    for path, code, shape in listed:
        if code not in _TYPES or not all(isinstance(n, int) and 0 <= n <= MAX_BYTES for n in shape):
            raise ValueError("an array is of a type or shape that is not read")
        size = math.prod(shape) * np.dtype(code).itemsize
        if size > len(body) - at:
            raise ValueError("its arrays are cut short")
        name, _, key = str(path).partition("/")
        arrays[name][key] = np.frombuffer(body[at : at + size], code).reshape(shape)
        at += size
    if at != len(body):
        raise ValueError("something follows its arrays")
    sections = {name: Section(dict(says[name]), held) for name, held in arrays.items()}
    if not all(section.finite() for section in sections.values()):
        raise ValueError("a number in it is not finite")
    return sections

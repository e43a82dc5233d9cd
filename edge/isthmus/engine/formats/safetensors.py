"""The safetensors format: https://huggingface.co/docs/safetensors.

A file is an 8-byte length, a JSON header, then the tensors. It is read and written here and not
by the library, so that one tensor at a time is in memory and bfloat16 needs no further package.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.engine.errors import ModelDamaged, ModelUnavailable
from isthmus.kernels.base import F32

_ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1,
               "U8": 1, "BOOL": 1}  # fmt: skip
FLOATS = ("F32", "F16", "BF16")
"""What a weight may be stored as, before quantization."""
_MAX_HEADER_BYTES = 100_000_000
INDEX = "model.safetensors.index.json"
WEIGHTS = "model.safetensors"


@dataclass(frozen=True, slots=True)
class Described:
    """A tensor's name, type and shape: rows first."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return int(np.prod(self.shape, dtype=np.int64)) * _ITEM_BYTES[self.dtype]


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """A tensor in a file. `raw` is a view of the file's memory map: [bytes] uint8"""

    described: Described
    raw: NDArray[np.uint8]

    @property
    def dtype(self) -> str:
        """As the format spells it."""
        return self.described.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows first."""
        return self.described.shape

    def as_float32(self, first: int = 0, last: int | None = None) -> F32:
        """Rows `first` to `last`. [rows, …] float32. Raises `ModelDamaged` for infinity or NaN."""
        rows = self.raw.reshape(self.shape[0], -1)[first:last]
        data = np.array(rows).reshape(-1)
        if self.dtype == "BF16":
            values = (data.view("<u2").astype(np.uint32) << np.uint32(16)).view(np.float32)
        else:
            values = data.view({"F32": "<f4", "F16": "<f2"}[self.dtype]).astype(np.float32)
        if not np.isfinite(values).all():
            raise ModelDamaged(
                f"tensor {self.described.name!r} holds values that are not finite; "
                "get the model again"
            )
        return values.reshape(-1, *self.shape[1:])


def read(folder: Path) -> dict[str, Stored]:
    """Every tensor of a model folder, in one file or in the several that its index names.

    Raises `ModelUnavailable` (cannot be read) or `ModelDamaged`.
    """
    try:
        tensors: dict[str, Stored] = {}
        for name in files_of(folder):
            tensors |= _read_file(folder / name)
    except OSError as error:
        raise ModelUnavailable(f"cannot read {error.filename}: {error.strerror}") from error
    return tensors


def files_of(folder: Path) -> list[str]:
    """The names of the weight files. Raises `ModelDamaged` for an index that is none."""
    index = folder / INDEX
    if not index.is_file():
        return [WEIGHTS]
    try:
        names = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        raise ModelDamaged(f"{index} is not an index of weight files") from error
    if not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise ModelDamaged(f"{index} names files outside its folder")
    return sorted(names)


def _read_file(path: Path) -> dict[str, Stored]:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(size - 8, _MAX_HEADER_BYTES):
            raise ModelDamaged(f"{path.name} is not a whole safetensors file; get it again")
        encoded = file.read(length)
    try:
        header: dict[str, Any] = json.loads(encoded)
        header.pop("__metadata__", None)
        data = np.memmap(path, np.uint8, mode="r", offset=8 + length, shape=(size - 8 - length,))
        return {name: _stored(name, entry, data) for name, entry in header.items()}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ModelDamaged(
            f"{path.name} is not a whole safetensors file ({type(error).__name__}); get it again"
        ) from error


def _stored(name: str, entry: Mapping[str, Any], data: NDArray[np.uint8]) -> Stored:
    described = Described(name, entry["dtype"], tuple(int(n) for n in entry["shape"]))
    first, last = (int(offset) for offset in entry["data_offsets"])
    # A type that is not known here is refused where it is used, with those that are.
    nbytes = described.nbytes if described.dtype in _ITEM_BYTES else last - first
    right = min(described.shape, default=1) > 0 and last - first == nbytes
    if not (right and 0 <= first <= last <= data.size):
        raise ValueError(name)
    return Stored(described, data[first:last].view(np.ndarray))


def write(
    path: Path, tensors: Sequence[Described], arrays: Iterable[Iterable[NDArray[Any]]]
) -> None:
    """Write each of `tensors` as its parts in `arrays`, in order, as they are in memory.

    One part at a time is asked for. Raises OSError; ValueError when the parts of a tensor are
    not the whole of it.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for tensor in tensors:
        end = offset + tensor.nbytes
        header[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": tensor.shape,
            "data_offsets": [offset, end],
        }
        offset = end
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little"))
        file.write(encoded)
        for tensor, parts in zip(tensors, arrays, strict=True):
            written = sum(file.write(np.ascontiguousarray(part).tobytes()) for part in parts)
            if written != tensor.nbytes:
                raise ValueError(f"{tensor.name} has {written} bytes, not {tensor.nbytes}")


def bfloat16(values: F32) -> NDArray[np.uint16]:
    """The bits of `values` as bfloat16, rounded to nearest, ties to even. Values are finite."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounding = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return ((bits + rounding) >> np.uint32(16)).astype("<u2")

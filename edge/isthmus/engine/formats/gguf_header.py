"""The header of a GGUF file, version 2 or 3, as ggml's docs/gguf.md describes it.

Nothing in it is taken on trust: lengths and counts are compared with the bytes that are there, and
with bounds that no model comes near, before anything is made of them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_SCALARS = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip
"""The types of values, as `struct` has them."""
_STRING, _ARRAY = 8, 9
_MAX_BYTES = 1 << 26
"""Longest header; those of the largest vocabularies have 15 MB."""
_MAX_ENTRIES = 1 << 16
"""Most key/values, and most tensors."""
_MAX_ITEMS = 1 << 22
"""Most items of all arrays; the largest vocabularies have half a million merges."""
_MAX_DIMENSIONS = 4
_ALIGNMENT = 32
_TENSOR_TYPES = (
    "F32", "F16", "Q4_0", "Q4_1", "Q4_2", "Q4_3", "Q5_0", "Q5_1", "Q8_0", "Q8_1", "Q2_K", "Q3_K",
    "Q4_K", "Q5_K", "Q6_K", "Q8_K", "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S",
    "IQ2_S", "IQ4_XS", "I8", "I16", "I32", "I64", "F64", "IQ1_M", "BF16",
)  # fmt: skip
"""`enum ggml_type`"""


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where a tensor is. `shape` is in NumPy's order: rows first."""

    name: str
    type_name: str
    shape: tuple[int, ...]
    offset: int
    """From the start of the file."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself."""

    values: dict[str, Any]
    """The key/values: numbers, texts, and lists of them."""
    tensors: dict[str, Tensor]


def read_header(data: memoryview) -> Header:
    """The header of a file with these bytes. Raises `ValueError` for what is none."""
    cursor = _Cursor(data[:_MAX_BYTES])
    if cursor.bytes(len(_MAGIC)) != _MAGIC:
        raise ValueError("it does not begin with GGUF")
    if (version := cursor.number("I")) not in _VERSIONS:
        raise ValueError(f"it has version {version}, not one of {_VERSIONS}")
    tensor_count, value_count = cursor.number("Q"), cursor.number("Q")
    if max(tensor_count, value_count) > _MAX_ENTRIES:
        raise ValueError("it says to hold more than any model does")
    values: dict[str, Any] = {}
    for _ in range(value_count):
        key = cursor.text()
        if key in values:
            raise ValueError("it has the same key twice")
        values[key] = cursor.value(cursor.number("I"))
    described: dict[str, tuple[str, tuple[int, ...], int]] = {}
    for _ in range(tensor_count):
        name = cursor.text()
        if name in described:
            raise ValueError("it has the same tensor twice")
        described[name] = cursor.tensor()
    alignment = values.get("general.alignment", _ALIGNMENT)
    if type(alignment) is not int or alignment < 1:
        raise ValueError("its alignment is no number above zero")
    start = cursor.at + -cursor.at % alignment
    tensors = {
        name: Tensor(name, type_name, shape, start + offset)
        for name, (type_name, shape, offset) in described.items()
    }
    return Header(values, tensors)


class _Cursor:
    """Reads one thing after the other. Raises `ValueError` where the header ends too early."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self.at = 0
        self._items_left = _MAX_ITEMS

    def bytes(self, count: int) -> bytes:
        if count > len(self._data) - self.at:
            raise ValueError("its header ends too early, or never")
        self.at += count
        return self._data[self.at - count : self.at].tobytes()

    def numbers(self, form: str, count: int) -> tuple[Any, ...]:
        size = struct.calcsize(f"<{form}") * count
        return struct.unpack(f"<{count}{form}", self.bytes(size))

    def number(self, form: str) -> Any:
        return self.numbers(form, 1)[0]

    def text(self) -> str:
        return self.bytes(self.number("Q")).decode()

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            return self._array(self.number("I"), self.number("Q"))
        if kind not in _SCALARS:
            raise ValueError(f"a value has type {kind}, which is none")
        return self.number(_SCALARS[kind])

    def _array(self, kind: int, count: int) -> list[Any]:
        self._items_left -= count
        if kind == _ARRAY or self._items_left < 0:
            raise ValueError("the arrays in its header hold more than any model needs")
        if kind in _SCALARS:
            return list(self.numbers(_SCALARS[kind], count))
        return [self.value(kind) for _ in range(count)]

    def tensor(self) -> tuple[str, tuple[int, ...], int]:
        """Type, shape, and offset from the first tensor."""
        dimensions = self.number("I")
        if dimensions > _MAX_DIMENSIONS:
            raise ValueError(f"a tensor has {dimensions} dimensions")
        shape = tuple(reversed(self.numbers("Q", dimensions)))
        kind = self.number("I")
        name = _TENSOR_TYPES[kind] if kind < len(_TENSOR_TYPES) else f"number {kind}"
        return name, shape, self.number("Q")

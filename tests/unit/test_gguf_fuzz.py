"""Damaged and hostile model files are refused with a reason: no crash, no memory beyond a bound."""

from __future__ import annotations

import ast
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gguf_files import write_tiny

Type = gguf.GGUFValueType
READER = Path(__file__).resolve().parent.parent / "gguf_reader.py"
INTERESTING = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**62,
    2**63 - 1,
    2**63,
    2**64 - 1,
)
"""Values that lengths, counts and types go wrong at."""


class Reader:
    """A process that reads files in little memory, started again after a crash."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "fuzzed.gguf"
        self._process: subprocess.Popen[str] | None = None

    def read(self, data: bytes) -> str:
        """What became of a file with these bytes; a crash is a failure that shows its traceback."""
        self._path.write_bytes(data)
        return self.read_file(self._path)

    def read_file(self, path: Path) -> str:
        """The same, of a file that is there."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "error", str(READER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            assert self._process.stdout is not None
            assert self._process.stdout.readline() == "ready\n"
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{path}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            _, traceback = self._process.communicate()
            status, self._process = self._process.returncode, None
            pytest.fail(f"the reader died with status {status}:\n{traceback[-2000:]}")
        return str(ast.literal_eval(answer))

    def close(self) -> None:
        if self._process is not None:
            self._process.communicate()


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    made = Reader(tmp_path_factory.mktemp("fuzz"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("whole") / "tiny.gguf")


@pytest.fixture(scope="module")
def data(whole: Path) -> bytes:
    return whole.read_bytes()


@pytest.fixture(scope="module")
def marks(whole: Path) -> dict[str, int]:
    """Where things stand in the file: `kv KEY`, `tensor NAME` (its description), `data NAME`."""
    opened = gguf.GGUFReader(whole)
    found = {f"kv {key}": int(f.offset) for key, f in opened.fields.items() if f.offset >= 24}
    for tensor in opened.tensors:
        found[f"tensor {tensor.name}"] = int(tensor.field.offset)
        found[f"data {tensor.name}"] = int(tensor.data_offset)
    return found


def refused(answer: str) -> bool:
    kind, _, reason = answer.partition(": ")
    return kind in {"ModelDamaged", "ModelNotSupported"} and len(reason) > 10


def test_the_file_that_is_damaged_here_is_whole(reader: Reader, data: bytes) -> None:
    assert reader.read(data) == "whole"


def test_a_file_is_refused_wherever_it_is_cut(
    reader: Reader, data: bytes, marks: dict[str, int]
) -> None:
    header = [4, 8, 16, 24]
    cuts = {at + step for at in (*header, *marks.values()) for step in (-1, 0, 1, 4, 8)}
    for cut in sorted(cut for cut in {*cuts, len(data) - 1} if 0 <= cut < len(data)):
        answer = reader.read(data[:cut])
        assert answer.startswith("ModelDamaged: "), (cut, answer)


@pytest.mark.parametrize("value", INTERESTING)
@pytest.mark.parametrize("field", ["version", "tensor count", "key count"])
def test_a_header_that_lies_is_refused(reader: Reader, data: bytes, field: str, value: int) -> None:
    at, width = {"version": (4, 4), "tensor count": (8, 8), "key count": (16, 8)}[field]
    broken = bytearray(data)
    broken[at : at + width] = value.to_bytes(8, "little")[:width]
    assert refused(reader.read(broken))


@pytest.mark.parametrize("value", INTERESTING)
def test_every_number_of_every_description_may_lie(
    reader: Reader, data: bytes, marks: dict[str, int], value: int
) -> None:
    """Lengths of keys, types, lengths of arrays, dimensions, offsets: at worst another model."""
    for name in ("kv tokenizer.ggml.tokens", "kv qwen2.block_count", "tensor blk.1.attn_k.weight"):
        start = marks[name]
        key_bytes = struct.unpack_from("<Q", data, start)[0]
        after = start + 8 + key_bytes
        for at, width in ((start, 8), *((after + 4 * i, w) for i in range(7) for w in (4, 8))):
            broken = bytearray(data)
            broken[at : at + width] = value.to_bytes(8, "little")[:width]
            answer = reader.read(broken)
            assert answer == "whole" or refused(answer), (name, at, width)


@pytest.mark.parametrize(
    ("key", "kind", "value"),
    [
        (key, kind, value)
        for key in (
            "block_count",
            "embedding_length",
            "attention.head_count",
            "feed_forward_length",
        )
        for kind, value in (
            (Type.UINT32, 0),
            (Type.UINT32, 2**32 - 1),
            (Type.UINT64, 2**64 - 1),
            (Type.INT32, -1),
            (Type.FLOAT32, float("nan")),
            (Type.FLOAT32, float("inf")),
            (Type.FLOAT64, 1e300),
            (Type.BOOL, True),
            (Type.STRING, "many"),
            (Type.ARRAY, [1, 2, 3]),
        )
    ],
)
def test_hostile_metadata_is_refused(
    reader: Reader, tmp_path: Path, key: str, kind: Any, value: Any
) -> None:
    answer = reader.read_file(with_value(tmp_path, f"qwen2.{key}", kind, value))
    assert refused(answer), answer


@pytest.mark.parametrize("value", [2**31 - 1, 2**32 - 1, 2**62])
def test_a_context_beyond_all_bounds_costs_nothing_to_open(
    reader: Reader, tmp_path: Path, value: int
) -> None:
    path = with_value(tmp_path, "qwen2.context_length", Type.UINT64, value)
    answer = reader.read_file(path)
    assert answer == "whole" if value < 2**31 else "context_length must be from 2" in answer


@pytest.mark.parametrize("alignment", [0, 1, 3, 31, 2**31, 2**32 - 1])
def test_a_hostile_alignment_is_refused_or_harmless(
    reader: Reader, tmp_path: Path, alignment: int
) -> None:
    path = with_value(tmp_path, "general.alignment", Type.UINT32, alignment)
    answer = reader.read_file(path)
    assert answer == "whole" or refused(answer)


@pytest.mark.parametrize(
    "tokenizer",
    [
        {"tokenizer.ggml.tokens": ["same"] * 288},
        {"tokenizer.ggml.tokens": [str(i) for i in range(289)]},
        {"tokenizer.ggml.tokens": [1, 2, 3]},
        {"tokenizer.ggml.tokens": "not a list"},
        {"tokenizer.ggml.merges": ["a b c"]},
        {"tokenizer.ggml.merges": ["nosuch pair"]},
        {"tokenizer.ggml.token_type": [1] * 3},
        {"tokenizer.ggml.eos_token_id": 288},
        {"tokenizer.ggml.eos_token_id": 2**32 - 1},
        {"tokenizer.ggml.pre": "../../etc/passwd"},
        {"tokenizer.ggml.model": 7},
    ],
    ids=str,
)
def test_a_hostile_tokenizer_is_refused(
    reader: Reader, tmp_path: Path, tokenizer: dict[str, Any]
) -> None:
    answer = reader.read_file(write_tiny(tmp_path / "tiny.gguf", tokenizer=tokenizer))
    assert refused(answer), answer


@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    edits=st.lists(
        st.tuples(
            st.floats(0, 1),  # where, as a part of the header or of the file
            st.booleans(),
            st.sampled_from([1, 2, 4, 8]),
            st.one_of(st.sampled_from(INTERESTING), st.integers(0, 2**64 - 1)),
        ),
        min_size=1,
        max_size=6,
    ),
    cut=st.one_of(st.none(), st.floats(0, 1)),
    grown=st.integers(0, 64),
)
def test_whatever_the_damage_a_file_is_read_or_refused(
    reader: Reader,
    data: bytes,
    marks: dict[str, int],
    edits: list[tuple[float, bool, int, int]],
    cut: float | None,
    grown: int,
) -> None:
    header = min(at for name, at in marks.items() if name.startswith("data "))
    broken = bytearray(data)
    for where, in_header, width, value in edits:
        at = int(where * ((header if in_header else len(data)) - 8))
        broken[at : at + width] = value.to_bytes(8, "little")[:width]
    if cut is not None:
        del broken[int(cut * len(broken)) :]
    broken += bytes(grown)
    answer = reader.read(broken)
    assert answer == "whole" or refused(answer), answer


def with_value(folder: Path, key: str, kind: Any, value: Any) -> Path:
    """The tiny model with one key/value replaced."""
    source = gguf.GGUFReader(write_tiny(folder / "source.gguf"))
    writer = gguf.GGUFWriter(folder / "changed.gguf", "qwen2")
    for name, old in source.fields.items():
        if name.startswith("GGUF.") or name in {key, "general.architecture"}:
            continue
        sub = old.types[-1] if old.types[0] == Type.ARRAY else None
        writer.add_key_value(name, old.contents(), old.types[0], sub)
    sub = Type.INT32 if kind == Type.ARRAY else None
    writer.add_key_value(key, value, kind, sub)
    for tensor in source.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder / "changed.gguf"

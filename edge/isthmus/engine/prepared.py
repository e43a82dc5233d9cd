"""Packed weights kept on disk, so that a second start reads them instead of making them again.

A prepared model is a folder: `weights.bin` with the packed weights one after the other, and
`model.json` with everything else (shape, tokenizer, where each weight stands). It is named by
the model file's identity and the backend's layout, made under another name and renamed when it
is whole; it can be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from isthmus.core import paths
from isthmus.engine.graph import build_graph
from isthmus.engine.model import ModelConfig, ModelFile, TokenizerSpec
from isthmus.kernels.base import F32, U8, Backend, Op, Packed, QuantizedWeight

_FORMAT = 1
_ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in a backend's layout, ready to be planned."""

    name: str
    config: ModelConfig
    tokenizer: TokenizerSpec
    ops: tuple[Op, ...]
    weight_bytes: int
    """Bytes of packed weights: what a decoded token reads."""


def load(path: Path, backend: Backend) -> LoadedModel:
    """Load the model file at `path` for `backend`, from the cache when it was prepared before.

    Raises the engine's errors when the file is missing, damaged or not supported.
    """
    if backend.layout is None:
        return pack_model(_read(path), backend)
    folder = paths.cache_dir() / "prepared" / _identity(path, backend.layout)
    prepared = _from_folder(folder, backend)
    if prepared is not None:
        return prepared
    _write(_read(path), backend, folder)
    again = _from_folder(folder, backend)
    # A cache that cannot be written (a full or read-only disk) costs time, not the answer.
    return again if again is not None else pack_model(_read(path), backend)


def _read(path: Path) -> ModelFile:
    from isthmus.engine.gguf import read_gguf  # slow to import, and not needed once prepared

    return read_gguf(path)


def _identity(path: Path, layout: str) -> str:
    resolved = path.resolve()
    try:
        stat = resolved.stat()
    except OSError:
        return "missing"  # reading the file will say so in its own words
    known = f"{_FORMAT}|{layout}|{resolved}|{stat.st_size}|{stat.st_mtime_ns}"
    return hashlib.sha256(known.encode()).hexdigest()[:24]


class _FileWeights:
    """Weights from a model file, packed as they are asked for."""

    def __init__(self, model: ModelFile, backend: Backend) -> None:
        self._model = model
        self._backend = backend
        self.matrices: dict[str, Packed] = {}
        self.vectors: dict[str, F32] = {}

    def matrix(self, *parts: str, alternate: bool = False) -> Packed:
        whole = QuantizedWeight.stack([self._model.matrix(part) for part in parts])
        if alternate:
            order = np.arange(whole.rows, dtype=np.int32).reshape(len(parts), -1).T.reshape(-1)
            whole = whole.take(np.ascontiguousarray(order))
        packed = self._backend.pack(whole)
        self.matrices["+".join(parts)] = packed
        return packed

    def vector(self, *parts: str) -> F32:
        joined = np.concatenate([self._model.vector(part) for part in parts])
        self.vectors["+".join(parts)] = joined
        return joined


class _FolderWeights:
    """Weights of a prepared folder: views of one array."""

    def __init__(self, index: dict[str, Any], data: U8, backend: Backend) -> None:
        self._index = index
        self._data = data
        self._backend = backend

    def _view(self, name: str) -> U8:
        entry = self._index[name]
        return self._data[entry["offset"] : entry["offset"] + entry["bytes"]]

    def matrix(self, *parts: str, alternate: bool = False) -> Packed:
        name = "+".join(parts)
        return self._backend.restore(self._index[name]["state"], self._view(name))

    def vector(self, *parts: str) -> F32:
        return self._view("+".join(parts)).view(np.float32)


def pack_model(model: ModelFile, backend: Backend) -> LoadedModel:
    """Pack an open model for `backend`, in memory alone."""
    weights = _FileWeights(model, backend)
    ops = build_graph(model.config, weights)
    size = sum(packed.nbytes for packed in weights.matrices.values())
    return LoadedModel(model.name, model.config, model.tokenizer, ops, size)


def _from_folder(folder: Path, backend: Backend) -> LoadedModel | None:
    """The prepared model, or None when there is none that can be read."""
    try:
        described = json.loads((folder / "model.json").read_text("utf-8"))
        data = np.memmap(folder / "weights.bin", np.uint8, mode="r")
        if data.size != described["bytes"]:
            return None
        config = TypeAdapter(ModelConfig).validate_python(described["config"])
        tokenizer = TypeAdapter(TokenizerSpec).validate_python(described["tokenizer"])
        weights = _FolderWeights(described["index"], data.view(np.ndarray), backend)
        size = sum(entry["bytes"] for entry in described["index"].values() if "state" in entry)
        ops = build_graph(config, weights)
        return LoadedModel(described["name"], config, tokenizer, ops, size)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(model: ModelFile, backend: Backend, folder: Path) -> None:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=folder.name + ".", dir=folder.parent))
    except OSError:
        return
    try:
        index: dict[str, Any] = {}
        weights = _FileWeights(model, backend)
        build_graph(model.config, weights)
        with (draft / "weights.bin").open("wb") as out:
            for name, packed in weights.matrices.items():
                state, data = packed.state()
                index[name] = _append(out, data) | {"state": state}
            for name, vector in weights.vectors.items():
                index[name] = _append(out, np.ascontiguousarray(vector, np.float32).view(np.uint8))
            size = out.tell()
        described = {
            "name": model.name,
            "config": asdict(model.config),
            "tokenizer": asdict(model.tokenizer),
            "index": index,
            "bytes": size,
        }
        (draft / "model.json").write_text(json.dumps(described), "utf-8")
        shutil.rmtree(folder, ignore_errors=True)  # one that could not be read
        draft.rename(folder)
    except OSError:
        # No space left, or another process renamed its own first: either way there is nothing
        # to tell, the caller looks again and can do without.
        return
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _append(out: Any, data: U8) -> dict[str, int]:
    out.write(bytes(-out.tell() % _ALIGNMENT))
    entry = {"offset": out.tell(), "bytes": data.nbytes}
    out.write(data)
    return entry

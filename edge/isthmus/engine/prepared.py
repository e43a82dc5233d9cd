"""Packed weights kept on disk, so that a second start maps them instead of making them again.

A prepared model is a folder: `model.json` with its shape and where each array stands, and
`arrays.bin` with the packed weights and the tokenizer's tables one after the other and at the end
the digest of `model.json`: kernels trust what that says. The folder is named by the model file,
the backend's layout and the versions of both, made under another name and renamed when it is
whole; then those of other versions go. It can be deleted at any time: who has mapped it keeps it.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import shutil
import tempfile
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from isthmus.core import paths
from isthmus.engine.graph import build_graph
from isthmus.engine.model import ModelConfig, ModelFile, TokenizerSpec
from isthmus.kernels.base import F32, U8, Backend, Op, Packed, QuantizedWeight, RopeStyle

_FORMAT = 4
_ALIGNMENT = 64
_TABLES = {"texts": np.uint8, "ends": np.int32, "byte_ids": np.int32, "merges": np.int32}
"""The arrays of a `TokenizerSpec`."""
_DRAFT_LIFE_S = 3600
"""A draft that is older was left behind by a process that was killed."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in a backend's layout, ready to be planned."""

    name: str
    config: ModelConfig
    tokenizer: TokenizerSpec
    ops: tuple[Op, ...]


def load(path: Path, backend: Backend) -> LoadedModel:
    """Load the model file at `path` for `backend`, from the cache when it was prepared before.

    Raises the engine's errors when the file is missing, damaged or not supported.
    """
    if backend.layout is None:
        return pack_model(_read(path), backend)
    folder = paths.cache_dir() / "prepared" / _folder_name(path, backend.layout)
    prepared = _from_folder(folder, backend)
    if prepared is not None:
        return prepared
    _write(_read(path), backend, folder)
    with contextlib.suppress(AttributeError, OSError, TypeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)  # it would keep tens of MB that preparing has freed
    again = _from_folder(folder, backend)
    # A cache that cannot be written (a full or read-only disk) costs time, not the answer.
    return again if again is not None else pack_model(_read(path), backend)


def _read(path: Path) -> ModelFile:
    from isthmus.engine.formats.reading import (
        read_model,  # slow to import, not needed once prepared
    )

    return read_model(path)


def _folder_name(path: Path, layout: str) -> str:
    """`MODEL-VERSION`, both as hashes. Of a model in a layout one version is of use."""
    resolved = path.resolve()
    try:
        files = sorted(resolved.iterdir()) if resolved.is_dir() else [resolved]
        stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    except OSError:
        return "missing"  # reading the file will say so in its own words
    kind, _, layout_version = layout.rpartition(".")
    version = f"{_FORMAT}|{layout_version}|{stats}"
    return f"{_hash(f'{resolved}|{kind}')}-{_hash(version)}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class _FileWeights:
    """Weights from a model file, packed as they are asked for."""

    def __init__(self, model: ModelFile, backend: Backend) -> None:
        self._model = model
        self._backend = backend

    def matrix(self, *parts: str, alternate: bool = False) -> Packed:
        whole = QuantizedWeight.stack([self._model.matrix(part) for part in parts])
        if alternate:
            order = np.arange(whole.rows, dtype=np.int32).reshape(len(parts), -1).T.reshape(-1)
            whole = whole.take(np.ascontiguousarray(order))
        return self._backend.pack(whole)

    def vector(self, *parts: str) -> F32:
        return np.concatenate([self._model.vector(part) for part in parts])


class _DraftWeights:
    """Writes the weights of a model file as they are asked for, and gives empty ones in return."""

    def __init__(self, model: ModelFile, backend: Backend, out: BinaryIO) -> None:
        self._weights = _FileWeights(model, backend)
        self._backend = backend
        self._out = out
        self.index: dict[str, Any] = {}

    def matrix(self, *parts: str, alternate: bool = False) -> Packed:
        state, data = self._weights.matrix(*parts, alternate=alternate).state()
        self.add("+".join(parts), data, state=state)
        return self._backend.restore(state, np.empty(0, np.uint8))

    def vector(self, *parts: str) -> F32:
        self.add("+".join(parts), self._weights.vector(*parts))
        return np.empty(0, np.float32)

    def add(self, name: str, array: np.ndarray[Any, Any], **more: Any) -> None:
        self._out.write(bytes(-self._out.tell() % _ALIGNMENT))
        self.index[name] = {"offset": self._out.tell(), "bytes": array.nbytes, **more}
        self._out.write(np.ascontiguousarray(array).data)


class _FolderWeights:
    """Weights of a prepared folder: views of one mapped file."""

    def __init__(self, index: dict[str, Any], data: U8, backend: Backend) -> None:
        self._index = index
        self._data = data
        self._backend = backend

    def view(self, name: str) -> U8:
        entry = self._index[name]
        return self._data[entry["offset"] : entry["offset"] + entry["bytes"]]

    def matrix(self, *parts: str, alternate: bool = False) -> Packed:
        name = "+".join(parts)
        return self._backend.restore(self._index[name]["state"], self.view(name))

    def vector(self, *parts: str) -> F32:
        return self.view("+".join(parts)).view(np.float32)


def pack_model(model: ModelFile, backend: Backend) -> LoadedModel:
    """Pack an open model for `backend`, in memory alone."""
    ops = build_graph(model.config, _FileWeights(model, backend))
    return LoadedModel(model.name, model.config, model.tokenizer, ops)


def _from_folder(folder: Path, backend: Backend) -> LoadedModel | None:
    """The prepared model, or None when there is none that can be read."""
    try:
        text = (folder / "model.json").read_bytes()
        data = np.memmap(folder / "arrays.bin", np.uint8, mode="r")
        digest = hashlib.sha256(text).digest()
        if data[-len(digest) :].tobytes() != digest:
            return None
        described = json.loads(text)
        if data.size != described["bytes"] + len(digest):
            return None
        weights = _FolderWeights(described["index"], data.view(np.ndarray), backend)
        config = _config(described["config"])
        tokenizer = _tokenizer(described["tokenizer"], weights)
        return LoadedModel(described["name"], config, tokenizer, build_graph(config, weights))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _config(described: dict[str, Any]) -> ModelConfig:
    typed = {
        "rope_style": RopeStyle(described["rope_style"]),
        "rope_factors": tuple(described["rope_factors"]),
    }
    return ModelConfig(**described | typed)


def _tokenizer(described: dict[str, Any], weights: _FolderWeights) -> TokenizerSpec:
    tables: dict[str, Any] = {
        name: weights.view(f"tokenizer.{name}").view(kind) for name, kind in _TABLES.items()
    }
    tables["merges"] = tables["merges"].reshape(-1, 4)
    for name, value in described.items():
        tables[name] = tuple(value) if isinstance(value, list) else value
    return TokenizerSpec(**tables)


def _write(model: ModelFile, backend: Backend, folder: Path) -> None:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=folder.name + ".", dir=folder.parent))
    except OSError:
        return
    try:
        tokenizer = {
            field.name: getattr(model.tokenizer, field.name) for field in fields(TokenizerSpec)
        }
        with (draft / "arrays.bin").open("wb") as out:
            weights = _DraftWeights(model, backend, out)
            build_graph(model.config, weights)
            for name in _TABLES:
                weights.add(f"tokenizer.{name}", tokenizer.pop(name))
            described = {
                "name": model.name,
                "config": asdict(model.config),
                "tokenizer": tokenizer,
                "index": weights.index,
                "bytes": out.tell(),
            }
            text = json.dumps(described).encode()
            out.write(hashlib.sha256(text).digest())
        (draft / "model.json").write_bytes(text)
        if _from_folder(folder, backend) is None:  # not another process's, whole by now
            shutil.rmtree(folder, ignore_errors=True)
            draft.rename(folder)
        _remove_others(folder)
    except OSError:
        # No space left, or another process renamed its own first: either way there is nothing
        # to tell, the caller looks again and can do without.
        return
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _remove_others(folder: Path) -> None:
    """Remove the same model's folders of other versions, and drafts that nobody will finish."""
    model = folder.name.partition("-")[0]
    for other in folder.parent.iterdir():
        known, dash, _ = other.name.partition("-")
        if "." in other.name:
            stale = time.time() - other.stat().st_mtime > _DRAFT_LIFE_S
        else:
            stale = other != folder and (known == model or not dash)  # none: of format 1
        if stale:
            shutil.rmtree(other, ignore_errors=True)

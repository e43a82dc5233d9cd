"""Measured choices in files: versioned JSON with one readable line a choice.

    {"format": 1, "devices": [{"device": …, "driver": …, "platform": …, "kind": …, "vendor": …,
      "architecture": …, "choices": {"960x576.4g32@1": "gemv.n:block=16,…", …}}]}

A choice's name is the weight's form and the tile (the tokens of a step). They come from the user's
folder and from the package; a form is looked up on the very device and driver, then on its
architecture, then with its vendor; what is nowhere gets the default. A form is taken whole, since
the variants of all its tiles share a layout.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

from isthmus.core.errors import ConfigError
from isthmus.kernels.opencl.algorithms import ALGORITHMS
from isthmus.kernels.opencl.capabilities import Capabilities
from isthmus.kernels.opencl.files import remove, write_whole
from isthmus.kernels.opencl.layouts import WeightForm
from isthmus.kernels.opencl.programs import read_source
from isthmus.kernels.opencl.variants import (
    TILES,
    Choices,
    Variant,
    default_choices,
    parse_shape,
)

FORMAT = 1
_log = logging.getLogger(__name__)

Tiles = Mapping[int, Variant]
"""A variant for each of `TILES`."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """The choices of one device."""

    device: str
    driver: str
    platform: str
    kind: str
    vendor: str
    architecture: str
    choices: Mapping[str, Tiles]
    """By the key of a form."""

    @classmethod
    def of(cls, device: Capabilities, choices: Mapping[str, Tiles]) -> Tuned:
        """Choices that were measured on `device`."""
        return cls(
            device.name,
            device.driver,
            device.platform,
            device.kind,
            device.vendor,
            device.architecture,
            choices,
        )

    @property
    def key(self) -> tuple[str, str, str]:
        """What one entry of a file stands for."""
        return (self.device, self.driver, self.platform)

    def nearness(self, device: Capabilities) -> int | None:
        """0 for this very device, 1 for its architecture, 2 for its vendor, None for another's."""
        if self.kind != device.kind:
            return None
        if self.key == (device.name, device.driver, device.platform):
            return 0
        if self.architecture == device.architecture:
            return 1
        return 2 if self.vendor == device.vendor else None


_NAMES = tuple(field.name for field in fields(Tuned) if field.name != "choices")


def dump(entries: Sequence[Tuned]) -> str:
    """The text of a file."""
    devices = [
        {name: getattr(entry, name) for name in _NAMES}
        | {
            "choices": {
                f"{shape}@{tile}": str(tiles[tile])
                for shape, tiles in sorted(entry.choices.items())
                for tile in TILES
            }
        }
        for entry in entries
    ]
    return json.dumps({"format": FORMAT, "devices": devices}, indent=1, ensure_ascii=False) + "\n"


def parse(text: str, source: str) -> tuple[Tuned, ...]:
    """The entries of a file. Raises `ConfigError` that names `source` and the field."""
    try:
        whole = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{source} is not JSON: {error}", field="format") from None
    if not isinstance(whole, dict) or "format" not in whole:
        raise ConfigError(f"{source} holds no choices of isthmus tune", field="format")
    if whole["format"] != FORMAT:
        raise ConfigError(
            f"{source} has format {whole['format']!r}; this version reads {FORMAT}", field="format"
        )
    devices = whole.get("devices")
    if not isinstance(devices, list):
        raise ConfigError(f"{source} must hold a list of devices", field="devices")
    return tuple(_entry(entry, f"devices[{at}]", source) for at, entry in enumerate(devices))


def _entry(entry: Any, field: str, source: str) -> Tuned:
    if not isinstance(entry, dict):
        raise ConfigError(f"{source}: a device must be an object", field=field)
    for name in _NAMES:
        if not isinstance(entry.get(name), str):
            raise ConfigError(f"{source}: {name} must be a text", field=f"{field}.{name}")
    lines = entry.get("choices")
    if not isinstance(lines, dict):
        raise ConfigError(f"{source}: choices must be an object", field=f"{field}.choices")
    choices: dict[str, dict[int, Variant]] = {}
    for name, value in lines.items():
        where = f"{field}.choices.{name}"
        shape, _, tile = name.rpartition("@")
        try:
            parse_shape(shape)
            if not tile.isdecimal() or int(tile) not in TILES:
                raise ValueError(f"{tile!r} is not one of the tiles {', '.join(map(str, TILES))}")
            variant = Variant.parse(value if isinstance(value, str) else repr(value))
            _check_values(variant)
            if variant.tokens > int(tile):
                raise ValueError(f"{variant} is for steps of more than {tile} tokens")
        except ValueError as error:
            raise ConfigError(f"{source}: {error}", field=where) from None
        choices.setdefault(shape, {})[int(tile)] = variant
    for shape, tiles in choices.items():
        where = f"{field}.choices.{shape}"
        missing = [tile for tile in TILES if tile not in tiles]
        if missing:
            raise ConfigError(f"{source}: no choice for tile {missing[0]}", field=where)
        layouts = {variant.layout for variant in tiles.values()}
        if len(layouts) > 1:
            told = " and ".join(sorted(map(str, layouts)))
            raise ConfigError(f"{source}: tiles of one weight lie as {told}", field=where)
    return Tuned(**{name: entry[name] for name in _NAMES}, choices=choices)


def _check_values(variant: Variant) -> None:
    for name, value in variant.values:
        options = variant.algorithm.options[name]
        if value not in options:
            known = ", ".join(map(str, sorted(options)))
            raise ValueError(f"{variant} has {name}={value}, which is not one of {known}")


class TunedFiles:
    """The user's choices in `folder` (None: none), behind them the operator's and the package's."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    @property
    def path(self) -> Path | None:
        """Where the user's choices are kept."""
        return None if self._folder is None else self._folder / "choices.json"

    def own(self) -> tuple[Tuned, ...]:
        """The user's. Raises `ConfigError` for a damaged file."""
        return self._read(self.path)

    def _read(self, path: Path | None) -> tuple[Tuned, ...]:
        if path is None:
            return ()
        try:
            text = path.read_text("utf-8")
        except FileNotFoundError:
            return ()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read {path}: {error}", field="tuned") from None
        return parse(text, str(path))

    def keep(self, entries: Sequence[Tuned]) -> None:
        """Add entries to the user's; a form that is there already is replaced.

        Raises `ConfigError` where the folder cannot be written.
        """
        merged = {entry.key: entry for entry in self.own()}
        for entry in entries:
            before = merged[entry.key].choices if entry.key in merged else {}
            merged[entry.key] = replace(entry, choices={**before, **entry.choices})
        self.write(list(merged.values()))

    def write(self, entries: Sequence[Tuned]) -> None:
        """Make these the user's; no file is left for none of them.

        Raises `ConfigError` where the folder cannot be written.
        """
        if self.path is None:
            raise ValueError("there is no folder to keep choices in")
        if entries:
            write_whole(self.path, dump(entries))
        else:
            remove(self.path)

    @property
    def fleet_path(self) -> Path | None:
        """Where the operator's are kept: behind the user's own, before the package's."""
        return None if self._folder is None else self._folder / "fleet.json"

    def fleets(self) -> tuple[Tuned, ...]:
        """The operator's. Raises `ConfigError` for a damaged file."""
        return self._read(self.fleet_path)

    def keep_fleets(self, text: str) -> None:
        """Have this file in the place of the operator's; an empty text: none.

        Raises `ConfigError` where the folder cannot be written.
        """
        if self.fleet_path is None:
            raise ValueError("there is no folder to keep choices in")
        if text:
            write_whole(self.fleet_path, text)
        else:
            remove(self.fleet_path)

    def choices(self, device: Capabilities) -> Choices:
        """What `device` uses. A damaged file costs a warning and its choices, not the start."""
        default = default_choices(device)
        passed = Passed(self._folder).read(device)
        table: dict[tuple[str, int], Variant] = {}
        found = sorted(
            (
                (near, entry)
                for entry in self._all()
                if (near := entry.nearness(device)) is not None
            ),
            key=lambda pair: pair[0],
        )
        for _, entry in found:
            for shape, tiles in entry.choices.items():
                if (shape, 1) not in table and _usable(shape, tiles, device, passed):
                    table |= {(shape, tile): variant for tile, variant in tiles.items()}
        return Choices(table, default.default)

    def _all(self) -> Iterator[Tuned]:
        for read in (self.own, self.fleets, shipped):
            try:
                yield from read()
            except ConfigError as error:
                _log.warning("measured choices are left out: %s (%s)", error.message, error.field)


def shipped() -> tuple[Tuned, ...]:
    """What comes with the package."""
    folder = resources.files("isthmus.kernels").joinpath("tuned")
    files = folder.iterdir() if folder.is_dir() else ()
    found = sorted((f for f in files if f.name.endswith(".json")), key=lambda f: f.name)
    return tuple(entry for file in found for entry in parse(file.read_text("utf-8"), file.name))


def _usable(shape: str, tiles: Tiles, device: Capabilities, passed: frozenset[str]) -> bool:
    form: WeightForm = parse_shape(shape)
    return all(
        variant.misfit(form, device, paired=False) is None
        and (variant.verified or str(variant) in passed)
        for variant in tiles.values()
    )


class Passed:
    """Which unverified variants have passed their self-test on a device of this machine.

    Kept apart from the choices, so that no file from elsewhere can vouch for this device; by
    device, driver and kernel sources, so that none of them changes unnoticed.
    """

    def __init__(self, folder: Path | None) -> None:
        self._path = None if folder is None else folder / "passed.json"

    def read(self, device: Capabilities) -> frozenset[str]:
        """The variants, as texts."""
        return frozenset(self._whole().get(_tested(device), ()))

    def add(self, device: Capabilities, variants: Sequence[str]) -> None:
        """Remember that `variants` passed."""
        whole = self._whole()
        known = set(whole.get(_tested(device), ())) | set(variants)
        if self._path is not None and variants:
            whole[_tested(device)] = sorted(known)
            write_whole(self._path, json.dumps(whole, indent=1) + "\n")

    def forget(self, device: Capabilities, variants: Sequence[str]) -> None:
        """Remember that `variants` failed after all."""
        whole = self._whole()
        known = set(whole.get(_tested(device), ()))
        if self._path is not None and known & set(variants):
            whole[_tested(device)] = sorted(known - set(variants))
            write_whole(self._path, json.dumps(whole, indent=1) + "\n")

    def _whole(self) -> dict[str, list[str]]:
        try:
            found = json.loads(self._path.read_text("utf-8")) if self._path else {}
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def _tested(device: Capabilities) -> str:
    """What a test of a kernel is good for."""
    return f"{device.identity}|{kernel_version()}"


def kernel_version() -> str:
    """Changes when a kernel of a product does."""
    sources = sorted({algorithm.file for algorithm in ALGORITHMS.values()})
    return hashlib.sha256("".join(map(read_source, sources)).encode()).hexdigest()[:12]

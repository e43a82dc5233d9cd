"""Kernel choices that an operator hands to devices, for the next load of a model."""

from __future__ import annotations

from isthmus.core import paths
from isthmus.kernels.opencl.tuned import TunedFiles, parse


def check_fleet_choices(text: str) -> None:
    """Raise `ConfigError` unless `text` is what `isthmus tune --export` writes."""
    parse(text, "the bundle's kernel choices")


def keep_fleet_choices(text: str) -> None:
    """Have these choices stand behind what was measured on this device; an empty text: none.

    Raises `ConfigError` where they cannot be kept.
    """
    TunedFiles(paths.tuned_dir()).keep_fleets(text)

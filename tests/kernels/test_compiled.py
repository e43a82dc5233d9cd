"""Whether the compiled extension is of the sources beside it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from isthmus.kernels.compiled import _native, check

SOURCES = Path(__file__).parents[2] / "kernels" / "native"


def test_the_extension_tells_what_it_was_built_from(tmp_path: Path) -> None:
    check(_native.sources, SOURCES)
    changed = Path(shutil.copytree(SOURCES, tmp_path / "native"))
    check(_native.sources, changed)
    with (changed / "plan.hpp").open("a") as file:
        file.write("// another commit\n")
    with pytest.raises(ImportError, match="make setup"):
        check(_native.sources, changed)


def test_an_extension_that_tells_nothing_is_refused_in_a_checkout_and_elsewhere_taken(
    tmp_path: Path,
) -> None:
    with pytest.raises(ImportError):
        check("", SOURCES)
    check("", tmp_path / "no-sources")

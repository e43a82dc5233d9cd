"""The site's contents in zensical.toml: sections that are folders, written from what lies in them.

`python -m documents.nav` writes them, `--check` says whether they are what it would write, and
whether every page is somewhere in the contents.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "zensical.toml"
DOCS = ROOT / "docs"

_FOLDER = re.compile(
    r"(?P<head> *# make docs: (?P<folder>[\w-]+)/\n)(?P<pages>(?: *\"[^\"]+\",\n)*)"
)
"""The line that says which folder follows, and the pages that were written under it."""


def written(config: str, docs: Path) -> str:
    """The configuration with the pages of each such folder, as they lie there now."""

    def pages(found: re.Match[str]) -> str:
        folder = found["folder"]
        names = sorted(path.name for path in (docs / folder).glob("*.md"))
        # The folder's own page first.
        names.sort(key=lambda name: name not in {"index.md", "README.md"})
        indent = " " * (len(found["head"]) - len(found["head"].lstrip()))
        return found["head"] + "".join(f'{indent}"{folder}/{name}",\n' for name in names)

    return _FOLDER.sub(pages, config)


def missing(config: str, docs: Path) -> list[str]:
    """The pages that the contents do not name."""
    every = sorted(str(path.relative_to(docs)) for path in docs.rglob("*.md"))
    return [page for page in every if f'"{page}"' not in config]


def main() -> None:
    """Write the configuration, or with `--check` exit with 1 when it is not up to date."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    before = CONFIG.read_text(encoding="utf-8")
    after = written(before, DOCS)
    if lost := missing(after, DOCS):
        sys.exit(f"zensical.toml: no section has {', '.join(lost)}")
    if not check:
        CONFIG.write_text(after, encoding="utf-8")
    elif before != after:
        sys.exit("zensical.toml: the contents are not up to date: run make docs")


if __name__ == "__main__":
    main()

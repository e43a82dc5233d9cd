"""The notes of a release: its version's section of CHANGELOG.md, on standard output.

`python3 scripts/release_notes.py 0.1.0` ends with status 1, and with what to do, unless that is
pyproject.toml's version and has a section with a date and something in it.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_HEADING = re.compile(r"## \[(?P<version>[^\]]+)\](?: - (?P<date>\S+))?\s*")
"""As Keep a Changelog writes one: `## [0.1.0] - 2026-11-22`."""


class NotReady(Exception):
    """What keeps the version from being released, and what to do about it."""


def notes(version: str, changelog: str, project: str) -> str:
    """What changed with `version`, in Markdown, without its heading.

    `changelog` and `project` are the texts of CHANGELOG.md and pyproject.toml. Raises `NotReady`.
    """
    declared = tomllib.loads(project)["project"]["version"]
    if declared != version:
        raise NotReady(
            f"pyproject.toml has version {declared}, not {version}: "
            f"tag v{declared}, or set version = {version!r} there"
        )
    cure = f"CHANGELOG.md: write '## [{version}] - {date.today()}' below '## [Unreleased]'"
    found, lines = False, list[str]()
    for line in changelog.splitlines():
        heading = _HEADING.fullmatch(line)
        if heading is None:
            if found:
                lines.append(line)
            continue
        if found:
            break
        if heading["version"] == version:
            found = True
            if not _is_date(heading["date"]):
                raise NotReady(f"the section of {version} has no date; {cure}")
    if not found:
        raise NotReady(f"there is no section of {version}; {cure}")
    if not any(line.strip() and not line.startswith("#") for line in lines):
        raise NotReady(f"the section of {version} is empty; {cure}, and what changed below it")
    return "\n".join(lines).strip() + "\n"


def _is_date(text: str | None) -> bool:
    try:
        return text is not None and bool(date.fromisoformat(text))
    except ValueError:
        return False


def main() -> int:
    """Print them, or say on standard error why there are none."""
    parser = argparse.ArgumentParser(description="A version's section of CHANGELOG.md.")
    parser.add_argument("version", help="such as 0.1.0, without the tag's v")
    asked = parser.parse_args()
    try:
        told = notes(
            asked.version,
            (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
            (ROOT / "pyproject.toml").read_text(encoding="utf-8"),
        )
    except NotReady as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(told)
    return 0


if __name__ == "__main__":
    sys.exit(main())

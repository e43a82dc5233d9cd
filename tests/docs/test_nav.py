"""The site's contents name every page, and folders' pages as they lie there."""

from __future__ import annotations

from pathlib import Path

from documents.nav import missing, written

CONFIG = """nav = [
  "index.md",
  { "Runbooks" = [
    # make docs: runbooks/
    "runbooks/Gone.md",
  ] },
]
"""


def test_a_folders_pages_are_written_its_own_first(tmp_path: Path) -> None:
    (tmp_path / "runbooks").mkdir()
    for name in ("B.md", "README.md", "A.md"):
        (tmp_path / "runbooks" / name).touch()
    after = written(CONFIG, tmp_path)
    lines = [line.strip() for line in after.splitlines() if ".md" in line]
    assert lines == [
        '"index.md",',
        '"runbooks/README.md",',
        '"runbooks/A.md",',
        '"runbooks/B.md",',
    ]
    assert written(after, tmp_path) == after


def test_a_page_that_no_section_names_is_told(tmp_path: Path) -> None:
    (tmp_path / "index.md").touch()
    (tmp_path / "lost.md").touch()
    assert missing(CONFIG, tmp_path) == ["lost.md"]

"""Each page works when its blocks are pasted one after the other."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path

import pytest

from doc_blocks import ROOT, Block, blocks, pages
from doc_pages import Terminal

PAGES = {str(page.relative_to(ROOT)): blocks(page) for page in pages()}
RUNNABLE = {
    page: found
    for page, found in PAGES.items()
    if any(block.language in {"sh", "python"} and block.needs is None for block in found)
    # Its blocks are those of README.md, which a test of the translation says.
    and page != "README.zh.md"
}


@pytest.fixture
def home(tmp_path: Path, model_path: Path) -> Path:
    """An ISTHMUS_HOME with the small model and nothing else."""
    home = tmp_path / "home"
    (home / "models").mkdir(parents=True)
    (home / "models" / model_path.parent.name).symlink_to(model_path.parent)
    return home


@pytest.mark.docs
@pytest.mark.parametrize("page", RUNNABLE)
def test_a_page_works_when_it_is_pasted(
    page: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ISTHMUS_CLOUD_LEDGER__KIND", raising=False)
    folder = tmp_path / "checkout"
    folder.mkdir()
    with Terminal(folder, home) as terminal:
        for block, then in zip_longest(PAGES[page], PAGES[page][1:]):
            terminal.paste(block, then)
    to_run = [block for block in PAGES[page] if _runs(block)]
    assert terminal.ran == [str(block) for block in to_run if block.needs is None]
    assert terminal.left == [str(block) for block in PAGES[page] if block.needs is not None]


def _runs(block: Block) -> bool:
    return block.language == "sh" or (block.language == "python" and block.file is None)

"""Every fenced block of README and docs is of a known class, and says what the program has."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections import Counter
from pathlib import Path

import pytest

from doc_blocks import ROOT, Block, blocks, pages
from doc_commands import Wrong, check_script, commands
from doc_settings import check_data

BLOCKS = [block for page in pages() for block in blocks(page)]
DATA = [block for block in BLOCKS if block.language in {"toml", "yaml", "json", "promql"}]
SHELL = [block for block in BLOCKS if block.language == "sh"]
PYTHON = [block for block in BLOCKS if block.language == "python"]
SOURCE = [block for block in BLOCKS if block.language == "c"]
OUTPUT = [block for block in BLOCKS if block.language in {"text", "console"}]


def test_every_block_is_checked_by_one_of_these_tests() -> None:
    counts = Counter(
        f"{block.language} that needs {block.needs}" if block.needs else block.language
        for block in BLOCKS
    )
    sys.stdout.writelines(f"{count:4d} {kind}\n" for kind, count in sorted(counts.items()))
    assert sorted(map(str, [*DATA, *SHELL, *PYTHON, *SOURCE, *OUTPUT])) == sorted(map(str, BLOCKS))
    assert len(BLOCKS) > 60


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_a_shell_block_asks_for_what_there_is(block: Block) -> None:
    check_script(block.text)


@pytest.mark.parametrize("block", [one for one in OUTPUT if one.language == "console"], ids=str)
def test_a_transcript_shows_commands_that_there_are(block: Block) -> None:
    typed = [line.removeprefix("$ ") for line in block.text.splitlines() if line[:2] == "$ "]
    assert typed
    check_script("\n".join(typed))


@pytest.mark.parametrize("block", DATA, ids=str)
def test_a_settings_block_is_read_by_the_programs_own_reader(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What the tests set for all programs stands over a file.
    monkeypatch.delenv("ISTHMUS_CLOUD_LEDGER__KIND", raising=False)
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path))
    check_data(block, tmp_path / Path(block.file or f"block.{block.language}").name)


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_a_python_block_compiles_and_imports_what_there_is(block: Block) -> None:
    tree = compile(
        block.text, str(block), "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    )
    saved = {one.file.removesuffix(".py") for one in PYTHON if one.page == block.page and one.file}
    for node in ast.walk(tree):
        named = []
        if isinstance(node, ast.ImportFrom) and node.module:
            named = [node.module]
        elif isinstance(node, ast.Import):
            named = [name.name for name in node.names]
        for name in named:
            assert name in saved or importlib.util.find_spec(name), name


@pytest.mark.parametrize("block", SOURCE, ids=str)
def test_a_kernels_source_is_a_file_that_another_block_uses(block: Block) -> None:
    assert block.file is not None
    assert any(block.file in one.text for one in PYTHON if one.page == block.page)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("```ruby\nputs 1\n```\n", "nobody knows what a block 'ruby' is"),
        ("```\nx\n```\n", "nobody knows what a block '' is"),
        ('```sh title="needs: luck"\nls\n```\n', "neither a file nor a known need"),
        ("```sh\nls\n", "never closed"),
    ],
)
def test_a_block_of_an_unknown_class_is_refused(text: str, what: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(ValueError, match=what):
        blocks(page)


@pytest.mark.parametrize(
    "script",
    [
        "isthmus fly",
        "isthmus up --wings 2",
        "isthmus cloud usage --period sometime | head -3; isthmus model fetch x",
        "make lunch",
        "ISTHMUS_EDGE_PROT=1 isthmus up",
        "pip install 'isthmus[wings]'",
        "cat deploy/helm/values-none.yaml",
        "rsync a b",
        "echo 'open",
    ],
)
def test_a_shell_block_that_the_program_cannot_run_is_refused(script: str) -> None:
    with pytest.raises(Wrong):
        check_script(script)


def test_commands_are_found_in_pipes_substitutions_and_continued_lines() -> None:
    script = (
        "A=1 isthmus up \\\n  --verbose > log 2>&1  # the device's\n"
        "cat <(make help) && echo 'a # b;c'\n"
    )
    assert list(commands(script)) == [
        ["A=1", "isthmus", "up", "--verbose"],
        ["cat"],
        ["make", "help"],
        ["echo", "a # b;c"],
    ]


def test_pages_link_to_nothing_outside_the_site() -> None:
    outside = [
        f"{page.relative_to(ROOT)}: {line}"
        for page in pages()
        if page.is_relative_to(ROOT / "docs")
        for line in page.read_text(encoding="utf-8").splitlines()
        if "](../../" in line or ("](../" in line and page.parent == ROOT / "docs")
    ]
    assert outside == []

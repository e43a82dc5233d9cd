"""What pasting a page finds wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from doc_blocks import Block
from doc_pages import Failed, Terminal


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    folder = tmp_path / "checkout"
    folder.mkdir()
    with Terminal(folder, tmp_path / "home") as terminal:
        yield terminal


def block(language: str, text: str, **more: str) -> Block:
    return Block("page.md", 1, language, text, **more)


def test_a_command_that_fails_fails_the_page(terminal: Terminal) -> None:
    with pytest.raises(Failed, match=r"page.md:1 ended with 1"):
        terminal.paste(block("sh", "cat nothing.txt | grep x\necho done\n"))
    assert terminal.ran == []


def test_python_that_raises_fails_the_page(terminal: Terminal) -> None:
    with pytest.raises(Failed, match="ZeroDivisionError"):
        terminal.paste(block("python", "1 / 0\n"))


def test_variables_and_files_are_there_for_the_next_block(terminal: Terminal) -> None:
    terminal.paste(block("python", "print('from a file')\n", file="said.py"))
    terminal.paste(block("sh", "what=$(python said.py)\n"))
    terminal.paste(block("sh", 'echo "$what" | grep "from a file"\n'))
    assert len(terminal.ran) == 2


def test_await_may_stand_alone_as_in_python_m_asyncio(terminal: Terminal) -> None:
    terminal.paste(block("python", "import asyncio\nprint(await asyncio.sleep(0, 'slept'))\n"))
    terminal.paste(block("text", "slept\n"))


def test_output_that_is_not_what_was_printed_fails_the_page(terminal: Terminal) -> None:
    terminal.paste(block("sh", "echo decode at 12 tokens\n"))
    terminal.paste(
        block("text", "decode at 444 tokens\n")
    )  # figures differ from machine to machine
    terminal.paste(block("sh", "echo decode at 12 tokens\n"))
    with pytest.raises(Failed, match="goodbye"):
        terminal.paste(block("text", "goodbye everybody\n"))


def test_a_block_that_needs_what_is_not_here_is_counted_and_left(terminal: Terminal) -> None:
    terminal.paste(block("sh", "false\n", needs="GPU"))
    assert terminal.left == ["page.md:1"]
    assert terminal.ran == []

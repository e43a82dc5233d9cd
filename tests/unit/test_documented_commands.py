"""The README's table of commands names what the program has, and nothing that it has not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import typer
from typer.core import TyperGroup

from isthmus.cli.main import build

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
GROUPS = ("edge", "cloud", "model", "bench", "privacy", "route")


def commands() -> Iterator[str]:
    """Every command of the program, as it is typed."""
    for name in _program(None).commands:
        if name in GROUPS:
            group = _program(name).commands[name]
            assert isinstance(group, TyperGroup)
            yield from (f"{name} {one}" for one in group.commands)
        else:
            assert not isinstance(_program(name).commands[name], TyperGroup)
            yield name


def _program(wanted: str | None) -> TyperGroup:
    program = typer.main.get_command(build(wanted))
    assert isinstance(program, TyperGroup)
    return program


def documented() -> set[str]:
    """The commands of the table's first column: "isthmus a b / c", and `d` in marks of its own."""
    section = README.split("\n## Commands\n")[1].split("\n## ")[0]
    found = set()
    for row in re.findall(r"^\| (`.*?) \|", section, flags=re.M):
        group = ""
        for words in re.findall(r"`([^`]+)`", row):
            first, *rest = words.removeprefix("isthmus ").split(" / ")
            if words.startswith("isthmus "):
                group = first.split()[0] if " " in first else ""
            else:
                first = f"{group} {first}"
            found |= {first, *(f"{group} {one}" for one in rest)}
    return found


def test_the_readme_names_every_command_and_no_other() -> None:
    assert documented() == set(commands())

"""The program `isthmus`: finds the command, imports it alone, and tells errors in one line."""

from __future__ import annotations

import errno
import importlib
import sys
from dataclasses import dataclass
from importlib import metadata
from typing import Annotated

import typer

from isthmus.core.errors import ConfigError, InvalidRequest, IsthmusError


@dataclass(frozen=True, slots=True)
class _Command:
    """Where a command lives (`module:name`, a function or a group), and what it does."""

    target: str
    help: str

    def load(self) -> object:
        module, _, name = self.target.partition(":")
        return getattr(importlib.import_module(module), name)


_COMMANDS = {
    "up": _Command("isthmus.cli.up:up", "Run the whole system on this machine."),
    "chat": _Command("isthmus.cli.chat:chat", "Talk in the terminal."),
    "top": _Command("isthmus.cli.top:top", "Watch the running system in the terminal."),
    "edge": _Command("isthmus.cli.edge:app", "Run the edge agent."),
    "cloud": _Command("isthmus.cli.cloud:app", "Run the cloud gateway."),
    "doctor": _Command("isthmus.cli.doctor:doctor", "Tell what this machine has and lacks."),
    "model": _Command("isthmus.cli.model:app", "List, get, inspect, convert and export models."),
    "generate": _Command("isthmus.cli.generate:generate", "Continue a prompt on the engine alone."),
    "perplexity": _Command("isthmus.cli.generate:perplexity", "Measure a model on a text."),
    "bench": _Command("isthmus.cli.bench:app", "Measure speed, memory and accuracy."),
    "tune": _Command("isthmus.cli.tune:tune", "Choose the kernels that are quickest here."),
    "privacy": _Command("isthmus.cli.privacy:app", "See and decide what may leave the device."),
    "route": _Command("isthmus.cli.route:app", "Explain where requests go."),
}


def build(wanted: str | None) -> typer.Typer:
    """The program with `wanted` in full and every other command as its name and help alone."""
    app = typer.Typer(
        name="isthmus",
        help="Language models on the device and in the cloud, and a router between them.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_program)
    for name, command in _COMMANDS.items():
        loaded = command.load() if name == wanted else _stub
        if isinstance(loaded, typer.Typer):
            app.add_typer(loaded, name=name, help=command.help)
        else:
            app.command(name, short_help=command.help)(loaded)  # type: ignore[type-var]
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        print(metadata.version("isthmus"))
        raise typer.Exit


def _program(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", callback=_show_version, is_eager=True
        ),
    ] = False,
) -> None:
    """What every command shares: the option is dealt with before any of them."""


def _stub() -> None:
    """Never run: the command that is asked for is always loaded."""


def main(arguments: list[str] | None = None) -> None:
    """Run the program (`arguments` in place of the command line's) and exit.

    Status: 0 done, 1 failed, 2 misused.
    """
    words = sys.argv[1:] if arguments is None else arguments
    wanted = next((word for word in words if not word.startswith("-")), None)
    try:
        build(wanted)(words)
    except IsthmusError as error:
        where = f" ({error.field})" if error.field else ""
        print(f"error: {error.message}{where}", file=sys.stderr)
        sys.exit(2 if isinstance(error, InvalidRequest | ConfigError) else 1)
    except OSError as error:
        if error.filename is None and error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        where = f"{error.filename}: " if error.filename is not None else ""
        print(f"error: {where}{error.strerror}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()

"""`isthmus privacy`: what may leave the device."""

from __future__ import annotations

import typer

from isthmus.cli.consent import consent

app = typer.Typer(no_args_is_help=True, help="See and decide what may leave the device.")


@app.callback()
def privacy() -> None:
    """See and decide what may leave the device."""


app.command(epilog="Example: isthmus privacy consent --grant")(consent)

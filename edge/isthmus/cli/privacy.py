"""`isthmus privacy`: what may leave the device."""

from __future__ import annotations

import typer

from isthmus.cli.consent import consent
from isthmus.cli.privacy_eval import evaluate
from isthmus.cli.privacy_scan import scan

app = typer.Typer(no_args_is_help=True, help="See and decide what may leave the device.")


@app.callback()
def privacy() -> None:
    """See and decide what may leave the device."""


app.command(epilog="Example: isthmus privacy consent --grant")(consent)
app.command(
    epilog="Example: isthmus privacy scan 'Call me on 13812345678' --json",
)(scan)
app.command("eval", epilog="Example: isthmus privacy eval labelled.jsonl.gz --json")(evaluate)

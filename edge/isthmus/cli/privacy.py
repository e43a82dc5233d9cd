"""`isthmus privacy`: what may leave the device."""

from __future__ import annotations

import typer

from isthmus.cli.consent import consent
from isthmus.cli.privacy_eval import evaluate
from isthmus.cli.privacy_scan import scan
from isthmus.cli.receipts import export, receipt, report, verify

app = typer.Typer(no_args_is_help=True, help="See and decide what may leave the device.")


@app.callback()
def privacy() -> None:
    """See and decide what may leave the device."""


app.command(epilog="Example: isthmus privacy consent --grant")(consent)
app.command(
    epilog="Example: isthmus privacy scan 'Call me on 13812345678' --json",
)(scan)
app.command(epilog="Example: isthmus privacy receipt chatcmpl-5f3a…")(receipt)
app.command(epilog="Example: isthmus privacy verify audit.jsonl --key 3b6a…")(verify)
app.command(epilog="Example: isthmus privacy export audit.jsonl --since 30d")(export)
app.command(epilog="Example: isthmus privacy report --since 30d")(report)
app.command("eval", epilog="Example: isthmus privacy eval labelled.jsonl.gz --json")(evaluate)

"""`isthmus privacy consent`: whether requests may go to the cloud."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def consent(
    grant: Annotated[
        bool | None,
        typer.Option("--grant/--revoke", help="Allow it, or forbid it.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Tell, give or revoke the consent to the use of the cloud. A running agent follows at once."""
    from isthmus.edge.consent import Consent, consent_path, keep_consent

    if grant is not None:
        keep_consent(grant)
    granted = Consent().granted
    if as_json:
        print(json.dumps({"cloud": granted, "path": str(consent_path())}))
        return
    if granted:
        print("requests may go to the cloud; revoke it: isthmus privacy consent --revoke")
    else:
        print("every request stays on the device; allow the cloud: isthmus privacy consent --grant")

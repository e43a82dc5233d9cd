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
    share: Annotated[
        bool | None,
        typer.Option(
            "--share/--no-share",
            help="Tell the operator what came of requests, beyond what is billed. Never text.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Tell, give or revoke the consents: to the use of the cloud, and to sharing what came of
    requests, which is off unless given. A running agent follows at once.
    """
    from isthmus.edge.consent import Consent, consent_path, keep_consent

    if grant is not None or share is not None:
        keep_consent(grant, share=share)
    granted, shares = Consent().granted, Consent().shares
    if as_json:
        print(json.dumps({"cloud": granted, "share": shares, "path": str(consent_path())}))
        return
    if granted:
        print("requests may go to the cloud; revoke it: isthmus privacy consent --revoke")
    else:
        print("every request stays on the device; allow the cloud: isthmus privacy consent --grant")
    if shares:
        print("what came of requests is shared; stop it: isthmus privacy consent --no-share")
    else:
        print("nothing is shared with the operator beyond what is billed")

"""`isthmus cloud enroll` and its kin: tokens and certificates for fleets without an issuer."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isthmus.core.errors import InvalidRequest

if TYPE_CHECKING:
    from isthmus.cloud.identity.issuer import Issuer

ENROLL_EXAMPLE = """
Example: isthmus cloud enroll phone-7 --tenant acme --class phone > phone-7.token
"""
DEVICES_EXAMPLE = """
Example: isthmus cloud devices --json
"""
REVOKE_EXAMPLE = """
Example: isthmus cloud revoke acme/phone-7
"""
ROTATE_EXAMPLE = """
Example: isthmus cloud rotate-key
"""
CERTIFY_EXAMPLE = """
Example: isthmus cloud certify gateway.example 192.0.2.7 --to /etc/isthmus
"""

Folder = Annotated[
    Path | None,
    typer.Option(help="Where the keys are kept.", show_default="identity in Isthmus's home"),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object as the last line.")]
Days = Annotated[int, typer.Option(min=1, max=3650, help="How long it is good.")]


def enroll(
    device: Annotated[str, typer.Argument(help="The device's name, unique within its tenant.")],
    tenant: Annotated[str, typer.Option(help="Who pays for it.")] = "local",
    device_class: Annotated[
        str, typer.Option("--class", help="A kind of device, e.g. phone; few of them.")
    ] = "unknown",
    scope: Annotated[
        list[str] | None,
        typer.Option(help="What it may do: generate, report, sync.", show_default="all"),
    ] = None,
    days: Days = 90,
    audience: Annotated[str, typer.Option(help="The gateways that take it.")] = "isthmus",
    certificate: Annotated[
        Path | None,
        typer.Option(help="Write a client certificate and its key into this folder too."),
    ] = None,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Print a token for a device; make the key that signs it when there is none.

    The first time it says what the gateway's configuration needs.
    """
    from isthmus.cloud.identity.authority import Authority
    from isthmus.cloud.identity.base import Scope
    from isthmus.cloud.identity.issuer import ISSUER, check_names

    issuer = _issuer(folder)
    known = {one.value: one for one in Scope}
    for word in scope or ():
        if word not in known:
            raise InvalidRequest(f"--scope must be one of {', '.join(known)}", field="--scope")
    check_names(tenant, device, device_class)
    first = not issuer.jwks_file.exists()
    token, issued = issuer.enroll(
        tenant,
        device,
        device_class=device_class,
        scopes=[known[word] for word in scope] if scope else list(Scope),
        audience=audience,
        days=days,
    )
    written: list[Path] = []
    if certificate is not None:
        written = Authority(issuer.folder).device(
            certificate, tenant, device, device_class=device_class, days=days
        )
    for path in written:
        typer.echo(f"wrote {path}", err=True)
    if first:
        typer.echo(
            "the gateway's configuration needs:\n\n[auth]\n"
            f"jwks_file = {json.dumps(str(issuer.jwks_file))}\n"
            f"revoked_file = {json.dumps(str(issuer.revoked_file))}\n"
            f"issuer = {json.dumps(ISSUER)}\naudience = {json.dumps(audience)}\n",
            err=True,
        )
    if as_json:
        told = {"token": token, **asdict(issued), "files": [str(path) for path in written]}
        typer.echo(json.dumps(told))
    else:
        typer.echo(token)


def devices(folder: Folder = None, as_json: AsJson = False) -> None:
    """List the tokens that were handed out: whose, until when, and which are revoked."""
    rows = [asdict(one) | {"state": state} for one, state in _issuer(folder).states()]
    if as_json:
        typer.echo(json.dumps({"devices": rows}))
        return
    width = max([len(f"{row['tenant']}/{row['device']}") for row in rows], default=0)
    for row in rows:
        name = f"{row['tenant']}/{row['device']}"
        until = f"{datetime.fromtimestamp(row['expires_unix_s'], UTC):%Y-%m-%d}"
        scopes = ",".join(row["scopes"])
        typer.echo(
            f"{name:{width}}  {row['state']:7}  until {until}  {row['token_id']}  "
            f"{row['device_class']}  {scopes}"
        )


def revoke(
    name: Annotated[str, typer.Argument(help="A tenant/device, or the id of one token.")],
    folder: Folder = None,
) -> None:
    """Let a device, or one of its tokens, in no more: gateways see it within a second."""
    ended = _issuer(folder).revoke(name)
    typer.echo(f"{name} is revoked; tokens that this ends: {len(ended)}", err=True)


def rotate_key(
    at_once: Annotated[
        bool,
        typer.Option("--at-once", help="Drop the old keys and every token that they signed."),
    ] = False,
    folder: Folder = None,
) -> None:
    """Sign with a new key from now on; the old one stays for as long as its tokens are good."""
    key_id = _issuer(folder).rotate(at_once=at_once)
    typer.echo(f"tokens are signed by the key {key_id} from now on", err=True)


def certify(
    hosts: Annotated[list[str], typer.Argument(help="The gateway's names and addresses.")],
    to: Annotated[Path, typer.Option(help="The folder to write into.")],
    days: Days = 365,
    folder: Folder = None,
) -> None:
    """Write a certificate for a gateway, signed by the root that devices trust."""
    from isthmus.cloud.identity.authority import Authority

    for path in Authority(_issuer(folder).folder).server(to, hosts, days=days):
        typer.echo(f"wrote {path}", err=True)


def _issuer(folder: Path | None) -> Issuer:
    from isthmus.cloud.identity.issuer import Issuer
    from isthmus.core.paths import home

    return Issuer(folder or home() / "identity")

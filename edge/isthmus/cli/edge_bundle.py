"""`isthmus edge bundle`: what the operator has changed on this device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

EXAMPLE = "Example: isthmus edge bundle --config edge.toml"


def bundle(
    config: Annotated[
        Path | None, typer.Option(help="The agent's settings (see ISTHMUS_EDGE_* too).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Tell which of the operator's bundles is in use, what it changes, and what became of the last.

    It reads what the agent has kept; it asks no gateway.
    """
    from isthmus.core.paths import home
    from isthmus.edge.config import EdgeConfig
    from isthmus.edge.fleet.held import HeldBundles

    own = EdgeConfig.load(config).router
    kept = HeldBundles(home() / "fleet")
    held = kept.read()
    found: dict[str, Any] = {
        "sequence": held.sequence,
        "version": "",
        "changes": {},
        "tried": held.tried,
        "state": held.state,
        "problem": held.problem,
    }
    signed = kept.bundle(held.sequence)
    if signed is not None:
        from isthmus.core.wire.fleet import bundle_from_bytes
        from isthmus.edge.fleet.policy import differences, tuned

        read = bundle_from_bytes(signed.payload)
        in_effect = tuned(own, read.policy_toml)
        found["version"] = read.version
        found["changes"] = {
            f"router.{name}": str(getattr(in_effect, name)) for name in differences(own, in_effect)
        }
        for part in ("price", "router_file", "kernel_choices_json"):
            if getattr(read, part):
                found["changes"][part] = "from the bundle"
    if as_json:
        print(json.dumps(found))
    else:
        _show(found)


def _show(found: dict[str, Any]) -> None:
    if found["sequence"]:
        print(f"bundle {found['sequence']} ({found['version']}) is in use")
        for name, value in found["changes"].items():
            print(f"  {name} = {value}")
    else:
        print("no bundle is in use: the device's own settings decide")
    if found["state"] and found["state"] != "in_use":
        problem = f", for {found['problem']}" if found["problem"] else ""
        # Nobody vouches for the number of one that is not signed, or is an old one.
        known = found["tried"] and found["state"] not in {"bad_signature", "replayed"}
        which = f"bundle {found['tried']}" if known else "the last bundle that came"
        print(f"{which} was refused: {found['state']}{problem}")

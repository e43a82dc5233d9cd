"""What `isthmus cloud fleet` tells, for people and as JSON."""

from __future__ import annotations

import json
import sys
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isthmus.cloud.fleet.stages import Stage
    from isthmus.cloud.fleet.store import FleetStore


def summary(store: FleetStore, tenant: str, limit: int) -> dict[str, Any]:
    """Bundles and how many devices run each; the first `limit` devices by name."""
    from isthmus.cloud.fleet.store import handed

    rows = store.devices(tenant, 1_000_000)
    published, bundles = store.published(tenant), []
    meant = Counter(handed(published, row.device, row.device_class) for row in rows)
    for one in published:
        refusals: dict[str, int] = {}
        for row in rows:
            if row.tried_sequence == one.sequence != row.sequence and row.state:
                why = f"{row.state} ({row.problem})" if row.problem else row.state
                refusals[why] = refusals.get(why, 0) + 1
        bundles.append(
            {
                "sequence": one.sequence,
                "version": one.version,
                "published": _time(one.published_ms),
                "rolls_back_to": one.rolls_back_to,
                "stage": _stage_json(one.stage),
                "meant": meant[one.sequence],
                "running": sum(row.sequence == one.sequence for row in rows),
                "refused": refusals,
            }
        )
    unsigned = sum(row.state == "bad_signature" for row in rows)
    found = {
        "tenant": tenant,
        "devices": len(rows),
        "other_tenants": [name for name in store.tenants() if name != tenant],
        "refused_signatures": unsigned,
        "bundles": bundles,
    }
    if limit:
        found["listed"] = [
            {
                name: value
                for name, value in row._mapping.items()
                if name not in {"tenant", "seen_ms", "reported_ms"}
            }
            | {"seen": _time(row.seen_ms), "reported": _time(row.reported_ms)}
            for row in rows[:limit]
        ]
    return found


def show(found: dict[str, Any]) -> None:
    """A summary, for people."""
    from rich.console import Console
    from rich.table import Table

    # A table that is piped somewhere is not cut at 80 columns.
    console = Console(width=None if sys.stdout.isatty() else 160)
    table = Table("bundle", "version", "published", "goes to", "meant", "running", "refused")
    for one in found["bundles"]:
        refused = ", ".join(f"{count} {why}" for why, count in one["refused"].items())
        table.add_row(
            str(one["sequence"]),
            one["version"],
            one["published"],
            _words(one["stage"]),
            str(one["meant"]),
            str(one["running"]),
            refused or "-",
        )
    console.print(table)
    console.print(
        f"{found['devices']} devices of tenant {found['tenant']} have come for bundles or reported"
    )
    if found["other_tenants"]:
        console.print(f"devices of others came too: --tenant {' or '.join(found['other_tenants'])}")
    if found["refused_signatures"]:
        console.print(
            f"{found['refused_signatures']} of them were last handed one that no key they have "
            "pinned has signed"
        )
    if "listed" in found:
        columns = ("device", "device_class", "sequence", "state", "problem", "software", "seen")
        table = Table(*columns)
        for row in found["listed"]:
            table.add_row(*(str(row[name]) for name in columns))
        console.print(table)


def told(tenant: str, bundle: dict[str, Any], stage: Stage, *, as_json: bool) -> None:
    """Whom a bundle, by its sequence and what else is known of it, goes to now."""
    if as_json:
        print(json.dumps(bundle | {"stage": _stage_json(stage)}))
        return
    version = f" ({bundle['version']})" if "version" in bundle else ""
    whom = _words(_stage_json(stage))
    print(f"bundle {bundle['sequence']}{version} goes to {whom} of tenant {tenant}")


def _stage_json(stage: Stage) -> dict[str, Any]:
    return {"percent": stage.percent, "classes": stage.classes, "devices": stage.devices}


def _words(stage: dict[str, Any]) -> str:
    """A stage for people."""
    named = ", ".join(stage["devices"])
    if not stage["percent"]:
        return named or "nobody"
    kinds = " and ".join(stage["classes"])
    if stage["percent"] == 100:
        told = f"all of {kinds}" if kinds else "all devices"
    else:
        told = f"{stage['percent']:g} % of {kinds or 'devices'}"
    return f"{told}, and {named}" if named else told


def _time(ms: int | None) -> str | None:
    if ms is None:
        return None
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%MZ")

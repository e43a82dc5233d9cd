"""Figures of all devices and bundles from the database, for `/metrics`. Blocking."""

from __future__ import annotations

import time
from collections import Counter
from typing import Final

import sqlalchemy as sa

from isthmus.cloud.fleet import tables
from isthmus.cloud.fleet.metrics import Counted
from isthmus.cloud.fleet.store import FleetStore
from isthmus.core.bounded import OTHER, Bounded

_SEEN_S: Final = ((300, "5m"), (3600, "1h"), (86_400, "1d"), (7 * 86_400, "7d"))
_OFFLINE_S: Final = ((10, "no"), (3600, "1h"), (86_400, "1d"), (7 * 86_400, "7d"))
_LONGER: Final = "longer"
_BUNDLES: Final = 8
"""Bundles of a tenant with a series of their own: the latest."""
_NAMES: Final = 24
"""Software versions and backends with a series of their own."""


def snapshot(store: FleetStore, device_class: Bounded, tenant: Bounded) -> dict[str, Counted]:
    """Values by series and labels, for `FleetSnapshot`."""
    d = tables.devices.c
    now_ms = int(time.time() * 1000)
    shared = d.shares.is_(True)
    found: dict[str, Counter[tuple[str, ...]]] = {}

    def add(name: str, key: tuple[str, ...], value: int) -> None:
        found.setdefault(name, Counter())[key] += value

    seen = _band(now_ms - d.seen_ms, [(s * 1000, name) for s, name in _SEEN_S])
    for kind, band, count in store.devices_by(d.device_class, seen):
        add("isthmus_fleet_devices", (device_class(kind), band), count)
    for kind, reported_ms in store.last_reports():
        key = (device_class(kind),)
        ages = found.setdefault("isthmus_fleet_last_report_timestamp_seconds", Counter())
        ages[key] = max(ages[key], reported_ms // 1000)
    latest = store.latest()
    told = found["isthmus_fleet_bundle_latest"] = Counter()
    for owner, sequence in latest.items():
        key = (tenant(owner),)
        told[key] = max(told[key], sequence)
    for owner, sequence, state, count in store.devices_by(d.tenant, d.sequence, d.state):
        newest = latest.get(owner, 0)
        known = not sequence or newest - _BUNDLES < sequence <= newest
        name = str(sequence) if known else OTHER
        add("isthmus_fleet_bundle_devices", (tenant(owner), name, state or "none"), count)
    for column in (d.software, d.backend):
        bounded = Bounded(_NAMES)
        rows = store.devices_by(column, where=shared)
        for value, count in sorted(rows, key=lambda row: -row[1]):
            add(f"isthmus_fleet_{column.name}_devices", (bounded(value or "unknown"),), count)
    for column in (d.battery, d.heat):
        for value, kind, count in store.devices_by(column, d.device_class, where=shared):
            add(f"isthmus_fleet_{column.name}_devices", (value, device_class(kind)), count)
    offline = _band(d.offline_s, _OFFLINE_S)
    for band, count in store.devices_by(offline, where=shared):
        add("isthmus_fleet_offline_devices", (band,), count)
    add("isthmus_fleet_dropped_rows", (), store.total(d.dropped_rows))
    return dict(found)


def _band(
    value: sa.ColumnElement[int], bands: tuple[tuple[int, str], ...] | list[tuple[int, str]]
) -> sa.ColumnElement[str]:
    """The name of the first band that `value` is below."""
    return sa.case(*((value < most, name) for most, name in bands), else_=_LONGER)

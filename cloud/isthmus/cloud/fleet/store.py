"""The fleet in the database: outcomes that were counted, bundles with their stages, devices.

Blocking, and for one thread at a time. The database's errors become ours.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Final

import sqlalchemy as sa

from isthmus.cloud.fleet import tables
from isthmus.cloud.fleet.stages import Stage, list_from_json, list_to_json
from isthmus.cloud.identity.base import Caller
from isthmus.cloud.ledger.database import mapped, migrate
from isthmus.cloud.ledger.dialect import insert
from isthmus.core.bundle import Bundle, SignedBundle
from isthmus.core.errors import AlreadyExists, InvalidRequest
from isthmus.core.wire.fleet import bundle_from_bytes

_DAY_S: Final = 86_400
_SALT_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Published:
    """A bundle in the database, without its content."""

    sequence: int
    version: str
    published_ms: int
    rolls_back_to: int | None
    stage: Stage
    salt: bytes


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """What a device said last."""

    sequence: int = 0
    tried_sequence: int = 0
    state: str = ""
    problem: str = ""
    shares: bool = False
    software: str = ""
    backend: str = ""
    battery: str = ""
    heat: str = ""
    offline_s: int = 0
    dropped_rows: int = 0


def handed(published: Sequence[Published], device: str, device_class: str) -> int:
    """The bundle that a device should run, of those `published`, newest first; 0: none."""
    stages = (one for one in published if one.stage.includes(device, device_class, one.salt))
    return next((one.sequence for one in stages), 0)


class FleetStore:
    """Everything that the fleet keeps."""

    def __init__(self, engine: sa.Engine, *, clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._clock = clock

    def open(self) -> None:
        """Bring the schema up to date. Raises `ConfigError` or `Unavailable`."""
        migrate(self._engine)

    def close(self) -> None:
        """Let the connections go."""
        self._engine.dispose()

    # --- outcomes -----------------------------------------------------------------------------

    def count_once(self, caller: Caller, request_ids: Sequence[str]) -> frozenset[str]:
        """Those of a device's requests that were never reported before; from now on all were."""
        by_digest = {_digest(caller, one): one for one in request_ids}
        if not by_digest:
            return frozenset()
        day = int(self._clock()) // _DAY_S
        rows = [{"digest": digest, "day": day} for digest in sorted(by_digest)]
        with self._begin() as connection:
            row = insert(connection.dialect, tables.outcomes).values(rows).on_conflict_do_nothing()
            new = connection.execute(row.returning(tables.outcomes.c.digest))
            return frozenset(by_digest[bytes(row.digest)] for row in new)

    def forget_before(self, days: int) -> None:
        """Forget what was reported more than `days` days ago."""
        oldest = int(self._clock()) // _DAY_S - days
        with self._begin() as connection:
            connection.execute(sa.delete(tables.outcomes).where(tables.outcomes.c.day < oldest))

    # --- bundles ------------------------------------------------------------------------------

    def next_sequence(self, tenant: str) -> int:
        """The sequence that the next bundle has to have."""
        with self._begin() as connection:
            return _next_sequence(connection, tenant)

    def publish(self, tenant: str, signed: SignedBundle, stage: Stage) -> Bundle:
        """Keep a bundle, with its stage. Raises `AlreadyExists` when another was quicker."""
        bundle = bundle_from_bytes(signed.payload)
        with self._begin() as connection:
            row = insert(connection.dialect, tables.bundles).values(
                tenant=tenant,
                sequence=bundle.sequence,
                version=bundle.version,
                published_ms=self._now_ms(),
                rolls_back_to=bundle.rolls_back_to,
                payload=signed.payload,
                signature=signed.signature,
                salt=secrets.token_bytes(_SALT_BYTES),
                **_stage_columns(stage),
            )
            next_one = bundle.sequence == _next_sequence(connection, tenant)
            # Two operators may have asked for the next number at once.
            if not next_one or not connection.execute(row.on_conflict_do_nothing()).rowcount:
                raise AlreadyExists(
                    f"bundle {bundle.sequence} is not the next one: publish it again",
                    field="sequence",
                )
        return bundle

    def stage(self, tenant: str, sequence: int, stage: Stage) -> None:
        """Hand a bundle to other devices from now on. Raises `InvalidRequest`."""
        with self._begin() as connection:
            changed = connection.execute(
                sa.update(tables.bundles)
                .where(tables.bundles.c.tenant == tenant, tables.bundles.c.sequence == sequence)
                .values(**_stage_columns(stage))
            )
        if not changed.rowcount:
            raise InvalidRequest(f"there is no bundle {sequence}", field="sequence")

    def published(self, tenant: str) -> tuple[Published, ...]:
        """Every bundle of a tenant, newest first."""
        columns = [c for c in tables.bundles.c if c.name not in {"payload", "signature", "tenant"}]
        query = (
            sa.select(*columns)
            .where(tables.bundles.c.tenant == tenant)
            .order_by(tables.bundles.c.sequence.desc())
        )
        with self._begin() as connection:
            return tuple(
                Published(
                    row.sequence,
                    row.version,
                    row.published_ms,
                    row.rolls_back_to,
                    Stage(row.percent, list_from_json(row.classes), list_from_json(row.devices)),
                    bytes(row.salt),
                )
                for row in connection.execute(query)
            )

    def bundle(self, tenant: str, sequence: int) -> SignedBundle:
        """A bundle as it was signed. Raises `InvalidRequest` where there is none."""
        query = sa.select(tables.bundles.c.payload, tables.bundles.c.signature).where(
            tables.bundles.c.tenant == tenant, tables.bundles.c.sequence == sequence
        )
        with self._begin() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            raise InvalidRequest(f"there is no bundle {sequence}", field="sequence")
        return SignedBundle(bytes(row.payload), bytes(row.signature))

    # --- devices ------------------------------------------------------------------------------

    def synced(self, caller: Caller, row: DeviceRow) -> None:
        """Note what a device said."""
        self._note(caller, asdict(row))

    def reported(self, caller: Caller) -> None:
        """Note that a device sent its spool."""
        self._note(caller, {"reported_ms": self._now_ms()})

    def _note(self, caller: Caller, values: dict[str, object]) -> None:
        values = values | {"device_class": caller.device_class, "seen_ms": self._now_ms()}
        key = {"tenant": caller.tenant, "device": caller.device}
        with self._begin() as connection:
            row = insert(connection.dialect, tables.devices).values(
                key | asdict(DeviceRow()) | values
            )
            connection.execute(
                row.on_conflict_do_update(index_elements=["tenant", "device"], set_=values)
            )

    def devices_by(
        self, *columns: sa.ColumnElement[Any], where: sa.ColumnElement[bool] | None = None
    ) -> list[Any]:
        """How many devices there are of each combination, as the last column."""
        query = sa.select(*columns, sa.func.count()).select_from(tables.devices)
        if where is not None:
            query = query.where(where)
        with self._begin() as connection:
            # By number: PostgreSQL does not know two equal expressions with parameters as one.
            grouped = query.group_by(*(sa.literal_column(str(n + 1)) for n in range(len(columns))))
            return list(connection.execute(grouped))

    def last_reports(self) -> list[tuple[str, int]]:
        """When a device of each class sent its spool last, in Unix milliseconds."""
        d = tables.devices.c
        query = sa.select(d.device_class, sa.func.max(d.reported_ms))
        query = query.where(d.reported_ms.is_not(None)).group_by(d.device_class)
        with self._begin() as connection:
            return [(row[0], int(row[1])) for row in connection.execute(query)]

    def total(self, column: sa.ColumnElement[int]) -> int:
        """The sum of a column over all devices."""
        with self._begin() as connection:
            return int(connection.execute(sa.select(sa.func.sum(column))).scalar() or 0)

    def latest(self) -> dict[str, int]:
        """The highest sequence of each tenant that has bundles."""
        b = tables.bundles.c
        query = sa.select(b.tenant, sa.func.max(b.sequence)).group_by(b.tenant).order_by(b.tenant)
        with self._begin() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def tenants(self) -> list[str]:
        """Whose devices have come, by name."""
        query = sa.select(tables.devices.c.tenant).distinct().order_by(tables.devices.c.tenant)
        with self._begin() as connection:
            return list(connection.execute(query).scalars())

    def devices(self, tenant: str, limit: int) -> list[sa.Row[Any]]:
        """A tenant's devices, the last seen first."""
        query = (
            sa.select(tables.devices)
            .where(tables.devices.c.tenant == tenant)
            .order_by(tables.devices.c.seen_ms.desc())
            .limit(limit)
        )
        with self._begin() as connection:
            return list(connection.execute(query))

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)

    @contextmanager
    def _begin(self) -> Iterator[sa.Connection]:
        with mapped(), self._engine.begin() as connection:
            yield connection


def _next_sequence(connection: sa.Connection, tenant: str) -> int:
    latest = sa.select(sa.func.max(tables.bundles.c.sequence)).where(
        tables.bundles.c.tenant == tenant
    )
    return (connection.execute(latest).scalar() or 0) + 1


def _stage_columns(stage: Stage) -> dict[str, object]:
    return {
        "percent": stage.percent,
        "classes": list_to_json(stage.classes),
        "devices": list_to_json(stage.devices),
    }


def _digest(caller: Caller, request_id: str) -> bytes:
    """Names a request of a device in 16 bytes; nobody reads the request's id out of it."""
    hashed = hashlib.blake2b(digest_size=16)
    for part in (caller.tenant, caller.device, request_id):
        data = part.encode()
        hashed.update(len(data).to_bytes(8))
        hashed.update(data)
    return hashed.digest()

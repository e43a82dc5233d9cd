"""The fleet in the database: counted once, by however many gateways, over restarts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from fleet_devices import signed
from isthmus.cloud.fleet.snapshot import snapshot
from isthmus.cloud.fleet.stages import Stage
from isthmus.cloud.fleet.store import DeviceRow, FleetStore
from isthmus.cloud.identity.base import Caller
from isthmus.cloud.ledger.database import make_engine
from isthmus.core.bounded import Bounded
from isthmus.core.errors import AlreadyExists, InvalidRequest

PHONE, ROBOT = Caller("acme", "phone-1", "phone"), Caller("acme", "robot-1", "robot")
DAY_S = 86_400.0

Opener = Callable[..., FleetStore]


@pytest.fixture
def opened(ledger_url: sa.URL) -> Iterator[Opener]:
    """Opens the same database again and again, as gateways do."""
    stores: list[FleetStore] = []

    def open_store(clock: Callable[[], float] = lambda: 100 * DAY_S) -> FleetStore:
        engine = make_engine(ledger_url, timeout_s=20)
        store = FleetStore(engine, clock=clock)
        store.open()
        stores.append(store)
        return store

    yield open_store
    for store in stores:
        store.close()


def test_a_request_counts_once_over_batches_gateways_and_restarts(opened: Opener) -> None:
    first, second = opened(), opened()
    assert first.count_once(PHONE, ["a", "b"]) == {"a", "b"}
    assert second.count_once(PHONE, ["b", "c"]) == {"c"}
    first.close()
    assert opened().count_once(PHONE, ["a", "b", "c", "d"]) == {"d"}


def test_another_devices_request_of_the_same_name_is_another(opened: Opener) -> None:
    store = opened()
    others = (ROBOT, Caller("acme", "phone-2"), Caller("acm", "ephone-1"), Caller("b", "phone-1"))
    assert store.count_once(PHONE, ["a"]) == {"a"}
    assert [store.count_once(other, ["a"]) for other in others] == [{"a"}] * 4


def test_of_connections_that_send_the_same_at_once_one_counts(opened: Opener) -> None:
    stores = [opened() for _ in range(4)]
    ids = [f"r{number}" for number in range(200)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda store: store.count_once(PHONE, ids), stores))
    assert sum(map(len, found)) == 200
    assert frozenset().union(*found) == set(ids)


def test_what_was_reported_long_ago_is_forgotten(opened: Opener) -> None:
    now = [100 * DAY_S]
    store = opened(lambda: now[0])
    store.count_once(PHONE, ["a"])
    now[0] += 29 * DAY_S
    store.forget_before(30)
    assert store.count_once(PHONE, ["a"]) == frozenset()
    now[0] += 2 * DAY_S
    store.forget_before(30)
    assert store.count_once(PHONE, ["a"]) == {"a"}


def test_bundles_are_numbered_by_tenant_and_kept_as_they_were_signed(opened: Opener) -> None:
    store, bundle = opened(), signed(1, 'preset = "best"')
    store.publish("acme", bundle, Stage(10, ("phone",), ("robot-1",)))
    assert (store.next_sequence("acme"), store.next_sequence("other")) == (2, 1)
    assert store.bundle("acme", 1) == bundle
    (published,) = store.published("acme")
    assert published.stage == Stage(10, ("phone",), ("robot-1",))
    assert store.published("other") == ()
    store.stage("acme", 1, Stage(100))
    assert store.published("acme")[0].stage == Stage()
    assert store.published("acme")[0].salt == published.salt, "a stage grows, it is not drawn anew"


@pytest.mark.parametrize("sequence", [1, 3])
def test_a_bundle_out_of_turn_is_refused(opened: Opener, sequence: int) -> None:
    store = opened()
    store.publish("acme", signed(1), Stage())
    with pytest.raises(AlreadyExists):
        store.publish("acme", signed(sequence), Stage())


def test_a_bundle_that_is_not_there_is_the_callers_mistake(opened: Opener) -> None:
    store = opened()
    with pytest.raises(InvalidRequest):
        store.bundle("acme", 1)
    with pytest.raises(InvalidRequest):
        store.stage("acme", 1, Stage())


def test_the_snapshot_counts_devices_and_names_none(opened: Opener) -> None:
    store = opened()
    state = {"battery": "low", "heat": "hot", "software": "0.1.0", "backend": "native:avx2"}
    for sequence in (1, 2, 3):
        store.publish("acme", signed(sequence), Stage())
    store.synced(PHONE, DeviceRow(3, 3, "in_use", shares=True, dropped_rows=7, **state))
    store.synced(ROBOT, DeviceRow(2, 3, "worse", "router_file"))
    store.reported(ROBOT)
    store.synced(Caller("acme", "liar", "robot"), DeviceRow(999, 999, "in_use"))
    found = snapshot(store, Bounded(9), Bounded(9))
    assert found["isthmus_fleet_bundle_devices"] == {
        ("acme", "3", "in_use"): 1,
        ("acme", "2", "worse"): 1,
        ("acme", "other", "in_use"): 1,
    }
    assert found["isthmus_fleet_battery_devices"] == {("low", "phone"): 1}
    assert found["isthmus_fleet_heat_devices"] == {("hot", "phone"): 1}
    assert found["isthmus_fleet_software_devices"] == {("0.1.0",): 1}
    assert found["isthmus_fleet_backend_devices"] == {("native:avx2",): 1}
    assert found["isthmus_fleet_offline_devices"] == {("no",): 1}
    assert found["isthmus_fleet_devices"] == {("phone", "longer"): 1, ("robot", "longer"): 2}
    assert found["isthmus_fleet_last_report_timestamp_seconds"] == {("robot",): 100 * DAY_S}
    assert found["isthmus_fleet_dropped_rows"] == {(): 7}
    assert found["isthmus_fleet_bundle_latest"] == {("acme",): 3}
    assert "phone-1" not in str(found)
    assert "robot-1" not in str(found)
    assert len(store.devices("acme", 9)) == 3


def test_the_snapshot_tells_tenants_bundles_apart_and_those_of_many_together(
    opened: Opener,
) -> None:
    store = opened()
    for number, tenant in enumerate(("acme", "bees", "cats", "dogs"), start=1):
        for sequence in range(1, number + 1):
            store.publish(tenant, signed(sequence), Stage())
        store.synced(Caller(tenant, "d", "phone"), DeviceRow(2, 2, "in_use"))
    found = snapshot(store, Bounded(9), Bounded(2))
    assert found["isthmus_fleet_bundle_latest"] == {("acme",): 1, ("bees",): 2, ("other",): 4}
    assert found["isthmus_fleet_bundle_devices"] == {
        ("acme", "other", "in_use"): 1,  # which has no second bundle
        ("bees", "2", "in_use"): 1,
        ("other", "2", "in_use"): 2,
    }

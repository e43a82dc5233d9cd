"""ReportOutcomes and SyncDevice over real gRPC: what counts, and who is handed which bundle."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from prometheus_client import generate_latest

from device_tokens import Signer, auth_settings, write_jwks
from fleet_devices import signed
from isthmus.cloud.fleet import service
from isthmus.cloud.fleet.stages import Stage
from isthmus.cloud.fleet.store import FleetStore
from isthmus.cloud.ledger.database import make_engine, sqlite_url
from isthmus.cloud.server import Gateway
from isthmus.cloud.testing import ScriptedBackend, gateway_config
from isthmus.core import wire
from isthmus.core.chat import PrivacyClass
from isthmus.core.decision import Outcome, Reason, Status, Target
from isthmus.core.errors import InvalidRequest, Overloaded, PermissionDenied, Unavailable
from isthmus.core.money import Usage
from isthmus.edge.remote import RemoteConfig, RemoteTier
from isthmus.v1 import fleet_pb2, gateway_pb2, outcome_pb2
from isthmus.v1.gateway_pb2_grpc import GatewayServiceStub

OUTCOME = Outcome(
    "r1",
    1.0,
    Target.CLOUD,
    (Reason.HARD, Reason.FELL_BACK),
    Status.OK,
    PrivacyClass.REDACTED,
    "big",
    Usage(100, 20, 40),
    ttft_ms=250.0,
    tpot_ms=30.0,
    total_ms=900.0,
    price_micro_usd=1_500_000,
    saved_micro_usd=250_000,
    error_kind="unavailable",
    expected_quality=0.7,
)


def raw(outcome: Outcome = OUTCOME, **changes: Any) -> bytes:
    return wire.outcome_to_wire(replace(outcome, **changes)).SerializeToString()


@asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[Gateway]:
    settings = {"fleet": {"snapshot_s": 0.05}} | settings
    gateway = Gateway(gateway_config(**settings), ScriptedBackend())
    await gateway.start()
    try:
        yield gateway
    finally:
        await gateway.stop()


@asynccontextmanager
async def device(gateway: Gateway, token: str | None = None) -> AsyncIterator[RemoteTier]:
    tier = RemoteTier(RemoteConfig(gateway.address, token=token))
    try:
        yield tier
    finally:
        await tier.close()


def metrics(gateway: Gateway) -> dict[str, float]:
    """Every sample of the fleet's, by its name and labels."""
    text = generate_latest(gateway.metrics.registry).decode()
    lines = [line for line in text.splitlines() if line.startswith("isthmus_fleet")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def sqlite(tmp_path: Path) -> dict[str, Any]:
    return {"kind": "sqlite", "path": tmp_path / "ledger.db"}


async def test_an_outcome_becomes_the_series_of_the_whole_fleet() -> None:
    async with running() as gateway, device(gateway) as tier:
        assert await tier.report([raw(), raw(request_id="r2", route=Target.EDGE)], []) == 2
        found = metrics(gateway)
    cloud = 'device_class="unknown",route="cloud"'
    of = {name.removeprefix("isthmus_fleet_"): value for name, value in found.items()}
    assert of[f'requests_total{{{cloud},status="ok"}}'] == 1
    assert of['reasons_total{device_class="unknown",reason="fell_back",route="cloud"}'] == 1
    assert of['model_requests_total{model="big",route="cloud"}'] == 1
    assert of[f"time_to_first_token_seconds_sum{{{cloud}}}"] == 0.25
    assert of[f"time_per_output_token_seconds_sum{{{cloud}}}"] == 0.03
    assert of[f"request_duration_seconds_count{{{cloud}}}"] == 1
    assert of[f"expected_quality_sum{{{cloud}}}"] == 0.7
    assert of['tokens_total{device_class="unknown",kind="prompt_prefilled",route="cloud"}'] == 60
    assert of['tokens_total{device_class="unknown",kind="prompt_cached",route="cloud"}'] == 40
    assert of['tokens_total{device_class="unknown",kind="completion",route="cloud"}'] == 20
    assert of['price_spent_usd_total{device_class="unknown"}'] == 3.0
    assert of['price_saved_usd_total{device_class="unknown"}'] == 0.5
    privacy = 'device_class="unknown",privacy_class="redacted",route="cloud"'
    assert of[f"privacy_requests_total{{{privacy}}}"] == 1
    assert of['errors_total{device_class="unknown",kind="unavailable",route="cloud"}'] == 1


async def test_a_second_answer_tells_of_the_first_and_is_in_no_time() -> None:
    second = raw(reasons=(Reason.SHADOW,), agreement=0.25, regret_micro_usd=3_000_000.0)
    async with running() as gateway, device(gateway) as tier:
        await tier.report([second], [])
        found = metrics(gateway)
    first = '{device_class="unknown",route="edge"}'
    assert found[f"isthmus_fleet_shadow_agreement_sum{first}"] == 0.25
    assert found[f"isthmus_fleet_shadow_regret_usd_total{first}"] == 3
    assert not [name for name in found if "time_to_first_token" in name]


async def test_batches_sent_again_overlapping_or_by_two_connections_count_once(
    tmp_path: Path,
) -> None:
    rows = [raw(request_id=f"r{number}") for number in range(30)]
    name = 'isthmus_fleet_requests_total{device_class="unknown",route="cloud",status="ok"}'
    async with running(ledger=sqlite(tmp_path)) as gateway:
        async with device(gateway) as one, device(gateway) as two:
            await asyncio.gather(one.report(rows[:20], []), two.report(rows[10:], []))
            await one.report([*rows[:5], *rows[:5]], [])
        found = metrics(gateway)
        assert found[name] == 30
        assert found["isthmus_fleet_duplicate_outcomes_total"] == 20
    async with running(ledger=sqlite(tmp_path)) as again, device(again) as tier:
        assert await tier.report(rows, []) == 30
        assert metrics(again).get(name, 0) == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ttft_ms", float("nan")),
        ("tpot_ms", -1.0),
        ("total_ms", float("inf")),
        ("price_micro_usd", -1),
        ("saved_micro_usd", 1 << 60),
        ("regret_micro_usd", float("nan")),
        ("expected_quality", 1.5),
        ("agreement", float("nan")),
        ("at_unix_s", float("nan")),
        ("request_id", ""),
        ("request_id", "x" * 257),
        ("request_id", "a\0b"),
        ("usage", Usage(1 << 50)),
    ],
)
async def test_a_row_that_would_spoil_a_series_refuses_its_batch_and_counts_nothing(
    field: str, value: Any
) -> None:
    async with running() as gateway, device(gateway) as tier:
        with pytest.raises(InvalidRequest) as caught:
            await tier.report([raw(request_id="good"), raw(**{field: value})], [])
        assert str(caught.value.field).startswith(f"outcomes[1].{field}")
        assert not [name for name in metrics(gateway) if "requests_total" in name]


async def test_a_batch_is_bounded() -> None:
    async with running() as gateway, device(gateway) as tier:
        for batch in (([raw()] * 1001, []), ([], [acknowledgement("a")] * 1001)):
            with pytest.raises(InvalidRequest):
                await tier.report(*batch)


async def test_names_that_devices_make_up_do_not_become_series() -> None:
    async with running(fleet={"max_models": 2}) as gateway, grpc_stub(gateway) as stub:
        outcomes = []
        for number in range(50):
            one = wire.outcome_to_wire(replace(OUTCOME, request_id=f"r{number}"))
            one.model, one.error_kind = f"model-{number}", f"oops-{number}"
            one.reasons.append(f"why-{number}")
            outcomes.append(one)
        await stub.ReportOutcomes(gateway_pb2.ReportOutcomesRequest(outcomes=outcomes))
        found = metrics(gateway)
    models = {name: value for name, value in found.items() if "model_requests_total" in name}
    assert models['isthmus_fleet_model_requests_total{model="other",route="cloud"}'] == 48
    assert len(models) == 3
    labels = 'device_class="unknown",{}="other",route="cloud"'
    assert found[f"isthmus_fleet_reasons_total{{{labels.format('reason')}}}"] == 50
    assert found[f"isthmus_fleet_errors_total{{{labels.format('kind')}}}"] == 50


async def test_classes_are_labels_and_devices_never(tmp_path: Path) -> None:
    key = Signer()
    auth = auth_settings(write_jwks(tmp_path / "jwks.json", key))
    async with running(auth=auth, fleet={"max_classes": 3, "snapshot_s": 0.05}) as gateway:
        for number in range(6):
            token = key.token(sub=f"secret-device-{number}", device_class=f"class-{number}")
            async with device(gateway, token) as tier:
                await tier.report([raw()], [])
                await tier.sync(fleet_pb2.SyncDeviceRequest())
        await asyncio.sleep(0.2)
        found = metrics(gateway)
    assert "secret-device" not in str(found)
    requests = [name for name in found if name.startswith("isthmus_fleet_requests_total")]
    assert len(requests) == 4, "three classes, and the others"
    assert sum(v for n, v in found.items() if n.startswith("isthmus_fleet_devices{")) == 6


async def test_a_token_without_the_scope_reports_nothing_and_syncs_nothing(
    tmp_path: Path,
) -> None:
    key = Signer()
    auth = auth_settings(write_jwks(tmp_path / "jwks.json", key))
    async with running(auth=auth) as gateway:
        async with device(gateway, key.token(scope="generate sync")) as tier:
            with pytest.raises(PermissionDenied):
                await tier.report([raw()], [])
        async with device(gateway, key.token(scope="generate report")) as tier:
            with pytest.raises(PermissionDenied):
                await tier.sync(fleet_pb2.SyncDeviceRequest())


# --- bundles ---


async def test_each_device_is_handed_the_latest_bundle_of_a_stage_that_it_is_in(
    tmp_path: Path,
) -> None:
    key = Signer()
    settings = {
        "auth": auth_settings(write_jwks(tmp_path / "jwks.json", key)),
        "ledger": sqlite(tmp_path),
    }
    bundles = {number: signed(number, f"answer_tokens = {number}") for number in (1, 2, 3)}
    async with running(**settings) as gateway:
        with published(tmp_path) as store:
            store.publish("acme", bundles[1], Stage(100))
            store.publish("acme", bundles[2], Stage(100, classes=("robot",)))
            store.publish("acme", bundles[3], Stage(0, devices=("phone-7",)))

        async def handed(sub: str, kind: str, tenant: str = "acme", **has: int) -> int:
            token = key.token(sub=sub, device_class=kind, tenant=tenant)
            async with device(gateway, token) as tier:
                response = await tier.sync(fleet_pb2.SyncDeviceRequest(**has))
            if not response.HasField("bundle"):
                return 0
            payload = response.bundle.payload
            (number,) = [n for n, bundle in bundles.items() if bundle.payload == payload]
            assert response.bundle.signature == bundles[number].signature
            return number

        assert await handed("phone-1", "phone") == 1
        assert await handed("robot-1", "robot") == 2
        assert await handed("phone-7", "phone") == 3
        assert await handed("phone-1", "phone", sequence=1) == 0, "it has it"
        assert await handed("robot-1", "robot", sequence=1, tried_sequence=2) == 0, "it refused it"
        assert await handed("phone-1", "phone", sequence=3, tried_sequence=3) == 0, "nothing older"
        assert await handed("phone-7", "phone", tenant="other") == 0


async def test_what_a_device_says_of_itself_is_kept_coarse_and_bounded(tmp_path: Path) -> None:
    request = fleet_pb2.SyncDeviceRequest(
        sequence=2**64 - 1, state=99, problem="x\0\x1b" * 1000, tried_sequence=4
    )
    request.status.software, request.status.battery = "y" * 1000, 99
    async with running(ledger=sqlite(tmp_path)) as gateway, device(gateway) as tier:
        response = await tier.sync(request)
        assert response.next_sync_ms == 300_000
        with published(tmp_path) as store:
            (row,) = store.devices("local", 9)
    assert (row.tried_sequence, row.state, row.battery, row.shares) == (4, "", "unknown", True)
    assert (row.problem, row.software) == ("x" * 22, "y" * 64)


def acknowledgement(request_id: str) -> bytes:
    return outcome_pb2.Acknowledgement(request_id=request_id).SerializeToString()


@asynccontextmanager
async def grpc_stub(gateway: Gateway) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        yield GatewayServiceStub(channel)


class published:  # noqa: N801
    """The operator's way in: the gateway's own database."""

    def __init__(self, tmp_path: Path) -> None:
        engine = make_engine(sqlite_url(tmp_path / "ledger.db"), timeout_s=20)
        self._store = FleetStore(engine)

    def __enter__(self) -> FleetStore:
        self._store.open()
        return self._store

    def __exit__(self, *error: object) -> None:
        self._store.close()


async def test_devices_come_back_later_when_the_database_is_behind() -> None:
    async with running() as gateway, device(gateway) as tier:
        gateway.fleet._waiting = 500
        with pytest.raises(Overloaded) as caught:
            await tier.sync(fleet_pb2.SyncDeviceRequest())
        assert caught.value.retry_after_s == 30
        gateway.fleet._waiting = 0
        await tier.sync(fleet_pb2.SyncDeviceRequest())


async def test_devices_do_not_wait_for_a_database_that_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(service, "_PATIENCE_S", 0.05)
    hung = threading.Event()
    async with running() as gateway, device(gateway) as tier:
        gateway.fleet._thread.submit(hung.wait)
        with pytest.raises(Unavailable) as caught:
            await tier.sync(fleet_pb2.SyncDeviceRequest())
        assert caught.value.retry_after_s == 30
        hung.set()

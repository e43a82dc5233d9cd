"""The operator reaches the devices, and hears of them: command line, gateway and agent together."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from agent_client import HELLO, openai_client
from fleet_operator import Operator
from isthmus.cloud.server import Gateway
from isthmus.cloud.testing import ScriptedBackend, gateway_config
from isthmus.core.bundle import BundleState, OperatorKey
from isthmus.edge.consent import keep_consent
from isthmus.edge.fleet.config import FleetConfig
from isthmus.edge.ledger import Ledger, read_outcomes
from isthmus.edge.remote import RemoteConfig, RemoteTier
from isthmus.edge.testing import RunningAgent, running_agent
from isthmus.privacy.policy import PrivacyConfig
from isthmus.v1 import fleet_pb2
from processes import Program
from program import run
from waiting import eventually

ALWAYS_CLOUD, NEVER_CLOUD = "threshold = -1.0", "threshold = 1.5"


@pytest.fixture
def operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Operator:
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ISTHMUS_CLOUD_LEDGER__KIND", raising=False)
    return Operator(tmp_path / "operator")


@asynccontextmanager
async def gateway_of(operator: Operator, **settings: Any) -> AsyncIterator[Gateway]:
    fleet = {"sync_interval_s": 0.05, "snapshot_s": 0.05}
    ledger = {"kind": "sqlite", "path": operator.database}
    prices = [{"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}]
    config = gateway_config(**{"fleet": fleet, "ledger": ledger, "prices": prices, **settings})
    gateway = Gateway(config, ScriptedBackend())
    await gateway.start()
    try:
        yield gateway
    finally:
        await gateway.stop()


@asynccontextmanager
async def device_of(
    operator: Operator, address: str, home: str = "device", **settings: Any
) -> AsyncIterator[RunningAgent]:
    """A device that pins the operator's key; a `home` that is used again is a restart."""
    fleet = {"key_file": operator.public, "share": True, "sync_interval_s": 0.05}
    fleet |= {"report_interval_s": 0.05} | settings.pop("fleet", {})
    folder = operator.folder / home
    async with running_agent(
        cloud=RemoteTier(RemoteConfig(address, broken_s=0.2)),
        ledger=Ledger(folder / "ledger.sqlite"),
        fleet=FleetConfig(**fleet),
        **settings,
    ) as agent:
        assert agent.agent.member is not None
        await agent.agent.member.start()
        yield agent


async def route(agent: RunningAgent) -> str:
    """Where a request is answered now."""
    async with openai_client(agent) as client:
        raw = await client.chat.completions.with_raw_response.create(
            model="isthmus", messages=HELLO
        )
    return str(raw.headers["x-isthmus-route"])


def held(agent: RunningAgent) -> Callable[[], tuple[int, BundleState | None]]:
    """Which bundle is in use, and what became of the last."""

    def now() -> tuple[int, BundleState | None]:
        assert agent.agent.member is not None
        assert agent.agent.member.bundles is not None
        found = agent.agent.member.bundles.held
        return found.sequence, found.state

    return now


def figure(gateway: Gateway, name: str, **labels: str) -> float:
    """A metric of the fleet's."""
    found = gateway.metrics.registry.get_sample_value(f"isthmus_fleet_{name}", labels)
    return found or 0.0


async def test_a_published_bundle_changes_the_running_agents_decision_and_a_roll_back_changes_it_back(  # noqa: E501
    operator: Operator,
) -> None:
    async with (
        gateway_of(operator) as gateway,
        device_of(operator, gateway.address) as agent,
    ):
        assert await route(agent) == "edge"
        first = await asyncio.to_thread(operator.publish, ALWAYS_CLOUD)
        assert await eventually(lambda: held(agent)() == (first, BundleState.IN_USE))
        assert await route(agent) == "cloud"
        assert (await asyncio.to_thread(operator.bundle, first))["running"] == 1
        back = await asyncio.to_thread(operator.rollback)
        assert await eventually(lambda: held(agent)() == (back, BundleState.IN_USE))
        assert await route(agent) == "edge"
        assert await eventually(
            lambda: (
                figure(
                    gateway, "bundle_devices", tenant="local", sequence=str(back), state="in_use"
                )
                == 1
            )
        )


async def test_a_stage_reaches_the_devices_that_are_in_it_and_no_others(
    operator: Operator,
) -> None:
    async with (
        gateway_of(operator) as gateway,
        device_of(operator, gateway.address) as agent,
    ):
        named = await asyncio.to_thread(operator.publish, ALWAYS_CLOUD, "--device", "another-one")
        assert not await eventually(lambda: held(agent)()[0] == named, within_s=0.4)
        await asyncio.to_thread(operator.run, "stage", str(named), "--percent", "100")
        assert await eventually(lambda: held(agent)()[0] == named)


async def test_each_bundle_that_is_refused_is_told_with_its_reason(operator: Operator) -> None:
    async with (
        gateway_of(operator) as gateway,
        device_of(operator, gateway.address) as agent,
    ):
        for good in (1, 2):
            assert await asyncio.to_thread(operator.publish, NEVER_CLOUD) == good
            assert await eventually(lambda good=good: held(agent)()[0] == good)
        handed = gateway.fleet._bundle

        async def refused(change: Callable[[Any], Any], state: BundleState) -> None:
            """Publish a bundle that is changed on its way: what becomes of it, here and there."""

            async def changed(tenant: str, sequence: int) -> Any:
                return change(await handed(tenant, sequence))

            gateway.fleet._bundle = changed  # type: ignore[method-assign]
            await asyncio.to_thread(operator.publish, ALWAYS_CLOUD)
            assert await eventually(lambda: held(agent)() == (good, state))
            name = state.value
            assert await eventually(
                lambda: (
                    figure(
                        gateway, "bundle_devices", tenant="local", sequence=str(good), state=name
                    )
                    == 1
                )
            )
            assert await route(agent) == "edge"

        key = OperatorKey.from_pem(await asyncio.to_thread(operator.key.read_bytes))
        future = key.sign(fleet_pb2.Bundle(format=9, sequence=50).SerializeToString())
        old, stranger = await handed("local", 1), OperatorKey.new()
        await refused(
            lambda b: replace(b, payload=b.payload.replace(b"-1.0", b"-2.0")),
            BundleState.BAD_SIGNATURE,
        )
        await refused(lambda b: old, BundleState.REPLAYED)
        await refused(lambda b: stranger.sign(b.payload), BundleState.BAD_SIGNATURE)
        await refused(lambda b: future, BundleState.TOO_NEW)


async def test_a_device_that_begins_again_keeps_its_bundle_while_the_gateway_is_away(
    operator: Operator,
) -> None:
    async with gateway_of(operator) as gateway:
        address = gateway.address
        async with device_of(operator, address) as agent:
            await asyncio.to_thread(operator.publish, 'preset = "offline"')
            assert await eventually(lambda: held(agent)()[0] == 1)
    async with device_of(operator, address) as agent:
        # From its first request on.
        assert held(agent)() == (1, BundleState.IN_USE)
        assert agent.agent.router.preset == "offline"


async def test_a_bundle_that_keeps_everything_at_home_can_be_taken_back(
    operator: Operator,
) -> None:
    async with (
        gateway_of(operator) as gateway,
        device_of(operator, gateway.address) as agent,
    ):
        await asyncio.to_thread(operator.publish, 'preset = "offline"')
        assert await eventually(lambda: agent.agent.router.preset == "offline")
        await asyncio.to_thread(operator.rollback)
        assert await eventually(lambda: agent.agent.router.preset == "balanced")


# --- what devices tell ---


async def test_outcomes_of_an_outage_and_of_a_restart_are_counted_once_the_gateway_is_back(
    operator: Operator,
) -> None:
    async with device_of(operator, "127.0.0.1:9", fleet={"report_interval_s": 30}) as agent:
        for _ in range(3):
            assert await route(agent) == "edge"
    async with (
        gateway_of(operator) as gateway,
        device_of(operator, gateway.address) as agent,
    ):
        labels = {"route": "edge", "status": "ok", "device_class": "unknown"}
        assert await eventually(lambda: figure(gateway, "requests_total", **labels) == 3)
        await route(agent)
        assert await eventually(lambda: figure(gateway, "requests_total", **labels) == 4)
        assert figure(gateway, "duplicate_outcomes_total") == 0


async def test_what_a_killed_gateway_wrote_down_is_brought_to_what_the_device_received(
    operator: Operator,
) -> None:
    settings = (
        '[backend]\nkind = "scripted"\noptions = {tokens_per_s = 200, tokens = 400}\n'
        "[[prices]]\ninput_usd_per_mtok = 1\noutput_usd_per_mtok = 2\n"
        f'[ledger]\npath = "{operator.database}"\n'
    )
    config = operator.folder / "killed.toml"
    await asyncio.to_thread(config.write_text, settings)

    def serve(listen: str) -> tuple[Program, str]:
        serving = ("--config", str(config), "--listen", listen, "--metrics-listen", "")
        program = Program("cloud", "serve", *serving, "--json")
        return program, program.wait_for(r'"address": "([^"]+)"', 30)[1]

    first, address = await asyncio.to_thread(serve, "127.0.0.1:0")
    price = {"cloud_input_usd_per_mtok": Decimal(1), "cloud_output_usd_per_mtok": Decimal(2)}
    async with device_of(operator, address, **price) as agent:
        ledger = agent.agent.ledger
        assert ledger is not None
        async with openai_client(agent) as client:
            stream = await client.chat.completions.create(
                model="isthmus",
                messages=HELLO,
                stream=True,
                extra_body={"isthmus": {"route": "prefer_in_cloud"}},
            )
            pieces = 0
            async for _ in stream:
                pieces += 1
                if pieces == 50:
                    await asyncio.to_thread(first.kill)
        again, _ = await asyncio.to_thread(serve, address)

        async def charged() -> int:
            ran = await asyncio.to_thread(
                run, "cloud", "usage", "--config", str(config), "--by", "", "--json"
            )
            return int(json.loads(ran.stdout.splitlines()[-1])["rows"][0]["charge_micro_usd"])

        try:
            (outcome,) = read_outcomes(ledger.path)
            assert outcome.price_micro_usd > 0
            for _ in range(100):
                if await charged() == outcome.price_micro_usd:
                    break
                await asyncio.sleep(0.1)
            assert await charged() == outcome.price_micro_usd
        finally:
            await asyncio.to_thread(again.stop)


async def test_an_owner_who_shares_nothing_acknowledges_what_is_billed_and_no_more(
    operator: Operator,
) -> None:
    keep_consent(True)
    async with (
        gateway_of(operator) as gateway,
        device_of(
            operator,
            gateway.address,
            fleet={"share": None},
            privacy=PrivacyConfig(),
        ) as agent,
    ):
        await route(agent)
        await asyncio.to_thread(operator.publish, ALWAYS_CLOUD)
        assert await eventually(lambda: held(agent)()[0] == 1)
        assert await route(agent) == "cloud"
        equal = lambda: gateway.metrics.registry.get_sample_value(  # noqa: E731
            "isthmus_cloud_reconciled_total", {"result": "equal"}
        )
        assert await eventually(lambda: equal() == 1)
        assert not [
            sample
            for metric in gateway.metrics.registry.collect()
            for sample in metric.samples
            if sample.name == "isthmus_fleet_requests_total"
        ]
        (row,) = (await asyncio.to_thread(operator.run, "status", "--devices", "9"))["listed"]
        assert (row["shares"], row["software"], row["sequence"]) == (False, "", 1)
        keep_consent(share=True)
        await route(agent)
        cloud = {"route": "cloud", "status": "ok", "device_class": "unknown"}
        assert await eventually(lambda: figure(gateway, "requests_total", **cloud) == 1)


async def test_without_consent_no_gateway_hears_of_the_device(operator: Operator) -> None:
    async with (
        gateway_of(operator) as gateway,
        device_of(operator, gateway.address, privacy=PrivacyConfig(consent=False)) as agent,
    ):
        await asyncio.to_thread(operator.publish, ALWAYS_CLOUD)
        await route(agent)
        assert not await eventually(lambda: held(agent)()[0] == 1, within_s=0.4)
        assert (await asyncio.to_thread(operator.run, "status"))["devices"] == 0

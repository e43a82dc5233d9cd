"""Bundles on a device: what is taken, what is refused and how that is told, and the way back."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from fleet_devices import KEY, PINNED, Tuned, signed
from isthmus.core.bundle import MAX_BYTES, BundleState, OperatorKey, PinnedKeys
from isthmus.core.errors import ConfigError
from isthmus.core.money import Price
from isthmus.edge.fleet.bundles import Bundles
from isthmus.edge.fleet.held import HeldBundles
from isthmus.edge.fleet.parts import MOST_STARTS
from isthmus.edge.trained import Trained
from isthmus.engine.choices import check_fleet_choices
from isthmus.kernels.opencl.tuned import TunedFiles, dump
from isthmus.kernels.opencl.tuned import shipped as shipped_choices
from isthmus.router.config import RouterConfig
from isthmus.router.learned.router_file import shipped
from isthmus.router.presets import Preset
from isthmus.v1 import fleet_pb2
from program import run

SAVER, BEST = 'preset = "saver"', 'preset = "best"'


@asynccontextmanager
async def device(
    folder: Path, agent: Tuned, *, keys: PinnedKeys = PINNED, software: str = "1"
) -> AsyncIterator[Bundles]:
    """A device from its start to its orderly end."""
    bundles = Bundles(agent, RouterConfig(), keys, HeldBundles(folder), software=software)
    await bundles.start()
    try:
        yield bundles
    finally:
        await bundles.close()


async def test_a_bundle_changes_the_running_agent_and_outlives_a_restart(tmp_path: Path) -> None:
    agent, price = Tuned(), Price(Decimal("0.1"), Decimal("0.4"))
    async with device(tmp_path, agent) as bundles:
        await bundles.take(signed(3, BEST, price=price))
        assert (agent.router.preset, agent.price) == (Preset.BEST, price)
        assert (bundles.held.sequence, bundles.held.state) == (3, BundleState.IN_USE)
    again = Tuned()
    async with device(tmp_path, again) as bundles:
        assert (again.router.preset, again.price) == (Preset.BEST, price)
        assert bundles.held.sequence == 3


async def test_a_bundle_tunes_what_the_owner_sets_anew(tmp_path: Path) -> None:
    agent, price = Tuned(), Price(Decimal("0.1"), Decimal("0.4"))
    async with device(tmp_path, agent) as bundles:
        offline = RouterConfig(preset=Preset.OFFLINE)
        assert await bundles.over(offline) is offline, "there is no bundle yet"
        await bundles.take(signed(3, SAVER, price=price))
        assert (await bundles.over(offline)).preset is Preset.OFFLINE
        assert (await bundles.over(RouterConfig(preset=Preset.BEST))).preset is Preset.SAVER
        assert agent.router.preset is Preset.SAVER
        await bundles.use_own(offline)
        assert (agent.router.preset, agent.price) == (Preset.OFFLINE, price)
        await bundles.take(signed(4, BEST))
        assert agent.router.preset is Preset.OFFLINE


async def test_a_bundle_that_was_changed_on_the_way_is_refused(tmp_path: Path) -> None:
    agent, right = Tuned(), signed(1, BEST)
    async with device(tmp_path, agent) as bundles:
        for at in (0, len(right.payload) // 2, -1):
            payload = bytearray(right.payload)
            payload[at] ^= 1
            await bundles.take(replace(right, payload=bytes(payload)))
            assert bundles.held.state is BundleState.BAD_SIGNATURE
        for signature in (b"", b"\0" * 64, right.signature[:-1]):
            await bundles.take(replace(right, signature=signature))
            assert bundles.held.state is BundleState.BAD_SIGNATURE
        assert (agent.router, bundles.held.sequence) == (RouterConfig(), 0)


async def test_a_key_that_is_not_pinned_signs_for_nobody(tmp_path: Path) -> None:
    agent = Tuned()
    async with device(tmp_path, agent) as bundles:
        await bundles.take(signed(1, BEST, key=OperatorKey.new()))
        assert bundles.held.state is BundleState.BAD_SIGNATURE
        assert bundles.held.tried == 0, "nobody vouches for that number"
    assert agent.router == RouterConfig()


async def test_while_keys_change_both_may_sign(tmp_path: Path) -> None:
    new = OperatorKey.new()
    both = PinnedKeys.from_pem(KEY.public_pem() + b"# the next one\n" + new.public_pem())
    agent = Tuned()
    async with device(tmp_path, agent, keys=both) as bundles:
        await bundles.take(signed(1, BEST))
        await bundles.take(signed(2, SAVER, key=new))
        assert agent.router.preset is Preset.SAVER


async def test_a_format_of_the_future_is_refused_until_the_software_is_newer(
    tmp_path: Path,
) -> None:
    future = fleet_pb2.Bundle(format=2, sequence=7, version="later").SerializeToString()
    async with device(tmp_path, Tuned()) as bundles:
        await bundles.take(KEY.sign(future))
        held = bundles.held
        assert (held.state, held.problem, held.tried) == (BundleState.TOO_NEW, "format", 7)
    async with device(tmp_path, Tuned(), software="2") as bundles:
        assert (bundles.held.tried, bundles.held.state) == (0, None), "it may be handed out again"


async def test_an_older_bundle_is_a_replay_and_a_roll_back_is_a_newer_one(tmp_path: Path) -> None:
    agent = Tuned()
    async with device(tmp_path, agent) as bundles:
        await bundles.take(signed(4, SAVER))
        await bundles.take(signed(5, BEST))
        await bundles.take(signed(4, SAVER))
        assert bundles.held.state is BundleState.REPLAYED
        assert (agent.router.preset, bundles.held.sequence) == (Preset.BEST, 5)
        await bundles.take(signed(6, SAVER, rolls_back_to=4))
        assert bundles.held.state is BundleState.IN_USE
        assert (agent.router.preset, bundles.held.sequence) == (Preset.SAVER, 6)


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"policy": "preset = 'bold'"}, "router.preset"),
        ({"router_file": b"not a router file"}, "router_file"),
        ({"router_file": shipped().to_bytes()[:-1]}, "router_file"),
        ({"kernel_choices_json": "{}"}, "kernel_choices_json"),
        ({"price": Price(Decimal(-1))}, "price.input_usd_per_mtok"),
        ({"price": Price(Decimal("NaN"))}, "price.input_usd_per_mtok"),
        ({"router_file": b"x" * MAX_BYTES}, "payload"),
    ],
)
async def test_a_broken_part_refuses_the_whole_bundle(
    tmp_path: Path, more: dict[str, object], problem: str
) -> None:
    agent = Tuned()
    async with device(tmp_path, agent) as bundles:
        await bundles.take(signed(1, SAVER))
        broken = signed(2, **{"policy": BEST, **more})  # type: ignore[arg-type]
        await bundles.take(broken)
        assert (bundles.held.state, bundles.held.problem) == (BundleState.BROKEN, problem)
        assert (agent.router.preset, bundles.held.sequence) == (Preset.SAVER, 1)


@pytest.mark.parametrize("payload", [b"", b"\xff" * 40, b"\x10\x05"])
async def test_signed_nonsense_is_broken(tmp_path: Path, payload: bytes) -> None:
    async with device(tmp_path, Tuned()) as bundles:
        await bundles.take(KEY.sign(payload))
        assert bundles.held.state is BundleState.BROKEN


async def test_a_router_file_is_used_at_once_and_left_again(tmp_path: Path) -> None:
    other = replace(shipped(), provenance={"made": "for this test"}).to_bytes()
    agent = Tuned()
    async with device(tmp_path, agent) as bundles:
        before = agent.trained.file.version
        await bundles.take(signed(1, router_file=other))
        assert agent.trained.file.version != before
        await bundles.take(signed(2, SAVER))
        assert agent.trained.file.version == before


class Worse(Trained):
    """Has a shadow set on which every other file does worse."""

    def _figure(self, file: object) -> float:
        return 1.0 if file is shipped() else 0.2


async def test_a_router_file_that_does_worse_is_refused_unless_the_operator_goes_back_to_it(
    tmp_path: Path,
) -> None:
    other = replace(shipped(), provenance={"made": "for this test"}).to_bytes()
    agent = Tuned(Worse())
    async with device(tmp_path, agent) as bundles:
        await bundles.take(signed(1, BEST, router_file=other))
        assert (bundles.held.state, bundles.held.problem) == (BundleState.WORSE, "router_file")
        assert (agent.router, agent.trained.file) == (RouterConfig(), shipped())
        await bundles.take(signed(2, BEST, router_file=other, rolls_back_to=1))
        assert bundles.held.state is BundleState.IN_USE


async def test_a_bundle_with_which_the_agent_does_not_live_is_given_up(tmp_path: Path) -> None:
    agent = Tuned()
    async with device(tmp_path, agent) as bundles:
        await bundles.take(signed(1, SAVER))
        await bundles.take(signed(2, BEST))
    for _ in range(MOST_STARTS):
        killed = Bundles(agent, RouterConfig(), PINNED, HeldBundles(tmp_path), software="1")
        await killed.start()
        assert agent.router.preset is Preset.BEST
        assert killed._settling is not None
        killed._settling.cancel()
    async with device(tmp_path, agent) as bundles:
        held = bundles.held
        assert (held.sequence, held.tried, held.state) == (1, 2, BundleState.CRASHED)
        assert agent.router.preset is Preset.SAVER
        await bundles.take(signed(2, BEST))
        assert bundles.held.sequence == 1, "the gateway may say it again, it is not tried again"
        await bundles.take(signed(3, BEST))
        assert bundles.held.sequence == 3
    async with device(tmp_path, agent) as bundles:
        assert bundles.held.starts == 1, "an orderly end is no crash"


async def test_a_bundle_that_can_no_longer_be_used_after_a_restart_is_gone_back_from(
    tmp_path: Path,
) -> None:
    async with device(tmp_path, Tuned()) as bundles:
        await bundles.take(signed(1, SAVER))
        await bundles.take(signed(2, BEST))
    kept = tmp_path / "bundle-2.pb"
    kept.write_bytes(kept.read_bytes().replace(b"best", b"bent"))
    agent = Tuned()
    async with device(tmp_path, agent) as bundles:
        assert (bundles.held.sequence, bundles.held.state) == (1, BundleState.BAD_SIGNATURE)
        assert agent.router.preset is Preset.SAVER


async def test_with_another_key_pinned_the_device_is_back_to_its_own_settings(
    tmp_path: Path,
) -> None:
    async with device(tmp_path, Tuned()) as bundles:
        await bundles.take(signed(1, SAVER))
        await bundles.take(signed(2, BEST))
    agent, new = Tuned(), PinnedKeys.from_pem(OperatorKey.new().public_pem())
    async with device(tmp_path, agent, keys=new) as bundles:
        assert (bundles.held.sequence, bundles.held.highest) == (0, 2)
        assert agent.router == RouterConfig()


async def test_only_what_may_be_gone_back_to_is_kept(tmp_path: Path) -> None:
    async with device(tmp_path, Tuned()) as bundles:
        for sequence in range(1, 6):
            await bundles.take(signed(sequence, SAVER))
    kept = HeldBundles(tmp_path)
    assert [n for n in range(1, 6) if kept.bundle(n) is not None] == [4, 5]


async def test_where_nothing_can_be_kept_nothing_changes(tmp_path: Path) -> None:
    (tmp_path / "fleet").write_text("a file where the folder should be")
    agent = Tuned()
    async with device(tmp_path / "fleet", agent) as bundles:
        await bundles.take(signed(1, BEST))
        assert (agent.router, bundles.held.sequence) == (RouterConfig(), 0)


async def test_kernel_choices_stand_behind_what_was_measured_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path / "home"))
    choices = dump(shipped_choices())
    check_fleet_choices(choices)
    async with device(tmp_path, Tuned()) as bundles:
        await bundles.take(signed(1, kernel_choices_json=choices))
        files = TunedFiles(tmp_path / "home" / "tuned")
        assert (len(files.fleets()), files.own()) == (len(shipped_choices()), ())
        await bundles.take(signed(2, SAVER))
        assert files.fleets() == ()


@pytest.mark.parametrize("pem", [b"", b"nonsense", b"-----END PUBLIC KEY-----"])
def test_a_key_file_without_a_key_is_a_mistake_in_the_settings(pem: bytes) -> None:
    with pytest.raises(ConfigError) as caught:
        PinnedKeys.from_pem(pem)
    assert caught.value.field == "fleet.key_file"


async def test_the_devices_owner_sees_what_the_operator_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path))
    assert "no bundle is in use" in run("edge", "bundle").stdout
    async with device(tmp_path / "fleet", Tuned()) as bundles:
        await bundles.take(signed(1, SAVER, price=Price(Decimal(1))))
        await bundles.take(signed(2, "preset = 'bold'"))
    shown = run("edge", "bundle").stdout
    assert "bundle 1 (v1) is in use" in shown
    assert "router.preset = saver" in shown
    assert "bundle 2 was refused: broken, for router.preset" in shown
    told = json.loads(run("edge", "bundle", "--json").stdout)
    assert told["changes"] == {"router.preset": "saver", "price": "from the bundle"}


async def test_a_refused_bundle_that_nobody_vouches_for_is_not_taken_for_the_one_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path))
    async with device(tmp_path / "fleet", Tuned()) as bundles:
        await bundles.take(signed(1, SAVER))
        await bundles.take(signed(2, SAVER, key=OperatorKey.new()))
    shown = run("edge", "bundle").stdout
    assert "bundle 1 (v1) is in use" in shown
    assert "the last bundle that came was refused: bad_signature" in shown
    assert "bundle 1 was refused" not in shown

"""`isthmus route explain` decides by the operator's bundle, as the agent of this device does."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from fleet_devices import KEY, signed
from isthmus.core.bundle import SignedBundle
from isthmus.core.money import Price
from isthmus.edge.fleet.held import Held, HeldBundles
from isthmus.edge.fleet.parts import MOST_STARTS
from isthmus.router.learned.router_file import RouterFile, from_bytes, shipped
from program import run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The device's: its settings pin the operator's key."""
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path))
    (tmp_path / "operator.pem").write_bytes(KEY.public_pem())
    (tmp_path / "edge.toml").write_text(
        f'[fleet]\nkey_file = "{tmp_path}/operator.pem"\n[router.budget]\nday_usd = "1"\n'
    )
    return tmp_path


def hold(folder: Path, *bundles: SignedBundle, starts: int = 0) -> None:
    """Keep bundles 7, 8, …, the last one in use."""
    last = 6 + len(bundles)
    kept = HeldBundles(folder / "fleet")
    for sequence, bundle in enumerate(bundles, start=7):
        held = Held(sequence, sequence - 1 if sequence > 7 else 0, starts=starts)
        kept.write(replace(held, highest=last), new=bundle)


def another_file() -> RouterFile:
    """One that is not the one that ships."""
    return from_bytes(replace(shipped(), provenance={"by": "the operator"}).to_bytes())


def explain(folder: Path, *flags: str) -> dict[str, Any]:
    ran = run(
        "route", "explain", "Tell me a joke", "--config", f"{folder}/edge.toml", "--json", *flags
    )
    assert ran.exit_code == 0, ran.stderr
    explained: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return explained


def test_the_bundle_in_use_decides_with_its_policy_price_and_file(folder: Path) -> None:
    file = another_file()
    price = Price(Decimal(40), Decimal(70))
    policy = 'preset = "best"\n[router.budget]\nday_usd = "5"'
    hold(
        folder,
        signed(7, policy, price=price, router_file=file.to_bytes(), created_unix_s=1_767_225_600),
    )
    explained = explain(folder)
    assert explained["preset"] == "best"
    assert explained["budget"]["day"]["limit_micro_usd"] == 1_000_000, "the owner's is tighter"
    assert explained["quality"]["version"] == file.version
    assert explained["scores"]["cloud.price_micro_usd"] > 1000
    assert explained["bundle"] == {
        "sequence": 7,
        "version": "v7",
        "created_unix_s": 1_767_225_600,
        "changes": ["router.preset", "price", "router_file"],
    }
    own = explain(folder, "--ignore-bundle")
    assert (own["bundle"], own["preset"]) == (None, "balanced")
    assert own["quality"]["version"] == shipped().version
    assert own["scores"]["cloud.price_micro_usd"] < explained["scores"]["cloud.price_micro_usd"]


def test_people_are_told_which_bundle_decides_and_a_flag_still_stands_over_it(folder: Path) -> None:
    hold(folder, signed(7, 'preset = "best"', created_unix_s=1_767_225_600))
    text = run("route", "explain", "Hi", "--config", f"{folder}/edge.toml").stdout
    assert "Decided by bundle 7 (v7) of 2026-01-01 00:00 UTC, which changes router.preset." in (
        " ".join(text.split())
    )
    assert explain(folder, "--preset", "saver")["preset"] == "saver"


def test_a_price_of_the_devices_own_stands_over_the_bundles(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISTHMUS_EDGE_CLOUD_INPUT_USD_PER_MTOK", "1")
    hold(folder, signed(7, price=Price(Decimal(40), Decimal(70))))
    assert explain(folder)["bundle"]["changes"] == []


@pytest.mark.parametrize("starts", [0, MOST_STARTS])
def test_a_bundle_that_the_agent_would_give_up_is_passed_over_for_the_one_before(
    folder: Path, starts: int
) -> None:
    second = signed(8, 'preset = "best"' if starts else "no = such setting")
    hold(folder, signed(7, 'preset = "saver"'), second, starts=starts)
    explained = explain(folder)
    assert (explained["bundle"]["sequence"], explained["preset"]) == (7, "saver")


def test_a_bundle_that_nobody_vouches_for_decides_nothing(folder: Path) -> None:
    hold(folder, replace(signed(7, 'preset = "best"'), signature=b"x" * 64))
    assert explain(folder)["bundle"] is None
    hold(folder, signed(7, 'preset = "best"'))
    (folder / "edge.toml").write_text("")
    assert explain(folder)["bundle"] is None


def test_the_router_file_of_the_devices_own_settings_rates_the_text(folder: Path) -> None:
    another_file().save(folder / "mine.router")
    settings = f'router_file = "{folder}/mine.router"\n'
    (folder / "edge.toml").write_text(settings)
    assert explain(folder)["quality"]["version"] == another_file().version
    (folder / "mine.router").write_bytes(b"none")
    ran = run("route", "explain", "Hi", "--config", f"{folder}/edge.toml")
    assert ran.exit_code == 2
    assert "--config" in ran.stderr
    # The box may break a line within the path, which is longer in some runs than in others.
    assert "mine.routerisnotrainedfile" in "".join(ran.stderr.replace("│", "").split())

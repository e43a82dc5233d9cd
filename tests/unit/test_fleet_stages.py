"""Stages: who is handed a bundle, and that labels are bounded whatever devices call things."""

from __future__ import annotations

import pytest

from isthmus.cloud.fleet.stages import Stage
from isthmus.core.bounded import OTHER, Bounded
from isthmus.core.errors import InvalidRequest

DEVICES = [f"device-{number}" for number in range(2000)]
SALT = b"s" * 16


def of(stage: Stage, salt: bytes = SALT, device_class: str = "phone") -> set[str]:
    return {device for device in DEVICES if stage.includes(device, device_class, salt)}


@pytest.mark.parametrize("percent", [1, 10, 50, 90])
def test_a_share_is_about_that_share(percent: float) -> None:
    assert len(of(Stage(percent))) == pytest.approx(20 * percent, abs=4 * (20 * percent) ** 0.5)


def test_nobody_and_everybody_are_exact() -> None:
    assert of(Stage(0)) == set()
    assert of(Stage(100)) == set(DEVICES)


def test_a_growing_stage_keeps_those_that_are_in_it() -> None:
    assert of(Stage(5)) < of(Stage(20)) < of(Stage(60))


def test_another_bundle_is_tried_by_other_devices() -> None:
    assert len(of(Stage(10)) & of(Stage(10), b"t" * 16)) < 60


def test_a_stage_may_name_devices_and_classes() -> None:
    named = Stage(0, devices=("device-3", "device-5"))
    assert of(named) == {"device-3", "device-5"}
    robots = Stage(100, classes=("robot",))
    assert of(robots) == set()
    assert of(robots, device_class="robot") == set(DEVICES)


@pytest.mark.parametrize("percent", [-1, 101, float("nan")])
def test_a_share_beyond_all_is_refused(percent: float) -> None:
    with pytest.raises(InvalidRequest):
        Stage(percent)


def test_the_first_names_keep_their_series_and_the_rest_are_told_together() -> None:
    label = Bounded(2, ("unknown",))
    assert [label(name) for name in ("a", "b", "c", "a", "unknown")] == [
        "a", "b", OTHER, "a", "unknown",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["", "a b", 'a"', "a\n", "é", "x" * 65, "-a"])
def test_a_name_that_is_none_gets_no_series(name: str) -> None:
    assert Bounded(9)(name) == OTHER

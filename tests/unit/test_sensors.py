"""What the device says of itself: through files, a program, psutil; and what it does not know."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from isthmus.core.errors import ConfigError
from isthmus.edge.sensors import Sensors, make_sensors
from isthmus.edge.sensors.file import FileSensor
from isthmus.edge.sensors.sysfs import SysfsSensor
from isthmus.edge.sensors.system import PsutilSensor
from isthmus.edge.sensors.termux import TermuxSensor
from isthmus.router.signals import DeviceHealth
from waiting import happens


def tree(root: Path, files: dict[str, str]) -> SysfsSensor:
    for name, text in files.items():
        path = root / "class" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return SysfsSensor(root)


PHONE = {
    "power_supply/battery/type": "Battery",
    "power_supply/battery/capacity": "42",
    "power_supply/battery/status": "Discharging",
    "power_supply/battery/charge_full": "4000000",
    "power_supply/battery/voltage_min_design": "3850000",
    "power_supply/battery/temp": "315",
    "thermal/thermal_zone0/type": "cpu-0-0",
    "thermal/thermal_zone0/temp": "61000",
    "thermal/thermal_zone1/type": "cpu-1-0",
    "thermal/thermal_zone1/temp": "66500",
    "thermal/thermal_zone2/type": "pm8150_tz",
    "thermal/thermal_zone2/temp": "99000",
    "thermal/thermal_zone3/type": "gpuss-0",
    "thermal/thermal_zone3/temp": "-273000",
    "thermal/cooling_device0/type": "thermal-cpufreq-0",
    "thermal/cooling_device0/cur_state": "0",
    "thermal/cooling_device1/type": "thermal-devfreq-0",
    "thermal/cooling_device1/cur_state": "3",
}


def test_a_phone_tells_battery_and_heat(tmp_path: Path) -> None:
    assert tree(tmp_path, PHONE).read() == DeviceHealth(
        battery=0.42,
        charging=False,
        battery_wh=pytest.approx(15.4),
        battery_temperature_c=31.5,
        temperature_c=66.5,
        throttled=False,
    )


def test_a_machine_without_a_battery_has_none(tmp_path: Path) -> None:
    assert SysfsSensor(tmp_path).read() == DeviceHealth()
    mains = {"power_supply/AC/type": "Mains", "power_supply/AC/online": "1"}
    assert tree(tmp_path, mains).read() == DeviceHealth()


def test_a_mouses_battery_is_not_the_devices(tmp_path: Path) -> None:
    mouse = {
        "power_supply/hid/type": "Battery",
        "power_supply/hid/scope": "Device",
        "power_supply/hid/capacity": "3",
    }
    assert tree(tmp_path, mouse).read() == DeviceHealth()


@pytest.mark.parametrize(
    ("status", "online", "charging"),
    [
        ("Charging", None, True),
        ("Full", None, True),
        ("Not charging", "1", True),
        ("Discharging", "0", False),
        ("Unknown", "1", True),
        ("Unknown", "0", False),
        ("Unknown", None, None),
    ],
)
def test_whether_it_is_charged_is_told_by_the_battery_or_the_mains(
    tmp_path: Path, status: str, online: str | None, charging: bool | None
) -> None:
    files = {
        "power_supply/BAT0/type": "Battery",
        "power_supply/BAT0/capacity": "50",
        "power_supply/BAT0/status": status,
        "power_supply/BAT0/energy_full": "57000000",
    }
    if online is not None:
        files |= {"power_supply/AC/type": "Mains", "power_supply/AC/online": online}
    health = tree(tmp_path, files).read()
    assert (health.battery, health.charging, health.battery_wh) == (0.5, charging, 57)


def test_a_processor_that_is_held_back_is_told(tmp_path: Path) -> None:
    held = {
        "thermal/cooling_device0/type": "Processor",
        "thermal/cooling_device0/cur_state": "0",
        "thermal/cooling_device1/type": "Processor",
        "thermal/cooling_device1/cur_state": "2",
    }
    assert tree(tmp_path, held).read().throttled is True


@pytest.mark.parametrize("nonsense", ["", "n/a", "nan", "inf", "-5", "1e9"])
def test_nonsense_in_a_file_is_not_known(tmp_path: Path, nonsense: str) -> None:
    files = {name: nonsense if name.endswith(("capacity", "temp")) else text
             for name, text in PHONE.items()}  # fmt: skip
    health = tree(tmp_path, files).read()
    assert health.battery is None
    assert health.temperature_c in {None, -0.005}
    assert health.throttled is False


def program(tmp_path: Path, text: str) -> list[str]:
    script = tmp_path / "battery.py"
    script.write_text(text)
    return [sys.executable, str(script)]


def test_termux_tells_the_battery(tmp_path: Path) -> None:
    said = {"percentage": 77, "plugged": "UNPLUGGED", "status": "DISCHARGING", "temperature": 29.5}
    sensor = TermuxSensor(program(tmp_path, f"print({json.dumps(said)!r})"), timeout_s=20)
    assert sensor.read() == DeviceHealth(battery=0.77, charging=False, battery_temperature_c=29.5)


def test_a_termux_without_its_app_hangs_and_is_given_up(tmp_path: Path) -> None:
    hangs = program(tmp_path, "import time; time.sleep(60)")
    sensors = Sensors([TermuxSensor(hangs, timeout_s=0.2)])
    assert sensors.sample() == DeviceHealth()
    assert "TimeoutExpired" in sensors.problems["termux"]


def test_a_file_tells_what_is_in_it_while_it_is_fresh(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text('{"battery": 0.3, "charging": true, "temperature_c": null}')
    assert FileSensor(path).read() == DeviceHealth(battery=0.3, charging=True)
    old = time.time() - 121
    os.utime(path, (old, old))
    assert FileSensor(path).read() == DeviceHealth()


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"baterry": 1}', '{"battery": "full"}', '{"battery": true}',
             '{"charging": 1}']
)  # fmt: skip
def test_a_file_that_is_wrong_tells_nothing_and_why(tmp_path: Path, text: str) -> None:
    path = tmp_path / "state.json"
    path.write_text(text)
    sensors = Sensors([FileSensor(path)])
    assert sensors.sample() == DeviceHealth()
    assert sensors.problems["file"]


def test_figures_that_cannot_be_are_not_known(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text('{"battery": 42, "temperature_c": 1000, "memory_free_bytes": NaN}')
    assert FileSensor(path).read() == DeviceHealth()


def test_psutil_knows_load_and_memory_and_survives_a_broken_battery(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken() -> None:
        raise OSError("no such file")

    monkeypatch.setattr(psutil, "sensors_battery", broken, raising=False)
    health = PsutilSensor().read()
    assert health.battery is None
    assert health.memory_free_bytes
    assert health.load is not None


class Scripted:
    def __init__(self, name: str, *said: DeviceHealth | Exception, slow: bool = False) -> None:
        self.name = name
        self.slow = slow
        self.said = list(said)
        self.asked = 0

    def read(self) -> DeviceHealth:
        self.asked += 1
        said = self.said[min(self.asked, len(self.said)) - 1]
        if isinstance(said, Exception):
            raise said
        return said


def test_the_first_sensor_that_knows_a_figure_gives_it() -> None:
    sensors = Sensors(
        [
            Scripted("a", DeviceHealth(battery=0.0)),
            Scripted("b", DeviceHealth(battery=0.9, charging=False, load=0.5)),
            Scripted("c", DeviceHealth(charging=True, temperature_c=50.0)),
        ]
    )
    assert sensors.sample() == DeviceHealth(
        battery=0.0, charging=False, load=0.5, temperature_c=50.0
    )


def test_a_slow_sensor_that_keeps_failing_is_asked_ever_more_seldom() -> None:
    fails = Scripted("a", OSError("gone"), slow=True)
    sensors = Sensors([fails, Scripted("b", DeviceHealth(load=0.1))])
    for _ in range(64):
        assert sensors.sample() == DeviceHealth(load=0.1)
    assert fails.asked < 10


def test_a_file_that_is_written_late_is_read_at_the_next_turn(tmp_path: Path) -> None:
    path = tmp_path / "device.json"
    sensors = make_sensors(["file"], file=path)
    for _ in range(9):
        assert sensors.sample() == DeviceHealth()
    path.write_text('{"battery": 0.05}')
    assert sensors.sample() == DeviceHealth(battery=0.05)


def test_a_sensor_that_works_again_is_heard_and_its_problem_forgotten() -> None:
    sensors = Sensors([Scripted("a", OSError("gone"), DeviceHealth(battery=0.5))])
    assert sensors.sample() == DeviceHealth()
    assert sensors.problems == {"a": "OSError: gone"}
    assert sensors.sample() == DeviceHealth(battery=0.5)
    assert sensors.problems == {}


def test_sensors_are_asked_in_the_background() -> None:
    asked = threading.Event()

    class Slow:
        name = "slow"
        slow = True

        def read(self) -> DeviceHealth:
            asked.set()
            time.sleep(0.05)
            return DeviceHealth(battery=0.5)

    sensors = Sensors([Slow()], interval_s=0.01)
    assert sensors.health == DeviceHealth()
    sensors.start()
    try:
        assert asked.wait(10)
        assert happens(lambda: sensors.health != DeviceHealth())
        assert sensors.health == DeviceHealth(battery=0.5)
    finally:
        sensors.close()


def test_this_machine_has_sensors_and_an_unknown_one_is_named() -> None:
    assert make_sensors(("psutil",)).sample().memory_free_bytes
    assert make_sensors(()).sample() == DeviceHealth()
    with pytest.raises(ConfigError, match="barometer") as error:
        make_sensors(("barometer",))
    assert error.value.field == "sensors"

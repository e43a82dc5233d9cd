"""What a device tells of itself when its owner shares it: coarse, so that it tells nothing more."""

from __future__ import annotations

from importlib.metadata import version

from isthmus.router.signals import DeviceHealth
from isthmus.v1 import fleet_pb2

_LOW, _HIGH = 0.2, 0.6
_WARM_C, _HOT_C = 60.0, 80.0


def software() -> str:
    """The version of this software."""
    return version("isthmus")


def device_status(
    health: DeviceHealth, *, backend: str, offline_s: float, dropped_rows: int
) -> fleet_pb2.DeviceStatus:
    """The message."""
    return fleet_pb2.DeviceStatus(
        software=software(),
        backend=backend,
        battery=_battery(health),
        heat=_heat(health),
        offline_s=max(0, round(offline_s)),
        dropped_rows=dropped_rows,
    )


def _battery(health: DeviceHealth) -> fleet_pb2.BatteryBand.ValueType:
    if health.battery is None:
        return fleet_pb2.BATTERY_BAND_UNSPECIFIED
    if health.charging:
        return fleet_pb2.BATTERY_BAND_CHARGING
    if health.battery < _LOW:
        return fleet_pb2.BATTERY_BAND_LOW
    if health.battery < _HIGH:
        return fleet_pb2.BATTERY_BAND_MIDDLE
    return fleet_pb2.BATTERY_BAND_HIGH


def _heat(health: DeviceHealth) -> fleet_pb2.HeatBand.ValueType:
    if health.temperature_c is None:
        return fleet_pb2.HEAT_BAND_UNSPECIFIED
    if health.temperature_c < _WARM_C:
        return fleet_pb2.HEAT_BAND_COOL
    if health.temperature_c < _HOT_C:
        return fleet_pb2.HEAT_BAND_WARM
    return fleet_pb2.HEAT_BAND_HOT

"""What a fleet is made of: GPUs, devices, networks, prices; each figure with where it is from.

A TOML file may replace any of it (`read_scenario`)::

    private_share = 0.05            # requests that hold what must not leave the device
    [gpu]
    prefill_tok_s = 24600
    [cloud]
    output_usd_per_mtok = 0.08
    [router]                        # the fields of `RouterConfig`
    [[device]]                      # replaces the list of devices
    name = "phone"
    share = 0.8
    [[network]]
    name = "5g"
    share = 1.0
    rtt_ms = [72, 83, 213]          # p50, p90, p99
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

from isthmus.core.errors import ConfigError
from isthmus.router.config import BudgetLimits, RouterConfig
from isthmus.router.presets import Preset


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU with its copy of the model. Defaults: Llama 3.1 8B, 16 bits, one H100 80 GB.

    Decode: time per output token 6.48 ms alone and 10.94 ms at 16 sequences, vLLM 0.21
    (yobitelcomm.github.io/bench, recipe "concurrency sweep", 2026-05); the line through both gives
    25 ms at 64, where that sweep measured 46.9. Prefill is computed, not
    measured: 989 TFLOP/s (data sheet, 16 bits, dense) used to 40%, 2 x 8.03e9 operations a token.
    KV: 0.9 x 80 GB less 16 GB of weights, 131,072 bytes a token.
    """

    prefill_tok_s: float = 24_600.0
    step_ms: float = 6.18
    """The part of a decode step that does not depend on the batch."""
    sequence_ms: float = 0.297
    """What each sequence adds to it."""
    chunk_tokens: int = 2048
    """Prompt tokens in one iteration (vLLM's `--max-num-batched-tokens`)."""
    max_sequences: int = 256
    """vLLM's `--max-num-seqs`."""
    kv_tokens: int = 427_000
    busy_w: float = 700.0
    """The data sheet's limit: an upper bound of what a busy GPU draws."""
    idle_w: float = 75.0
    """Assumed."""
    usd_per_hour: float = 3.0
    """Assumed: put your own contract here."""


@dataclass(frozen=True, slots=True)
class CloudModel:
    """What the cloud's model takes and costs."""

    context_tokens: int = 131_072
    input_usd_per_mtok: float = 0.05
    """Assumed, as the next: the order of an 8B model's list price."""
    output_usd_per_mtok: float = 0.08
    prefix_cache_tokens: int = 200_000
    """KV tokens a GPU keeps of prompts gone by; used where a trace tells its prefix blocks."""


@dataclass(frozen=True, slots=True)
class DeviceKind:
    """A kind of device and how it runs the small model."""

    name: str
    share: float
    prefill_tok_s: float
    decode_tok_s: float
    decode_j_per_tok: float
    prefill_j_per_tok: float
    """Assumed: the decode power over the prefill rate."""
    context_tokens: int = 8192
    battery_wh: float | None = None
    """None: it is plugged in."""


@dataclass(frozen=True, slots=True)
class Network:
    """A kind of network: round trips as their 50th, 90th and 99th percentile."""

    name: str
    share: float
    rtt_ms: tuple[float, float, float]
    radio_j: float = 0.0
    """What the radio takes for one request, its tail included."""


DEVICES = (
    # 1.8B in 4 bits, Snapdragon 8 Gen 3 and Dimensity 9300: SensePPL's own figures. Joules: the
    # same class of model drew 34.1 W at 131.7 tokens/s on a laptop's GPU and just under 2 W at
    # 6.9 tokens/s on an NPU (arXiv 2603.23640): 0.26 to 0.29 J a token. The laptop is that one; its
    # prefill is assumed.
    DeviceKind("phone-8gen3", 0.5, 242.0, 44.41, 0.27, 0.05, battery_wh=19.0),
    DeviceKind("phone-d9300", 0.3, 194.0, 35.7, 0.27, 0.05, battery_wh=19.0),
    DeviceKind("laptop", 0.2, 2600.0, 131.7, 0.26, 0.013),
)

NETWORKS = (
    # 5G and LTE, moving phones: arXiv 2606.25091. Wi-Fi: the hop alone, a campus network, p50 and
    # p90 of Pei et al., INFOCOM 2016, and its worst case as p99; the way beyond it comes on top.
    # Radio: LTE's tail of 11.6 s at 1.06 W (Huang et al., MobiSys 2012) as an upper bound.
    Network("wifi", 0.5, (20.0, 100.0, 250.0), 0.3),
    Network("5g", 0.3, (72.0, 83.0, 213.0), 12.0),
    Network("lte", 0.2, (84.0, 101.0, 330.0), 12.0),
)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A fleet and its cloud."""

    gpu: Gpu = field(default_factory=Gpu)
    cloud: CloudModel = field(default_factory=CloudModel)
    devices: tuple[DeviceKind, ...] = DEVICES
    networks: tuple[Network, ...] = NETWORKS
    router: RouterConfig = field(default_factory=RouterConfig)
    private_share: float = 0.0
    """Requests that hold what must not leave the device."""
    cloud_miss_ratio: float = 0.4
    """Of what the device's model gets wrong with probability `difficulty`, the cloud's gets this
    part wrong as well. Assumed; `isthmus route label` measures it for a pair."""
    notice_s: float = 5.0
    """Until devices have noticed that the cloud, or their network, is gone or back."""

    def __post_init__(self) -> None:
        _check(self, "", {"private_share": 1.0, "cloud_miss_ratio": 1.0, "notice_s": 3600.0})
        _check(self.gpu, "gpu.", {})
        _check(self.cloud, "cloud.", {})
        for table, kinds in (("device", self.devices), ("network", self.networks)):
            if not kinds or not sum(kind.share for kind in kinds) > 0:
                raise ConfigError("needs one entry with a share above 0", field=table)
            for kind in kinds:
                _check(kind, f"{table}.", {})
        for network in self.networks:
            p50, p90, p99 = network.rtt_ms
            if not 0 < p50 <= p90 <= p99:
                raise ConfigError("must be above 0 and rise: p50, p90, p99", field="network.rtt_ms")


_MAY_BE_ZERO = {"share", "sequence_ms", "radio_j", "idle_w", "usd_per_hour", "prefix_cache_tokens"}
_MAY_BE_ZERO |= {"input_usd_per_mtok", "output_usd_per_mtok", "private_share", "notice_s"}
_MAY_BE_ZERO |= {"cloud_miss_ratio", "decode_j_per_tok", "prefill_j_per_tok", "busy_w"}


def _check(part: Any, prefix: str, most: dict[str, float]) -> None:
    for one in dataclasses.fields(part):
        value = getattr(part, one.name)
        if isinstance(value, int | float):
            limit = most.get(one.name, 1e12)
            fits = 0 <= value <= limit if one.name in _MAY_BE_ZERO else 0 < value <= limit
            if not fits:
                least = "from 0" if one.name in _MAY_BE_ZERO else "above 0"
                raise ConfigError(f"must be {least} to {limit:g}", field=f"{prefix}{one.name}")


def read_scenario(path: Path) -> Scenario:
    """The scenario of a TOML file, defaults where it says nothing. Raises `ConfigError`."""
    try:
        tables = tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"cannot read {path.name}: {error.strerror or 'no access'}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name} is not TOML: {error}") from None
    parts: dict[str, Any] = {}
    for name, value in tables.items():
        match name:
            case "gpu":
                parts["gpu"] = _build(Gpu, value, "gpu")
            case "cloud":
                parts["cloud"] = _build(CloudModel, value, "cloud")
            case "router":
                parts["router"] = _router(value)
            case "device":
                parts["devices"] = tuple(_build(DeviceKind, one, name) for one in _list(value))
            case "network":
                parts["networks"] = tuple(_build(Network, one, name) for one in _list(value))
            case _:
                parts[name] = value
    return cast("Scenario", _build(Scenario, parts, ""))


def _router(table: Any) -> RouterConfig:
    try:
        known = dict(table)
        if "preset" in known:
            known["preset"] = Preset(known["preset"])
        if "budget" in known:
            budget = {
                name: Decimal(str(value)) if name.endswith("_usd") else value
                for name, value in dict(known["budget"]).items()
            }
            known["budget"] = _build(BudgetLimits, budget, "router.budget")
    except (ValueError, TypeError, ArithmeticError):
        raise ConfigError("has a value of the wrong kind", field="router") from None
    return cast("RouterConfig", _build(RouterConfig, known, "router"))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _build(kind: type[Any], table: Any, where: str) -> Any:
    """One dataclass of a table: unknown names and wrong types are told by their name."""
    known = {one.name: one for one in dataclasses.fields(kind)}
    if not isinstance(table, dict):
        raise ConfigError("must be a table", field=where)
    for name, value in table.items():
        field_name = f"{where}.{name}" if where else name
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; {near[0]}?" if near else f"; known: {', '.join(known)}"
            raise ConfigError(f"is no setting{hint}", field=field_name)
        kinds = _KINDS.get(str(known[name].type).removesuffix(" | None"))
        if kinds and (not isinstance(value, kinds) or isinstance(value, bool) != (bool in kinds)):
            raise ConfigError(f"must be a {kinds[0].__name__}", field=field_name)
    rtt_ms = table.get("rtt_ms")
    if rtt_ms is not None:
        right = isinstance(rtt_ms, list) and len(rtt_ms) == 3
        if not right or not all(isinstance(one, int | float) for one in rtt_ms):
            raise ConfigError("must be three numbers: p50, p90, p99", field=f"{where}.rtt_ms")
        table = {**table, "rtt_ms": tuple(rtt_ms)}
    missing = [
        name
        for name, one in known.items()
        if name not in table
        and one.default is dataclasses.MISSING
        and one.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError("is missing", field=f"{where}.{missing[0]}")
    return kind(**table)


_KINDS: dict[str, tuple[type, ...]] = {
    "float": (float, int),
    "int": (int,),
    "str": (str,),
    "bool": (bool,),
}

"""Requests of a stretch of time with all that is drawn for them: device, network, quality."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from isthmus.router.simulation.networks import draw_kinds, draw_round_trips_ms
from isthmus.router.simulation.requests import Flags, Floats, Ints, Requests, Rng
from isthmus.router.simulation.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Block:
    """Requests, and columns of what was drawn for each."""

    requests: Requests
    device: Ints
    network: Ints
    """The kind of network: phones move, so a device is not tied to one."""
    rtt_ms: Floats
    private: Flags
    edge_quality: Floats
    cloud_quality: Floats


def draw_block(requests: Requests, scenario: Scenario, devices: int, rng: Rng) -> Block:
    """Draw what a trace does not tell. Where it tells no difficulty, any is as likely."""
    count = len(requests)
    anyone = rng.integers(0, devices, count)
    network = draw_kinds([n.share for n in scenario.networks], count, rng)
    difficulty = np.where(np.isnan(requests.difficulty), rng.random(count), requests.difficulty)
    return Block(
        requests,
        np.where(requests.device < 0, anyone, requests.device % devices),
        network,
        draw_round_trips_ms(scenario.networks, network, rng),
        rng.random(count) < scenario.private_share,
        1.0 - difficulty,
        1.0 - scenario.cloud_miss_ratio * difficulty,
    )

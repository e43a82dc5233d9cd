"""Round trips, drawn from what was measured of each kind of network.

Of a distribution three percentiles are known. Between them the logarithm is interpolated; below
the median it falls as far as it rises to the 90th percentile; the last percent goes on beyond the
99th by the factor from the 90th to it. A draw repeats the measured percentiles exactly.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from isthmus.router.simulation.requests import Floats, Ints, Rng
from isthmus.router.simulation.scenario import Network

SHARES = (0.0, 0.5, 0.9, 0.99, 1.0)


def round_trip_ms(network: Network, share: Floats) -> Floats:
    """The round trip that `share` (0 to 1) of all stay below."""
    p50, p90, p99 = network.rtt_ms
    known = np.log([p50 * p50 / p90, p50, p90, p99, p99 * p99 / p90])
    return np.exp(np.interp(share, SHARES, known))


def draw_kinds(shares: Sequence[float], count: int, rng: Rng) -> Ints:
    """`count` indices, each with its share of the probability."""
    edges = np.cumsum(np.asarray(shares, np.float64))
    return np.minimum(np.searchsorted(edges / edges[-1], rng.random(count)), len(edges) - 1)


def draw_round_trips_ms(networks: Sequence[Network], kind: Ints, rng: Rng) -> Floats:
    """A round trip for each request over the network `kind` of it."""
    share = rng.random(len(kind))
    trips = np.empty(len(kind))
    for index, network in enumerate(networks):
        here = kind == index
        trips[here] = round_trip_ms(network, share[here])
    return trips

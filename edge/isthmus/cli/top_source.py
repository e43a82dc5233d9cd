"""Where `isthmus top` looks: the agent's live picture, and a gateway's metrics."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Final, Self

import httpx
from prometheus_client.parser import text_string_to_metric_families

from isthmus.core.errors import IsthmusError, PermissionDenied, Unavailable

Json = dict[str, Any]

_TIMEOUT_S: Final = 5.0
_QUANTILES: Final = (0.5, 0.95)


@dataclass(frozen=True, slots=True)
class GatewaySeen:
    """What a gateway's `/metrics` say, since it started; rates since the look before."""

    model: str
    in_flight: int
    in_flight_limit: int | None
    queue: int
    queue_limit: int | None
    requests: Mapping[str, int]
    """By gRPC status code."""
    shed: int
    completion_tokens: int
    tokens_per_s: float | None
    ttft_p50_ms: float | None
    ttft_p95_ms: float | None
    spent_usd: float
    upstreams: Mapping[str, int]
    """Addresses by state."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One look at the system. Where a part was away, why."""

    at_unix_s: float
    url: str
    live: Json | None
    """As `GET /v1/isthmus/live` tells it."""
    problem: str | None = None
    gateway: GatewaySeen | None = None
    gateway_problem: str | None = None

    def json(self) -> Json:
        """As one object."""
        told = asdict(self)
        told["agent"] = {key: told.pop(key) for key in ("url", "problem", "live")}
        problem = told.pop("gateway_problem")
        if told["gateway"] is not None or problem is not None:
            told["gateway"] = {"problem": problem, "seen": told["gateway"]}
        return {"object": "isthmus.top", **told}


class Source:
    """Reads both. For one event loop; an asynchronous context manager."""

    def __init__(self, url: str, *, token: str | None, gateway_metrics: str | None) -> None:
        self.url = url.rstrip("/")
        self.gateway_metrics = None if gateway_metrics is None else _metrics_url(gateway_metrics)
        self._headers = {"authorization": f"Bearer {token}"} if token else {}
        # Both are near, often on loopback: a proxy of the environment has no business here.
        self._http = httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=False)
        self._before: tuple[float, int] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._http.aclose()

    async def look(self, window: str) -> Snapshot:
        """What both tell now. What is away is told in the snapshot, not raised."""
        live, gateway = None, None
        problem, gateway_problem = None, None
        try:
            live = await self._live(window)
        except IsthmusError as error:
            problem = error.message
        if self.gateway_metrics is not None:
            try:
                gateway = await self._gateway(self.gateway_metrics)
            except IsthmusError as error:
                gateway_problem, self._before = error.message, None
        return Snapshot(time.time(), self.url, live, problem, gateway, gateway_problem)

    async def _live(self, window: str) -> Json:
        url = f"{self.url}/v1/isthmus/live"
        try:
            told = await self._http.get(url, params={"window": window}, headers=self._headers)
        except httpx.InvalidURL:
            raise Unavailable(f"{self.url} is no address") from None
        except httpx.ConnectError:
            raise Unavailable(f"no agent answers at {self.url}; start one: isthmus up") from None
        except httpx.HTTPError as error:
            raise Unavailable(f"the agent at {self.url} broke off ({_named(error)})") from None
        if told.status_code in {401, 403}:
            raise PermissionDenied("the agent asks for its token: --token or ISTHMUS_EDGE_TOKEN")
        live = _json(told)
        if told.status_code != 200 or live.get("object") != "isthmus.live":
            said = live.get("error")
            why = said.get("message") if isinstance(said, dict) else None
            raise Unavailable(str(why or f"what answers at {self.url} is no Isthmus agent"))
        return live

    async def _gateway(self, url: str) -> GatewaySeen:
        try:
            told = await self._http.get(url)
            told.raise_for_status()
            samples = _samples(told.text)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise Unavailable(f"no gateway tells its metrics at {url} ({_named(error)})") from None
        if "isthmus_cloud_requests_in_flight" not in samples:
            raise Unavailable(f"what answers at {url} is no Isthmus gateway")
        return self._seen(samples)

    def _seen(self, samples: _Samples) -> GatewaySeen:
        def total(name: str, **labels: str) -> int:
            return int(sum(value for of, value in samples[name] if labels.items() <= of.items()))

        def limit(name: str) -> int | None:
            return total(name) if name in samples else None

        tokens = total("isthmus_cloud_tokens_total", kind="completion")
        info = samples["isthmus_cloud_info"]
        p50, p95 = _quantiles(samples["gen_ai_server_time_to_first_token_seconds_bucket"])
        return GatewaySeen(
            model=info[0][0].get("model", "") if info else "",
            in_flight=total("isthmus_cloud_requests_in_flight"),
            in_flight_limit=limit("isthmus_cloud_requests_in_flight_limit"),
            queue=total("isthmus_cloud_queue_length"),
            queue_limit=limit("isthmus_cloud_queue_length_limit"),
            requests=_by(samples["isthmus_cloud_requests_total"], "code"),
            shed=total("isthmus_cloud_shed_requests_total"),
            completion_tokens=tokens,
            tokens_per_s=self._rate(tokens),
            ttft_p50_ms=p50,
            ttft_p95_ms=p95,
            spent_usd=total("isthmus_cloud_spent_micro_usd_total") / 1_000_000,
            upstreams=_by(samples["isthmus_cloud_upstream_addresses"], "state"),
        )

    def _rate(self, tokens: int) -> float | None:
        now, before = time.monotonic(), self._before
        self._before = (now, tokens)
        # One that was started again counts from zero.
        if before is None or now <= before[0] or tokens < before[1]:
            return None
        return (tokens - before[1]) / (now - before[0])


_Rows = list[tuple[dict[str, str], float]]
_Samples = defaultdict[str, _Rows]


def _samples(text: str) -> _Samples:
    found: _Samples = defaultdict(list)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name].append((sample.labels, sample.value))
    return found


def _by(rows: _Rows, label: str) -> dict[str, int]:
    """Counts by a label, those that are zero left out."""
    found: defaultdict[str, int] = defaultdict(int)
    for labels, value in rows:
        found[labels.get(label, "")] += int(value)
    return {name: count for name, count in sorted(found.items()) if count}


def _quantiles(buckets: _Rows) -> tuple[float | None, ...]:
    """As PromQL's `histogram_quantile` finds them over all series, in milliseconds."""
    up_to: defaultdict[float, float] = defaultdict(float)
    for labels, count in buckets:
        up_to[float(labels["le"])] += count
    edges = sorted(up_to)
    if not edges or not up_to[edges[-1]]:
        return (None,) * len(_QUANTILES)
    return tuple(1000 * _quantile(edges, up_to, q) for q in _QUANTILES)


def _quantile(edges: list[float], up_to: Mapping[float, float], q: float) -> float:
    rank = q * up_to[edges[-1]]
    low, below = 0.0, 0.0
    for edge in edges:
        if up_to[edge] >= rank:
            if edge == float("inf"):
                return low
            return low + (edge - low) * (rank - below) / (up_to[edge] - below)
        low, below = edge, up_to[edge]
    return low


def _json(told: httpx.Response) -> Json:
    try:
        found = told.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _metrics_url(given: str) -> str:
    """`127.0.0.1:9464` is enough."""
    url = httpx.URL(given if "://" in given else f"http://{given}")
    return str(url.copy_with(path="/metrics") if url.path in {"", "/"} else url)


def _named(error: Exception) -> str:
    return type(error).__name__

"""The load generator against real gateways on loopback, and against targets that misbehave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

import pytest

from isthmus.cloud import backends
from isthmus.cloud.backends.base import BackendConfig
from isthmus.cloud.load.base import Order, poisson
from isthmus.cloud.load.grpc_target import GrpcTarget, request_of
from isthmus.cloud.load.http_target import HttpTarget
from isthmus.cloud.load.journal import entries, stopped_after
from isthmus.cloud.load.runner import run
from isthmus.cloud.load.script import text
from isthmus.cloud.load.upstream import Upstream
from isthmus.cloud.testing import running_gateway
from isthmus.core.errors import ConfigError, Overloaded, Unavailable
from program import run as isthmus


class Told:
    """Says pieces, and fails where it is told to."""

    def __init__(self, *pieces: str, error: Exception | None = None, hang: bool = False) -> None:
        self.pieces = pieces
        self.error = error
        self.hang = hang
        self.asked = 0
        self.most = 0

    async def ask(self, order: Order) -> AsyncGenerator[str, None]:
        self.asked += 1
        self.most = max(self.most, self.asked)
        try:
            for piece in self.pieces:
                yield piece
            if self.hang:
                await asyncio.Event().wait()
            if self.error is not None:
                raise self.error
        finally:
            self.asked -= 1

    async def close(self) -> None:
        pass


def scripted(**options: object) -> BackendConfig:
    return BackendConfig(kind="scripted", model="scripted", options=options)


async def test_a_gateway_under_load_gives_every_token_once_and_stops_for_those_who_leave(
    tmp_path: Path,
) -> None:
    journal = tmp_path / "journal.jsonl"
    backend = backends.create(scripted(tokens_per_s=200.0, journal=str(journal)))
    orders = list(poisson(200, requests=60, tokens=20, cancel_share=0.3))
    leaving = sum(order.cancel_after is not None for order in orders)
    async with running_gateway(backend) as address:
        target = GrpcTarget(address, channels=2)
        await target.ready()
        report = await run(target, orders)
        for _ in range(500):
            if not backend.load().running_requests:
                break
            await asyncio.sleep(0.01)
        await target.close()
    assert (report.requests, report.finished, report.cancelled) == (60, 60 - leaving, leaving)
    assert leaving > 5
    assert not report.failed
    assert (report.lost_tokens, report.doubled_tokens, report.strange_tokens) == (0, 0, 0)
    assert report.ttft.count == 60
    assert report.gap.count == report.pieces - 60
    times, never = stopped_after(journal, report.left_at_s)
    assert never == 0
    assert 0 < times.count <= leaving
    ends = [one for one in entries(journal) if one["what"] == "whole"]
    assert all(one["said"] == 20 for one in ends)
    assert json.dumps(report.as_json())


async def test_a_slow_target_does_not_slow_the_arrivals() -> None:
    target = Told("m", hang=True)
    orders = [Order("m", at_s, 1) for at_s in (0.0, 0.01, 0.02)]
    report = await run(target, orders, patience_s=0.2)
    assert (target.most, report.most_streams) == (3, 3)
    assert report.failed == {"hung": 3}
    assert target.asked == 0


async def test_times_are_counted_from_when_an_order_was_due() -> None:
    due_long_ago = Order("m", -5.0, 1)
    report = await run(Told("m"), [due_long_ago])
    assert report.ttft.quantile_s(0.5) > 4.9
    assert report.late.quantile_s(0.5) > 4.9


async def test_what_comes_back_wrong_is_told_from_what_fails() -> None:
    orders = [Order("m", 0.0, 3)]
    lost = await run(Told("m", " 2"), orders)
    assert (lost.lost_tokens, lost.doubled_tokens, lost.flawed) == (1, 0, ["m"])
    doubled = await run(Told("m", " 1", " 1", " 2"), orders)
    assert (doubled.lost_tokens, doubled.doubled_tokens) == (0, 1)
    broken = await run(Told("m", " 1", error=Unavailable("gone")), orders)
    assert (broken.failed, broken.lost_tokens) == ({"unavailable": 1}, 0)
    full = await run(Told(error=Overloaded("full", retry_after_s=1.0)), orders)
    assert full.failed == {"overloaded": 1}


async def test_the_scripted_backend_goes_on_from_an_answer_begun_elsewhere() -> None:
    backend = backends.create(scripted())
    await backend.start()
    request = replace(request_of(Order("m-4", 0.0, 3)), answer_so_far=text("m-4", 5))
    said = [event async for event in backend.generate(request)]
    await backend.close()
    assert "".join(getattr(event, "text", "") for event in said) == " 5 6 7"


async def test_the_scripted_upstream_answers_a_gateway_and_a_client_of_its_own() -> None:
    upstream = Upstream(tokens_per_s=500.0)
    await upstream.start()
    behind = backends.create(BackendConfig(kind="openai", model="scripted", url=upstream.url))
    async with running_gateway(behind) as address:
        for target in (GrpcTarget(address, channels=1), HttpTarget(upstream.url)):
            orders = poisson(200, requests=40, tokens=10, cancel_share=0.2)
            report = await run(target, orders)
            await target.close()
            assert not report.failed
            assert report.finished + report.cancelled == 40
            assert (report.lost_tokens, report.doubled_tokens, report.strange_tokens) == (0, 0, 0)
    refused = await run(HttpTarget(upstream.url.replace("v1", "v2")), [Order("m", 0.0, 3)])
    assert refused.failed == {"unavailable": 1}
    await upstream.close()
    gone = await run(HttpTarget(upstream.url), [Order("m", 0.0, 3)])
    assert gone.failed == {"unavailable": 1}


@pytest.mark.parametrize(
    ("options", "named"),
    [({"token_per_s": 1}, "did you mean 'tokens_per_s'"), ({"tokens": 0}, "tokens")],
)
def test_an_option_that_the_scripted_backend_cannot_use_is_named(
    options: dict[str, object], named: str
) -> None:
    with pytest.raises(ConfigError, match=named):
        backends.create(scripted(**options))


def test_the_bench_command_runs_a_gateway_of_its_own_and_ends_with_one_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path))
    done = isthmus("bench", "gateway", "--rows", "memory", "--requests", "100", "--json")
    assert done.exit_code == 0
    told = json.loads(done.stdout.splitlines()[-1])
    assert {"added_ttft_ms", "streams", "tokens_per_s", "rss_mb"} <= told.keys()
    assert (told["lost_tokens"], told["doubled_tokens"], told["failed_requests"]) == (0, 0, 0)
    assert told["requests"] == 100
    assert told["rss_mb"] > 10
    wrong = isthmus("bench", "gateway", "--rows", "speed")
    assert wrong.exit_code == 2
    assert "ttft, streams" in wrong.stderr

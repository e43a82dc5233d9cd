"""Upstreams that are killed while they answer: the gateway goes on with another one."""

from __future__ import annotations

import asyncio
import json
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from chaos_counts import count
from isthmus.cli.gateway_process import Served, ended, start_gateway, start_module
from isthmus.cloud.load.base import poisson
from isthmus.cloud.load.grpc_target import GrpcTarget
from isthmus.cloud.load.runner import run

pytestmark = pytest.mark.chaos

UPSTREAM = "isthmus.cloud.load.upstream"
OPTIONS = json.dumps({"tokens_per_s": 40.0})


def start_upstream(folder: Path, port: int = 0) -> Served:
    return start_module(folder, UPSTREAM, [OPTIONS, str(port)])


async def test_upstreams_that_are_killed_cost_their_callers_nothing(tmp_path: Path) -> None:
    requests = count(250, 3_000)
    folders = [tmp_path / name for name in ("one", "two")]
    upstreams = [start_upstream(folder) for folder in folders]
    urls = [upstream.ready()["url"] for upstream in upstreams]
    kills = 0

    async def trouble() -> None:
        nonlocal kills
        while True:
            await asyncio.sleep(1.0)
            at = kills % 2
            upstreams[at].kill()
            kills += 1
            await asyncio.sleep(0.2)
            port = int(urls[at].split(":")[2].split("/")[0])
            upstreams[at] = start_upstream(folders[at], port)
            await asyncio.to_thread(upstreams[at].ready)

    backend = {"kind": "openai", "model": "scripted", "urls": urls}
    with ExitStack() as stack:
        served = stack.enter_context(ended(start_gateway(tmp_path, backend=backend)))
        stack.callback(lambda: [upstream.kill() for upstream in upstreams])
        target = GrpcTarget(served.ready()["address"])
        await target.ready()
        troubling = asyncio.create_task(trouble())
        report = await run(target, poisson(25.0, requests=requests, tokens=40))
        assert troubling.cancel(), "the trouble ended before the load did"
        with suppress(asyncio.CancelledError):
            await troubling
        await target.close()
    assert not report.failed, (report.failed, report.errors)
    assert report.finished == requests
    found = report.lost_tokens, report.doubled_tokens, report.strange_tokens
    assert found == (0, 0, 0), report.flawed
    assert kills >= 2

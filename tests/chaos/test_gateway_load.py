"""The rows of `isthmus bench gateway` that are promises: memory, streams at once, cancellation."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos_counts import SOAK, count
from isthmus.cli import bench_gateway_rows as rows
from isthmus.cli.bench_gateway_rows import Sizes
from isthmus.cloud.load.runner import Report

pytestmark = pytest.mark.chaos


def assert_faultless(reports: list[Report]) -> None:
    for report in reports:
        assert not report.failed, (report.failed, report.errors)
        found = report.lost_tokens, report.doubled_tokens, report.strange_tokens
        assert found == (0, 0, 0), report.flawed


async def test_memory_is_flat_over_many_requests(tmp_path: Path) -> None:
    told, reports = await rows.memory(tmp_path, Sizes(requests=count(3_000, 100_000)))
    assert_faultless(reports)
    # Over few requests the interpreter's own pools, which fill once, are a larger part of it.
    assert told["growth"] < (0.05 if SOAK else 0.1), told


async def test_many_streams_at_once_need_no_more_memory_the_longer_they_run(
    tmp_path: Path,
) -> None:
    sizes = Sizes(streams=count(500, 2_000), streams_s=count(15, 60))
    told, reports = await rows.streams(tmp_path, sizes)
    assert_faultless(reports)
    assert told["streams"] == sizes.streams
    assert abs(told["growth"]) < 0.05, told


async def test_a_cancellation_reaches_the_engine_at_once(tmp_path: Path) -> None:
    told, reports = await rows.cancel(tmp_path, Sizes(cancellations=count(200, 2_000)))
    assert_faultless(reports)
    assert told["never_stopped"] == 0
    assert told["p99" if SOAK else "p50"] < 100, told  # CI's machine may stall for as long


async def test_more_tokens_than_a_core_carries_are_coalesced_and_none_is_lost(
    tmp_path: Path,
) -> None:
    told, reports = await rows.tokens(tmp_path, Sizes(tokens_s=count(8, 30)))
    assert_faultless(reports)
    assert told["tokens_per_message"] >= 1.0
    assert told["tokens_per_s"] > count(2_000, 15_000), told

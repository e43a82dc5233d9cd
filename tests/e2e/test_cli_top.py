"""`isthmus top`: what it shows of a running system, on a terminal and without one."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Static

from isthmus.cli.main import main
from isthmus.cli.top_app import Help, Top
from isthmus.cli.top_source import Source
from isthmus.cli.top_view import bars, folded
from isthmus.cloud.config import CloudConfig
from isthmus.cloud.server import Gateway
from isthmus.cloud.testing import ScriptedBackend
from isthmus.core.chat import PrivacyClass
from isthmus.core.decision import Outcome, Reason, Status
from isthmus.edge.ledger import Ledger
from isthmus.edge.testing import RunningAgent, ScriptedEngine, running_agent
from past_outcomes import IN_CLOUD, ON_EDGE

WINDOWS = ("15m", "1h", "24h")
KEPT = replace(
    ON_EDGE,
    reasons=(Reason.PRIVACY_LOCAL_ONLY,),
    privacy_class=PrivacyClass.SENSITIVE,
    saved_micro_usd=2_000_000,
)
SENT = replace(IN_CLOUD, ttft_ms=900.0, price_micro_usd=1_500_000)
LOST = replace(SENT, status=Status.FAILED, error_kind="unavailable", price_micro_usd=0)


@asynccontextmanager
async def busy(tmp_path: Path, *outcomes: Outcome, **settings: Any) -> AsyncIterator[RunningAgent]:
    """An agent to which `outcomes` happened a moment ago."""
    ledger = Ledger(tmp_path / "ledger.sqlite")
    for number, outcome in enumerate(outcomes):
        ledger.record(replace(outcome, request_id=f"r{number}", at_unix_s=time.time() - 1))
    ledger.flush()
    async with running_agent(ScriptedEngine(), ledger=ledger, **settings) as running:
        yield running


@asynccontextmanager
async def watching(
    url: str,
    *,
    size: tuple[int, int] = (80, 24),
    token: str | None = None,
    gateway_metrics: str | None = None,
) -> AsyncIterator[Pilot[None]]:
    """`isthmus top` on a terminal of `size`, which looks ten times a second."""
    async with Source(url, token=token, gateway_metrics=gateway_metrics) as source:
        app = Top(source, WINDOWS, "1h", every_s=0.1)
        async with app.run_test(size=size) as pilot:
            yield pilot


def shown(pilot: Pilot[None], name: str) -> str:
    """What stands in a panel or a line; empty where it is hidden."""
    widget = pilot.app.screen_stack[0].query_one(f"#{name}", Static)
    return str(widget.visual) if widget.display else ""


async def until(pilot: Pilot[None], condition: Callable[[], bool]) -> None:
    """Wait until `condition`. Fails after ten seconds."""
    async with asyncio.timeout(10):
        while not condition():
            await pilot.pause(0.02)


async def test_it_shows_where_answers_were_made_at_what_speed_and_price(tmp_path: Path) -> None:
    async with (
        busy(tmp_path, KEPT, KEPT, KEPT, SENT, LOST) as agent,
        watching(agent.url) as pilot,
    ):
        await until(pilot, lambda: "asked" in shown(pilot, "answers"))
        answers = shown(pilot, "answers").splitlines()
        assert answers[0] == "5 asked   failed 1   refused 0"
        assert answers[1].split()[:3] == ["edge", "75%", "3"]
        assert answers[2].split()[:3] == ["cloud", "25%", "1"]
        assert "█" in answers[1]
        latency = shown(pilot, "latency").splitlines()
        assert latency[1].split() == ["edge", "first", "token", "50ms", "50ms", "50ms"]
        assert latency[-1] == "tok/s  edge 200  cloud 200"
        promises = shown(pilot, "promises").splitlines()
        assert promises[1].split() == ["first", "token", "≤500ms", "100%", "0%", "75%"]
        assert shown(pilot, "money").splitlines()[0] == "spent $1.50   saved $6.00"
        assert shown(pilot, "privacy").splitlines()[0] == "blocked 0  kept here 3  redacted 0"
        assert "last error: unavailable, 1 s ago" in shown(pilot, "device")
        assert shown(pilot, "cloud") == "no gateway is configured"
        assert shown(pilot, "gateway") == ""


async def test_nothing_is_cut_off_on_a_terminal_of_80_by_24(tmp_path: Path) -> None:
    async with busy(tmp_path, KEPT, LOST) as agent, watching(agent.url) as pilot:
        await until(pilot, lambda: shown(pilot, "device") != "")
        await pilot.pause()  # for what is shown has its place a moment later
        for panel in pilot.app.query(".panel").results(Static):
            if panel.display:
                longest = max(len(line) for line in str(panel.visual).splitlines())
                assert longest <= panel.content_size.width, panel.id
                assert panel.region.bottom <= 23, panel.id


@pytest.mark.parametrize("size", [(20, 8), (60, 30), (250, 80)])
async def test_it_stands_any_size_and_a_change_of_it(tmp_path: Path, size: tuple[int, int]) -> None:
    async with busy(tmp_path, KEPT) as agent, watching(agent.url, size=size) as pilot:
        await until(pilot, lambda: "asked" in shown(pilot, "answers"))
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: len(shown(pilot, "answers").splitlines()) == 4)


async def test_an_agent_that_is_away_is_told_and_the_picture_returns_with_it(
    tmp_path: Path,
) -> None:
    async with busy(tmp_path) as first:
        url, port = first.url, int(first.url.rpartition(":")[2])
    async with watching(url) as pilot:
        await until(pilot, lambda: "no agent answers at" in shown(pilot, "notice"))
        assert "trying again" in shown(pilot, "notice")
        async with busy(tmp_path, KEPT, port=port):
            await until(pilot, lambda: "1 asked" in shown(pilot, "answers"))
            assert shown(pilot, "notice") == ""
        await until(pilot, lambda: "no agent answers at" in shown(pilot, "notice"))
        assert "1 asked" in shown(pilot, "answers"), "the last picture stays"
        assert pilot.app.has_class("away")


async def test_keys_change_the_window_pause_help_and_quit(tmp_path: Path) -> None:
    async with busy(tmp_path, KEPT) as agent, watching(agent.url) as pilot:
        assert "the last 1h" in shown(pilot, "head")
        await pilot.press("w")
        assert "the last 24h" in shown(pilot, "head")
        await pilot.press("w")
        assert "the last 15m" in shown(pilot, "head")
        await pilot.press("W")
        assert "the last 24h" in shown(pilot, "head")
        await pilot.press("p")
        assert "paused" in shown(pilot, "head")
        await pilot.press("p")
        assert "paused" not in shown(pilot, "head")
        await pilot.press("question_mark")
        assert isinstance(pilot.app.screen, Help)
        await pilot.press("escape")
        assert not isinstance(pilot.app.screen, Help)
        await pilot.press("q")
        assert not pilot.app.is_running


async def test_a_paused_picture_stays_as_it_is(tmp_path: Path) -> None:
    async with busy(tmp_path, KEPT) as agent, watching(agent.url) as pilot:
        await until(pilot, lambda: "1 asked" in shown(pilot, "answers"))
        await pilot.press("p")
        ledger = agent.agent.ledger
        assert ledger is not None
        ledger.record(replace(KEPT, request_id="another", at_unix_s=time.time()))
        ledger.flush()
        await pilot.pause(0.3)
        assert "1 asked" in shown(pilot, "answers")
        await pilot.press("p")
        await until(pilot, lambda: "2 asked" in shown(pilot, "answers"))


async def test_a_token_is_asked_for_and_used(tmp_path: Path) -> None:
    async with busy(tmp_path, KEPT, token="a-token-of-enough-length") as agent:
        async with watching(agent.url) as pilot:
            await until(pilot, lambda: "ISTHMUS_EDGE_TOKEN" in shown(pilot, "notice"))
        async with watching(agent.url, token="a-token-of-enough-length") as pilot:
            await until(pilot, lambda: "1 asked" in shown(pilot, "answers"))


async def test_a_gateways_queue_and_speed_stand_beside_it(tmp_path: Path) -> None:
    gateway = Gateway(
        CloudConfig(listen="127.0.0.1:0", metrics_listen="127.0.0.1:0", max_running_requests=7),
        ScriptedBackend(),
    )
    await gateway.start()
    try:
        address = gateway.metrics_address
        async with (
            busy(tmp_path, KEPT) as agent,
            watching(agent.url, gateway_metrics=address) as pilot,
        ):
            await until(pilot, lambda: "0 tok/s" in shown(pilot, "gateway"))
            assert "answering 0 of 7" in shown(pilot, "gateway")
            assert "OK 0" in shown(pilot, "gateway")
    finally:
        await gateway.stop()
    async with busy(tmp_path) as agent, watching(agent.url, gateway_metrics=address) as pilot:
        await until(pilot, lambda: "no gateway tells its metrics" in shown(pilot, "gateway"))
        assert shown(pilot, "notice") == "", "the agent itself is there"


async def top(*arguments: str) -> int:
    """The program's exit status."""
    with pytest.raises(SystemExit) as ended:
        await asyncio.to_thread(main, ["top", *arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


async def test_one_look_is_printed_as_text_or_as_an_object(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with busy(tmp_path, KEPT, SENT) as agent:
        assert await top("--once", "--url", agent.url) == 0
        text = capsys.readouterr().out
        assert await top("--json", "--url", agent.url) == 0
        told = capsys.readouterr().out
    assert "2 asked   failed 0   refused 0" in text
    assert "\x1b" not in text
    seen = json.loads(told.splitlines()[-1])
    assert seen["agent"]["live"]["totals"]["requests"] == 2
    assert seen["gateway"] is None


async def test_without_an_agent_or_a_terminal_it_says_what_to_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert await top("--once", "--url", "http://127.0.0.1:9") == 1
    text, error = capsys.readouterr()
    assert text == ""
    assert "no agent answers at http://127.0.0.1:9; start one: isthmus up" in error
    assert await top() == 2
    assert "--once" in capsys.readouterr().err


async def test_without_textual_it_names_the_extra() -> None:
    without = "import sys; sys.modules['textual'] = None; from isthmus.cli.main import main; "
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", f"{without} main(['top'])", stderr=asyncio.subprocess.PIPE
    )
    _, error = await process.communicate()
    assert process.returncode == 1
    assert b"pip install 'isthmus[top]'" in error


def test_charts_fold_what_does_not_fit_and_little_is_more_than_nothing() -> None:
    assert folded([1, 2, 3, 4, 5], 2) == [3, 12]
    assert folded([1, 2], 5) == [1, 2]
    assert bars([0, 1, 1000]) == ["·▁█"]
    assert bars([4, 8], rows=2) == [" █", "██"]
    assert bars([4], most=8) == ["▄"]
    assert bars([0, 0]) == ["··"]

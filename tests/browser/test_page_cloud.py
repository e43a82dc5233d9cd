"""The page while the cloud takes part: killed in mid-answer, values redacted, prices."""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Browser, expect

from isthmus.cloud.testing import ScriptedBackend, running_gateway
from isthmus.core.tier import ModelInfo
from isthmus.edge.ledger import Ledger
from isthmus.edge.remote import RemoteConfig, RemoteTier
from isthmus.edge.testing import RunningAgent, ScriptedEngine, running_agent
from isthmus.engine.engine import Engine
from page_in_browser import shown
from processes import Program

BIG = ModelInfo(model="big", backend="scripted", context_tokens=4096)
PRICE = {"cloud_input_usd_per_mtok": "100", "cloud_output_usd_per_mtok": "200"}
SLOW_GATEWAY = """
import asyncio
from isthmus.cloud.testing import ScriptedBackend, running_gateway

async def main():
    words = [f" {n}," for n in range(1, 400)]
    async with running_gateway(ScriptedBackend(words, delay_s=0.05)) as address:
        print("gateway at", address, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@asynccontextmanager
async def agent_and_gateway(backend: ScriptedBackend) -> AsyncIterator[RunningAgent]:
    async with running_gateway(backend) as address:
        cloud = RemoteTier(RemoteConfig(address))
        await cloud.info()
        async with running_agent(ScriptedEngine(), cloud=cloud, ledger=Ledger(), **PRICE) as agent:
            yield agent


async def test_a_gateway_killed_in_mid_answer_leaves_the_device_to_go_on(
    browser: Browser, model_path: Path
) -> None:
    gateway = Program("-u", "-c", SLOW_GATEWAY, path=Path(sys.executable))
    try:
        address = gateway.wait_for(r"gateway at (\S+)", 60)[1]
        cloud = RemoteTier(RemoteConfig(address))
        async with (
            running_agent(
                lambda: Engine.open(str(model_path)), cloud=cloud, cloud_resume_s=0.2
            ) as agent,
            shown(browser, agent.url) as page,
        ):
            await agent.agent.device.wait()
            await page.ask("Count, please.", route="prefer_in_cloud")
            answer = page.answers.first
            await expect(answer).to_contain_text("8,")
            gateway.kill()
            await expect(answer).to_have_attribute("aria-busy", "false")
            # What the cloud had said stands, once, and the device's words follow it.
            text = await answer.locator(".prose").inner_text()
            assert re.match(r"1, 2, 3, 4, 5, 6, 7, 8,", text)
            badge = answer.locator(".badge")
            await expect(badge).to_have_text(re.compile(r"Cloud\s*→\s*Device"))
            await badge.click()
            await expect(page.why).to_contain_text("the other tier went on, from exactly there")
            await expect(page.why.locator("code", has_text="handed_over")).to_be_visible()
            legs = page.why.locator("tbody tr")
            await expect(legs.nth(0)).to_contain_text("failed")
            await expect(legs.nth(1)).to_contain_text("finished the answer")
    finally:
        gateway.kill()


async def test_what_was_redacted_is_told_by_label_and_count_and_never_by_value(
    browser: Browser,
) -> None:
    backend = ScriptedBackend(["Dear", " friend", "."], info=BIG)
    async with agent_and_gateway(backend) as agent, shown(browser, agent.url) as page:
        answer = await page.answer(
            "Write to jane.doe@example.org and john@example.com, or call +1 415 555 0132.",
            route="prefer_in_cloud",
        )
        await expect(answer.locator(".badge")).to_contain_text("Cloud")
        await answer.locator(".badge").click()
        await expect(page.why.locator(".tag")).to_have_text(
            [re.compile("E-mail address × 2"), re.compile("Phone number × 1")]
        )
        told = await page.why.inner_text()
    left = " ".join(message.text for message in backend.requests[0].messages)
    for value in ("jane.doe", "john@", "555"):
        assert value not in told
        assert value not in left


async def test_a_card_number_stays_and_the_badge_says_why(browser: Browser) -> None:
    backend = ScriptedBackend(info=BIG)
    async with agent_and_gateway(backend) as agent, shown(browser, agent.url) as page:
        answer = await page.answer(
            "My card is 4111 1111 1111 1111, is that valid?", route="prefer_in_cloud"
        )
        await expect(answer.locator(".badge")).to_contain_text("Device")
        await answer.locator(".badge").click()
        await expect(page.why.locator("code", has_text="privacy_local_only")).to_be_visible()
        assert "4111" not in await page.why.inner_text()
    assert backend.requests == []


async def test_prices_are_told_on_both_sides(browser: Browser) -> None:
    async with (
        agent_and_gateway(ScriptedBackend(info=BIG)) as agent,
        shown(browser, agent.url) as page,
    ):
        in_cloud = await page.answer("Where?", route="only_in_cloud")
        await in_cloud.locator(".badge").click()
        await expect(page.why).to_contain_text(re.compile(r"Price\s*\$0\.\d*[1-9]"))
        await in_cloud.locator(".badge").click()
        here = await page.answer("And here?", route="only_on_device")
        await here.locator(".badge").click()
        await expect(page.why).to_contain_text(re.compile(r"Price\s*\$0(?!\.)"))
        await expect(page.why).to_contain_text(re.compile(r"In the cloud\s*\$0\.\d*[1-9]"))

        await page.go("live")
        cards = page.page.locator(".card")
        await expect(cards.filter(has_text="Answered on the device")).to_contain_text("50%")
        await expect(cards.filter(has_text="Where answers were made")).to_be_visible()
        await expect(page.page.locator("canvas")).to_have_count(2)
        await page.button("Table").first.click()
        table = page.page.locator(".chart table")
        await expect(table.locator("tbody td").first).to_have_text("1")


async def test_live_says_that_a_value_counts_with_each_turn_of_its_conversation(
    browser: Browser,
) -> None:
    async with running_agent(ScriptedEngine()) as agent, shown(browser, agent.url) as page:
        await page.answer("Write to ada@example.org.")
        await page.answer("And again.")
        await page.go("live")
        panel = page.page.locator(".card", has_text="Stopped by the last check")
        await expect(panel.get_by_role("heading", level=3)).to_have_text(
            "Found since the start, counted with each turn"
        )
        await expect(panel.locator(".tag")).to_have_text("E-mail address 2")

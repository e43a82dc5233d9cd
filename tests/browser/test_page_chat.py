"""A conversation on the page, with the real small model on the device."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from isthmus.edge.testing import RunningAgent, ScriptedEngine, running_agent
from isthmus.engine.engine import Engine
from page_in_browser import shown

LONG = tuple(f" word{n}" for n in range(400))


@pytest_asyncio.fixture(loop_scope="session")
async def agent(model_path: Path) -> AsyncIterator[RunningAgent]:
    async with running_agent(lambda: Engine.open(str(model_path))) as running:
        await running.agent.device.wait()
        yield running


async def test_a_conversation_goes_on_and_says_where_it_was_answered(
    browser: Browser, agent: RunningAgent
) -> None:
    async with shown(browser, agent.url) as page:
        answer = await page.answer("What is the capital of France?")
        await expect(answer).to_contain_text("Paris")
        await expect(answer.locator(".badge")).to_contain_text("Device")
        second = await page.answer("And of Italy?")
        await expect(second).to_contain_text("Rome")
        await page.button("Why here?", second).click()
        await expect(page.why).to_contain_text("No cloud is configured, or none can be reached.")
        await expect(page.why.locator("code", has_text="cloud_offline")).to_be_visible()
        figures = page.why.locator(".figures")
        await expect(figures).to_contain_text(re.compile(r"First token after\s*[\d.]+ m?s"))
        await expect(figures).to_contain_text("tok/s")
        # The first turn is in the cache: only what is new was computed.
        await expect(figures).to_contain_text(re.compile(r"\d+ new, [1-9]\d* cached"))
        await expect(page.page.get_by_role("status").first).to_contain_text(
            "Answered on the device."
        )


async def test_why_of_the_last_answer_opens_where_it_is_seen(browser: Browser) -> None:
    engine = ScriptedEngine(LONG)
    async with running_agent(engine) as agent, shown(browser, agent.url) as page:
        answer = await page.answer("Hello")
        badge = page.button("Why here?", answer)
        await badge.click()
        await expect(page.why.locator(".reasons")).to_be_in_viewport(ratio=1)
        await expect(badge).to_be_in_viewport(ratio=1)


async def test_code_streams_as_code_and_is_copied_from_its_block(
    browser: Browser, agent: RunningAgent
) -> None:
    code = "def add(a, b):\n    return a + b"
    engine = ScriptedEngine(("Here:\n\n```py", "thon\n", code, "\n```\n", "Use it."))
    async with (
        running_agent(engine) as scripted,
        shown(browser, scripted.url, permissions=["clipboard-read", "clipboard-write"]) as page,
    ):
        answer = await page.answer("Add, please.")
        block = answer.locator(".code")
        await expect(block.locator("header span").first).to_have_text("python")
        await expect(block.locator(".hljs-keyword").first).to_have_text("def")
        await page.button("Copy the code", block).click()
        await expect(block).to_contain_text("Copied")
        assert await page.page.evaluate("navigator.clipboard.readText()") == code
        await page.button("Copy the answer", answer).click()
        await expect(page.button("Copied", answer.locator(".tools"))).to_be_visible()
        assert "```python" in await page.page.evaluate("navigator.clipboard.readText()")


async def test_a_conversation_is_there_after_a_reload_and_can_be_found_renamed_and_deleted(
    browser: Browser,
) -> None:
    async with running_agent(ScriptedEngine()) as agent, shown(browser, agent.url) as page:
        await page.answer("How deep is the canal of Panama?")
        address = page.page.url
        await page.go()
        await page.answer("A poem about tides")
        listed = page.page.locator(".conversation > a")
        await expect(listed).to_have_text(
            ["A poem about tides", "How deep is the canal of Panama?"]
        )
        await page.page.goto(address)
        await page.reload()
        await expect(page.answers).to_have_text([re.compile("Hello there.")])

        await page.page.get_by_label("Search conversations").fill("tides")
        await expect(listed).to_have_text(["A poem about tides"])
        await page.page.get_by_label("Search conversations").fill("")
        await expect(listed).to_have_count(2)

        row = page.page.locator(".conversation.current")
        await page.button("Rename “How deep is the canal of Panama?”", row).click()
        await page.page.get_by_label("Title").fill("The canal")
        await page.page.get_by_label("Title").press("Enter")
        await expect(row.locator("a")).to_have_text("The canal")
        await expect(page.page.locator("h1")).to_have_text("The canal")

        await page.button("Delete “The canal”", row).click()
        await page.button("Delete", page.page.get_by_role("dialog")).click()
        await expect(listed).to_have_text(["A poem about tides"])
        await expect(page.page.locator(".welcome")).to_be_visible()


async def test_an_answer_is_stopped_where_it_is_and_kept_as_far_as_it_came(
    browser: Browser,
) -> None:
    engine = ScriptedEngine(LONG, delay_s=0.05)
    async with running_agent(engine) as agent, shown(browser, agent.url) as page:
        await page.ask("Go on and on.")
        await expect(page.answers.first).to_contain_text("word5")
        await page.button("Stop").click()
        await expect(page.answers.first).to_contain_text("Stopped here.")
        await expect(page.button("Send")).to_be_visible()
        said = await page.answers.first.locator(".prose").inner_text()
        await page.reload()
        await expect(page.answers.first.locator(".prose")).to_have_text(re.compile(said[:40]))
        assert engine.running == 0
        assert engine.stopped == 1


async def test_a_new_answer_and_an_edit_are_versions_beside_the_old_ones(
    browser: Browser,
) -> None:
    engine = ScriptedEngine(("First", "."))
    async with running_agent(engine) as agent, shown(browser, agent.url) as page:
        answer = await page.answer("Say something.")
        engine.pieces = ("Second", ".")
        await page.button("Answer again", answer).click()
        await expect(page.answers).to_contain_text(["Second."])
        await expect(page.answers.locator(".branches")).to_have_text("2/2")
        await page.button("Previous version").click()
        await expect(page.answers).to_contain_text(["First."])

        engine.pieces = ("Third", ".")
        asked = page.page.locator(".message.user")
        await asked.hover()
        await page.button("Edit", asked).click()
        await page.page.get_by_label("Edit the message").fill("Say something else.")
        await page.button("Send", asked).click()
        await expect(page.answers).to_contain_text(["Third."])
        await expect(asked).to_contain_text("Say something else.")
        await expect(asked.locator(".branches")).to_have_text("2/2")
        await page.button("Previous version", asked).click()
        # Its newest answer is shown, and what was looked at last is kept.
        await expect(page.answers).to_contain_text(["Second."])
        await page.reload()
        await expect(page.answers).to_contain_text(["Second."])


async def test_what_is_written_where_a_conversation_is_gone_begins_another(
    browser: Browser,
) -> None:
    async with running_agent(ScriptedEngine()) as agent, shown(browser, agent.url) as page:
        await page.go("chat/of-yesterday")
        await expect(page.page.locator(".thread")).to_contain_text("not on this device any more")
        page.complaints.clear()  # The 404 that told it.
        answer = await page.answer("Still there?")
        await expect(answer).to_contain_text("Hello there.")
        await expect(page.page.get_by_role("heading", level=1)).to_have_text("Still there?")


async def test_an_address_that_cannot_be_decoded_shows_the_page_all_the_same(
    browser: Browser,
) -> None:
    async with running_agent(ScriptedEngine()) as agent, shown(browser, agent.url) as page:
        await page.go("chat/%")
        await page.reload()
        await expect(page.page.locator(".thread")).to_contain_text("not on this device any more")
        page.complaints.clear()  # The 404 that told it.


async def test_what_the_agent_did_not_take_is_still_there_to_be_sent(browser: Browser) -> None:
    async with running_agent(ScriptedEngine()) as agent, shown(browser, agent.url) as page:
        await page.page.route("**/v1/isthmus/conversations", lambda route: route.abort())
        await page.ask("Written with care")
        await expect(page.page.get_by_role("alert")).to_contain_text("cannot be reached")
        await expect(page.composer).to_have_value("Written with care")
        await page.page.unroute("**/v1/isthmus/conversations")
        page.complaints.clear()  # The request that failed.
        await page.composer.press("Enter")
        await expect(page.answers).to_contain_text(["Hello there."])
        await expect(page.composer).to_have_value("")


async def test_an_edit_that_the_agent_did_not_take_is_still_there_to_be_sent(
    browser: Browser,
) -> None:
    async with running_agent(ScriptedEngine()) as agent, shown(browser, agent.url) as page:
        await page.answer("Hello")
        await page.page.route("**/turns", lambda route: route.abort())
        asked = page.page.locator(".message.user")
        await asked.hover()
        await page.button("Edit", asked).click()
        field = page.page.get_by_label("Edit the message")
        await field.fill("Written again")
        await field.press("Enter")
        await expect(page.page.get_by_role("alert")).to_contain_text("cannot be reached")
        await expect(field).to_have_value("Written again")
        await page.page.unroute("**/turns")
        page.complaints.clear()  # The request that failed.
        await field.press("Enter")
        await expect(page.page.locator(".bubble")).to_have_text("Written again")


async def test_that_the_agent_is_away_is_said_once_until_it_is_back(browser: Browser) -> None:
    async with running_agent(ScriptedEngine()) as agent, shown(browser, agent.url) as page:
        await page.answer("Hello")
        address = page.page.url
        alert = page.page.get_by_role("alert")
        await page.page.route("**/v1/isthmus/**", lambda route: route.abort())
        await page.ask("Still there?")
        await expect(alert).to_have_count(1)
        async with page.page.expect_event("requestfailed", lambda asked: "/live?" in asked.url):
            await page.go("live")
        await expect(alert).to_have_count(1)
        await expect(alert).to_contain_text("cannot be reached")
        await page.page.unroute("**/v1/isthmus/**")
        await expect(page.page.locator(".live")).to_be_visible()
        await expect(alert).to_have_count(0)

        # A conversation that could not be read is shown by itself, too.
        await page.page.route("**/v1/isthmus/**", lambda route: route.abort())
        await page.page.goto(address)
        await page.reload()
        await expect(alert).to_have_count(1)
        await expect(page.answers).to_have_count(0)
        await page.page.unroute("**/v1/isthmus/**")
        await expect(page.answers).to_contain_text(["Hello there."])
        await expect(alert).to_have_count(0)
        page.complaints.clear()  # The requests that failed.


async def test_thumbs_are_kept_and_taken_back(browser: Browser) -> None:
    async with running_agent(ScriptedEngine()) as agent, shown(browser, agent.url) as page:
        answer = await page.answer("Hello")
        await page.button("Good answer", answer).click()
        await expect(page.button("Good answer", answer)).to_have_attribute("aria-pressed", "true")
        await page.reload()
        good = page.button("Good answer", page.answers.first)
        await expect(good).to_have_attribute("aria-pressed", "true")
        await good.click()
        await expect(good).to_have_attribute("aria-pressed", "false")


async def test_a_failed_answer_says_so_and_can_be_asked_for_again(browser: Browser) -> None:
    from isthmus.core.errors import Unavailable

    engine = ScriptedEngine((), error=Unavailable("out of order"))
    async with running_agent(engine) as agent, shown(browser, agent.url) as page:
        answer = await page.answer("Hello")
        failed = answer.get_by_role("alert")
        await expect(failed).to_be_visible()
        # There is nothing to copy and nothing to judge, and one way to ask again.
        await expect(answer.get_by_role("button")).to_have_text(["Try again", re.compile("Device")])
        where = page.page.get_by_label("Where to answer")
        await where.select_option("only_on_device")
        await expect(failed).to_contain_text("“Device only” is chosen below")
        await where.select_option("auto")
        await expect(failed).not_to_contain_text("chosen below")
        engine.pieces, engine.error = ("Hello", " there."), None
        await page.button("Try again", failed).click()
        await expect(page.answers).to_contain_text(["Hello there."])


async def test_an_agent_with_a_token_asks_for_it_once(browser: Browser) -> None:
    async with (
        running_agent(ScriptedEngine(), token="open-sesame-please") as agent,
        shown(browser, agent.url) as page,
    ):
        dialog = page.page.get_by_role("dialog")
        await expect(dialog).to_contain_text("This agent asks for a token")
        await dialog.get_by_label("This agent asks for a token").fill("open-sesame-please")
        await page.button("Use it", dialog).click()
        await expect(dialog).to_have_count(0)
        answer = await page.answer("Hello")
        await expect(answer).to_contain_text("Hello there.")
        page.complaints.clear()  # The 401 that made it ask.


@pytest.mark.parametrize(
    ("locale", "refused", "asks"),
    [
        ("en-US", "The agent refused that token.", "This agent asks for a token."),
        ("zh-CN", "智能体拒绝了该令牌。", "此智能体需要令牌。"),
    ],
)
async def test_a_wrong_token_is_said_to_be_wrong_in_the_pages_words(
    browser: Browser, locale: str, refused: str, asks: str
) -> None:
    async with (
        running_agent(ScriptedEngine(), token="open-sesame-please") as agent,
        shown(browser, agent.url, locale=locale) as page,
    ):
        dialog = page.page.get_by_role("dialog")
        field = dialog.locator("input")
        await expect(field).to_be_visible()
        await expect(dialog.get_by_role("alert")).to_have_count(0)
        await field.fill("close-sesame")
        await field.press("Enter")
        await expect(dialog.get_by_role("alert")).to_have_text(refused)
        await expect(page.page.locator(".banner p")).to_have_text(asks)
        await field.fill("open-sesame-please")
        await field.press("Enter")
        await expect(page.page.get_by_role("alert")).to_have_count(0)
        await expect(dialog).to_have_count(0)
        page.complaints.clear()  # The 401s that made it ask.

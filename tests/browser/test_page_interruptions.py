"""The page used in any order: drafts left lying, two tabs, keys at any time, early deletes."""

from __future__ import annotations

import asyncio
import re

from playwright.async_api import Browser, Route, expect

from isthmus.core.chat import RouteMode
from isthmus.edge.testing import ScriptedEngine, ScriptedTier, running_agent
from page_in_browser import PHONE, shown

LONG = tuple(f" word{n}" for n in range(400))


async def test_a_draft_and_where_to_answer_outlive_a_look_at_another_view(browser: Browser) -> None:
    async with running_agent(ScriptedEngine()) as agent, shown(browser, agent.url) as page:
        await page.answer("Hello")
        first = page.page.url
        where = page.page.get_by_label("Where to answer")
        await where.select_option("only_on_device")
        await page.composer.fill("half a thought")
        await page.go("live")
        await expect(page.page.locator(".live")).to_be_visible()
        await page.go("chat")
        # Each conversation has its own; where to answer holds for all of them.
        await expect(page.composer).to_have_value("")
        await expect(where).to_have_value("only_on_device")
        await page.page.goto(first)
        await expect(page.composer).to_have_value("half a thought")
        await page.reload()
        await expect(where).to_have_value("only_on_device")


async def test_an_edit_and_a_new_answer_go_where_the_composer_says(browser: Browser) -> None:
    engine, cloud = ScriptedEngine(("Here", ".")), ScriptedTier(("There", "."))
    async with running_agent(engine, cloud=cloud) as agent, shown(browser, agent.url) as page:
        answer = await page.answer("Something of mine", route=RouteMode.ONLY_IN_CLOUD)
        await expect(answer).to_contain_text("There.")
        await page.page.get_by_label("Where to answer").select_option(RouteMode.ONLY_ON_DEVICE)
        await page.button("Answer again", answer).click()
        await expect(page.answers).to_contain_text(["Here."])
        asked = page.page.locator(".message.user")
        await asked.hover()
        await page.button("Edit", asked).click()
        await page.page.get_by_label("Edit the message").fill("And more")
        await page.page.get_by_label("Edit the message").press("Enter")
        await expect(asked.locator(".bubble")).to_have_text("And more")
        await expect(page.answers).to_contain_text(["Here."])
        await page.page.get_by_role("button", name="New chat").click()
        await page.page.locator(".starts button").first.click()
        await expect(page.answers).to_contain_text(["Here."])
        assert [request.messages[-1].text for request in cloud.requests] == ["Something of mine"]


async def test_escape_stops_the_answer_wherever_the_keyboard_is(browser: Browser) -> None:
    engine = ScriptedEngine(("Short", "."))
    async with running_agent(engine) as agent, shown(browser, agent.url) as page:
        answer = await page.answer("Hello")
        engine.pieces, engine.delay_s = LONG, 0.05
        await page.button("Answer again", answer).click()
        await expect(page.answers.last).to_contain_text("word3")
        keys = page.page.keyboard
        # In a field that it leaves, it does that and no more.
        await page.page.get_by_label("Search conversations").press("Escape")
        await page.page.get_by_label("Search conversations").blur()
        await keys.press("?")
        await expect(page.page.get_by_role("dialog")).to_be_visible()
        await keys.press("Escape")
        await expect(page.page.get_by_role("dialog")).to_have_count(0)
        await expect(page.button("Stop")).to_be_visible()
        await keys.press("Escape")
        await expect(page.answers.last).to_contain_text("Stopped here.")


async def test_an_answer_whose_conversation_is_deleted_is_not_made_to_its_end(
    browser: Browser,
) -> None:
    engine = ScriptedEngine(LONG, delay_s=0.05)
    async with running_agent(engine) as agent, shown(browser, agent.url) as page:
        await page.ask("Go on and on.")
        await expect(page.answers.first).to_contain_text("word3")
        await page.button("Delete “Go on and on.”").click()
        await page.button("Delete", page.page.get_by_role("dialog")).click()
        await expect(page.page.locator(".conversation")).to_have_count(0)
        await expect(page.page.locator(".welcome")).to_be_visible()
        await expect(page.page.get_by_role("alert")).to_have_count(0)
        engine.pieces = ("Short", ".")
        await page.answer("Hello")
        assert engine.stopped == 1
        page.complaints.clear()  # The 404 of what became of the answer.


async def test_a_tab_shows_what_another_one_has_added_when_it_is_looked_at(
    browser: Browser,
) -> None:
    engine = ScriptedEngine()
    async with running_agent(engine) as agent, shown(browser, agent.url) as page:
        await page.answer("Hello")
        address = page.page.url
        other = await page.context.new_page()
        await other.goto(address)
        await other.locator("#composer").fill("From the other tab")
        engine.pieces, engine.delay_s = LONG[:40], 0.03
        await other.locator("#composer").press("Enter")
        await expect(other.locator(".message.assistant").nth(1)).to_contain_text("word3")
        await page.page.evaluate("dispatchEvent(new Event('focus'))")
        await expect(page.answers).to_have_count(2)
        # It comes to its end here as well.
        await expect(page.answers.last).to_contain_text("word39")
        await expect(page.answers.last).to_have_attribute("aria-busy", "false")
        await page.answer("And from this one")
        await expect(page.page.locator(".message.user .bubble")).to_have_text(
            ["Hello", "From the other tab", "And from this one"]
        )

        await other.bring_to_front()
        await other.get_by_role("button", name=re.compile("Delete “Hello”")).click()
        await other.get_by_role("dialog").get_by_role("button", name="Delete").click()
        await expect(other.locator(".conversation")).to_have_count(0)
        await page.page.evaluate("dispatchEvent(new Event('focus'))")
        await expect(page.page.locator(".thread")).to_contain_text("not on this device any more")
        await expect(page.answers).to_have_count(0)
        await expect(page.page.locator(".conversation")).to_have_count(0)
        page.complaints.clear()  # The 404 that told it.


async def test_what_was_sent_is_seen_before_the_agent_says_that_it_has_it(browser: Browser) -> None:
    async with running_agent(ScriptedEngine()) as agent, shown(browser, agent.url) as page:
        arrives = asyncio.Event()

        async def slowly(route: Route) -> None:
            await arrives.wait()
            await route.continue_()

        await page.page.route("**/turns", slowly)
        await page.ask("Are you far away?")
        await expect(page.page.locator(".bubble")).to_have_text("Are you far away?")
        await expect(page.answers.locator(".waiting")).to_be_visible()
        arrives.set()
        await expect(page.answers).to_contain_text(["Hello there."])
        await expect(page.answers).to_have_attribute("aria-busy", "false")
        await expect(page.page.locator(".bubble")).to_have_count(1)
        arrives.clear()
        await page.button("Answer again").click()
        await expect(page.answers.locator(".waiting")).to_be_visible()
        arrives.set()
        await expect(page.answers).to_contain_text(["Hello there."])
        await expect(page.answers.locator(".branches")).to_have_text("2/2")
        arrives.clear()
        await page.ask("Never mind")
        await expect(page.answers).to_have_count(2)
        await page.button("Stop").click()
        await expect(page.answers).to_have_count(1)
        arrives.set()


async def test_on_a_phone_enter_begins_a_line_and_the_button_sends(browser: Browser) -> None:
    async with (
        running_agent(ScriptedEngine()) as agent,
        shown(browser, agent.url, size=PHONE, has_touch=True, is_mobile=True) as page,
    ):
        await page.composer.tap()
        await page.page.keyboard.type("One line")
        await page.page.keyboard.press("Enter")
        await page.page.keyboard.type("and another")
        await page.button("Send").tap()
        await expect(page.page.locator(".bubble")).to_have_text("One line\nand another")
        await expect(page.answers).to_contain_text(["Hello there."])


async def test_the_conversation_is_read_once_the_right_token_is_given(browser: Browser) -> None:
    token = "open-sesame-please"
    async with running_agent(ScriptedEngine(), token=token) as agent:
        async with shown(browser, agent.url) as page:
            field = page.page.get_by_role("dialog").locator("input")
            await field.fill(token)
            await field.press("Enter")
            await page.answer("Hello")
            address = page.page.url
            page.complaints.clear()  # The 401 that made it ask.
        async with shown(browser, agent.url) as page:
            await page.page.goto(address)
            await page.reload()
            field = page.page.get_by_role("dialog").locator("input")
            await field.press("?")
            await page.button("Use it").press("?")  # The list of keys waits for its turn.
            await field.fill(token)
            await field.press("Enter")
            await expect(page.answers).to_contain_text(["Hello there."])
            await expect(page.page).to_have_title("Hello · Isthmus")
            page.complaints.clear()  # The 401 that made it ask.

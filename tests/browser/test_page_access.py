"""The page for everyone: both languages, both themes, a phone, a keyboard, a screen reader."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from isthmus.edge.ledger import Ledger
from isthmus.edge.testing import RunningAgent, ScriptedEngine, ScriptedTier, running_agent
from page_in_browser import DESK, PHONE, Shown, shown

ANSWER = """# A plan

1. **Read** the [file](https://example.org).
2. Count.

```python
def count(text: str) -> int:
    \"\"\"Words of a text.\"\"\"
    return len(text.split())  # all of them
```

| tier | first token in the middle of the night | price of it all |
|---|---:|---:|
| device | 16 ms | $0 |

> Done, and `well`. averyveryverylongwordthatnobodywouldeverwriteintoananswerbutamodelmight
"""


HAS_COLOUR = """([canvas, name]) => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const colour = getComputedStyle(document.documentElement).getPropertyValue(name);
    const parts = colour.match(/[0-9a-f]{2}/g).map((part) => parseInt(part, 16));
    for (let at = 0; at < data.length; at += 4)
        if (parts.every((part, n) => data[at + n] === part)) return true;
    return false;
}"""


@pytest_asyncio.fixture(loop_scope="session")
async def agent() -> AsyncIterator[RunningAgent]:
    cloud = ScriptedTier((ANSWER,), model_name="big")
    engine = ScriptedEngine((ANSWER,))
    async with running_agent(engine, cloud=cloud, ledger=Ledger()) as running:
        yield running


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
async def test_no_view_breaks_a_rule_of_accessibility_or_is_wider_than_its_window(
    browser: Browser, agent: RunningAgent, dark: bool, size: Any, locale: str
) -> None:
    async with shown(browser, agent.url, dark=dark, size=size, locale=locale) as page:

        async def check(place: str) -> None:
            assert await page.violations() == [], place
            assert await page.overflow_px() == 0, place

        await check("welcome")
        first = await page.answer("My number is +1 415 555 0132. Plan it.", route="only_in_cloud")
        await first.locator(".badge").click()
        for details in await page.why.locator("summary").all():
            await details.click()
        await page.answer("And again.", route="only_on_device")
        await check("chat")
        await page.go("live")
        await expect(page.page.locator("canvas")).to_have_count(2)
        await check("live")
        for button in await page.page.locator(".chart button").all():
            await button.click()
        await check("live as tables")
        await page.go("settings")
        await expect(page.page.get_by_role("radio").first).to_be_visible()
        await check("settings")


async def test_the_browser_chooses_the_language_and_a_person_another(
    browser: Browser, agent: RunningAgent
) -> None:
    async with shown(browser, agent.url, locale="zh-CN") as page:
        html = page.page.locator("html")
        await expect(html).to_have_attribute("lang", "zh-CN")
        await expect(page.page.locator(".welcome h2")).to_have_text("想聊点什么？")
        answer = await page.answer("你好", route="only_on_device")
        await expect(answer.locator(".badge")).to_contain_text("设备")
        await page.go("settings")
        await page.page.get_by_role("radio", name="English").check()
        await expect(html).to_have_attribute("lang", "en")
        await page.reload()
        await expect(page.page.locator("h1")).to_have_text("Settings")


async def test_a_theme_is_chosen_over_the_systems_and_kept(
    browser: Browser, agent: RunningAgent
) -> None:
    async with shown(browser, agent.url) as page:
        await page.go("settings")
        await page.page.get_by_role("radio", name="Dark").check()
        await page.reload()
        await expect(page.page.locator("html")).to_have_attribute("data-theme", "dark")


async def test_a_phone_has_the_conversations_in_a_drawer(
    browser: Browser, agent: RunningAgent
) -> None:
    async with shown(browser, agent.url, size=PHONE, has_touch=True) as page:
        await page.composer.fill("On the road")
        await page.button("Send").tap()
        await expect(page.answers.first).to_have_attribute("aria-busy", "false")
        side = page.page.locator(".side")
        await expect(side).to_be_hidden()
        await page.button("Open the menu").tap()
        await expect(side).to_be_visible()
        await page.button("New chat", side).tap()
        await expect(side).to_be_hidden()
        await expect(page.page.locator(".welcome")).to_be_visible()
        tabs = page.page.get_by_role("navigation", name="Views at the bottom")
        await tabs.get_by_role("link", name="Live").tap()
        await expect(page.page.locator("h1")).to_have_text("Live")


async def focused(page: Shown) -> str:
    """What the keyboard is on, by its name."""
    return str(
        await page.page.evaluate(
            """() => {
                const at = document.activeElement;
                return at.getAttribute("aria-label") || at.textContent.trim() || at.id;
            }"""
        )
    )


async def test_everything_is_reached_with_a_keyboard_alone(
    browser: Browser, agent: RunningAgent
) -> None:
    async with shown(browser, agent.url) as page:
        keys = page.page.keyboard
        await expect(page.composer).to_be_focused()
        await keys.type("Hello")
        await keys.press("Shift+Enter")
        await keys.type("there")
        await keys.press("Enter")
        await expect(page.answers.first).to_have_attribute("aria-busy", "false")
        await expect(page.page.locator(".bubble")).to_have_text("Hello\nthere")
        await expect(page.composer).to_be_focused()

        # Backwards from the composer lies the answer, its tools and its badge.
        passed = []
        for _ in range(12):
            await keys.press("Shift+Tab")
            passed.append(await focused(page))
            if "Why here?" in passed[-1]:
                break
        assert passed[:3] == ["Bad answer", "Good answer", "Answer again"]
        await keys.press("Enter")
        await expect(page.why).to_be_visible()

        await keys.press("Control+k")
        await expect(page.page.get_by_label("Search conversations")).to_be_focused()
        await keys.press("Escape")
        await page.page.get_by_label("Search conversations").blur()
        await keys.press("?")
        dialog = page.page.get_by_role("dialog")
        await expect(dialog).to_contain_text("Keyboard shortcuts")
        await keys.press("Escape")
        await expect(dialog).to_have_count(0)
        await keys.press("/")
        await expect(page.composer).to_be_focused()
        await keys.press("Control+Shift+O")
        await expect(page.page.locator(".welcome")).to_be_visible()


async def test_a_field_that_is_left_gives_the_keyboard_back(
    browser: Browser, agent: RunningAgent
) -> None:
    async with shown(browser, agent.url) as page:
        await page.answer("Where was I?", route="only_on_device")
        for opener in ("Rename “Where was I?”", "Edit"):
            button = page.page.get_by_role("button", name=opener, exact=True).first
            await button.press("Enter")
            await expect(
                page.page.locator("input.field:focus, textarea.field:focus")
            ).to_have_count(1)
            await page.page.keyboard.press("Escape")
            await expect(button).to_be_focused()


async def test_asking_again_leaves_the_keyboard_where_one_writes(
    browser: Browser, agent: RunningAgent
) -> None:
    async with shown(browser, agent.url) as page:
        answer = await page.answer("Is anybody there?", route="only_on_device")
        await page.button("Answer again", answer).press("Enter")
        await expect(page.answers.locator(".branches")).to_have_text("2/2")
        await expect(page.composer).to_be_focused()


async def test_what_welcomes_is_read_from_its_beginning(
    browser: Browser, agent: RunningAgent
) -> None:
    low = {"width": 740, "height": 360}
    async with shown(browser, agent.url, size=low) as page:
        welcome = page.page.locator(".welcome img")
        await expect(welcome).to_be_in_viewport()
        await page.answer("Hello", route="only_on_device")
        await page.go("chat")
        await expect(welcome).to_be_in_viewport()


async def test_words_that_an_input_method_composes_are_not_sent(
    browser: Browser, agent: RunningAgent
) -> None:
    async with shown(browser, agent.url) as page:
        await page.composer.fill("ni hao")
        await page.composer.dispatch_event("keydown", {"key": "Enter", "isComposing": True})
        await expect(page.composer).to_have_value("ni hao")
        await expect(page.answers).to_have_count(0)


async def test_the_answer_is_announced_once_it_is_whole(
    browser: Browser, agent: RunningAgent
) -> None:
    async with shown(browser, agent.url) as page:
        await page.answer("Hello", route="only_on_device")
        status = page.page.locator("[role=status][aria-live=polite]")
        await expect(status).to_contain_text("Answered on the device. A plan")
        # Code is there to be read, not to be heard.
        assert "def count" not in await status.inner_text()


async def test_what_is_written_from_the_right_is_set_from_the_right(browser: Browser) -> None:
    text = (
        "مرحبا!\n\n- واحد\n\n| الاسم | السعر |\n|---|---|\n| تفاح | 12 |\n\nAnd this from the left."
    )
    async with running_agent(ScriptedEngine((text,))) as agent, shown(browser, agent.url) as page:
        answer = await page.answer("مرحبا")
        directions = await answer.locator(".block > *").evaluate_all(
            "all => all.map(one => getComputedStyle(one).direction)"
        )
        assert directions == ["rtl", "rtl", "rtl", "ltr"]
        cell = answer.locator("td").first
        row, table = await cell.bounding_box(), await answer.locator(".scrolls").bounding_box()
        assert row is not None
        assert table is not None
        assert abs(row["x"] + row["width"] - table["x"] - table["width"]) < 2


async def test_a_cell_may_break_its_line(browser: Browser) -> None:
    text = "| a | b |\n|---|---|\n| one<br>two | <b>three</b> |\n"
    async with running_agent(ScriptedEngine((text,))) as agent, shown(browser, agent.url) as page:
        answer = await page.answer("Hello")
        await expect(answer.locator("td")).to_have_text(
            ["one\ntwo", "<b>three</b>"], use_inner_text=True
        )


async def test_a_single_value_is_seen_in_the_chart_of_times(browser: Browser) -> None:
    ledger = Ledger()
    async with (
        running_agent(ScriptedEngine(), ledger=ledger) as agent,
        shown(browser, agent.url) as page,
    ):
        await page.answer("Hello")
        await page.go("live")
        times = page.page.get_by_role("figure").filter(has_text="Time to the first token")
        canvas = await times.locator("canvas").element_handle()
        await page.page.wait_for_function(HAS_COLOUR, arg=[canvas, "--warn"])

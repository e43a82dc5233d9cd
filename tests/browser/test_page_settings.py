"""The page's settings: what is chosen holds for the next message."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from playwright.async_api import Browser, expect

from isthmus.edge.choices import choices_path
from isthmus.edge.page.kept import Kept
from isthmus.edge.testing import RunningAgent, ScriptedEngine, ScriptedTier, running_agent
from page_in_browser import Shown, shown


@asynccontextmanager
async def settings(browser: Browser, **more: Any) -> AsyncIterator[tuple[Shown, RunningAgent]]:
    kept = Kept(choices=choices_path())
    async with (
        running_agent(ScriptedEngine(), cloud=ScriptedTier(), kept=kept, **more) as agent,
        shown(browser, agent.url) as page,
    ):
        yield page, agent


async def reasons(page: Shown) -> list[str]:
    """Why the next message is answered where it is, in codes."""
    await page.go()
    answer = await page.answer("Hello", route="prefer_in_cloud")
    await answer.locator(".badge").click()
    return await page.why.locator(".reasons code").all_inner_texts()


async def test_a_preset_decides_the_next_message(browser: Browser) -> None:
    async with settings(browser) as (page, _):
        assert await reasons(page) == ["preferred_cloud"]
        await page.go("settings")
        await page.page.get_by_role("radio", name="Offline").check()
        await expect(page.page.locator(".said")).to_have_text("Saved, from the next message on")
        assert await reasons(page) == ["forced_edge"]
        await page.reload()
        await page.go("settings")
        await expect(page.page.get_by_role("radio", name="Offline")).to_be_checked()


async def test_without_consent_the_next_message_stays(browser: Browser) -> None:
    async with settings(browser) as (page, _):
        await page.go("settings")
        await page.page.get_by_role("switch", name="Use the cloud").uncheck()
        await expect(page.page.locator(".said")).to_have_text("Saved, from the next message on")
        assert await reasons(page) == ["privacy_no_consent"]


async def test_a_budget_and_a_policy_are_taken_and_an_empty_field_is_no_limit(
    browser: Browser,
) -> None:
    async with settings(browser) as (page, agent):
        await page.go("settings")
        day = page.page.get_by_label("A day")
        await day.fill("0.25")
        await day.press("Enter")
        await expect(page.page.locator(".said")).to_be_visible()
        assert str(agent.agent.router.budget.day_usd) == "0.25"
        await page.page.get_by_role("radio", name="Strict").check()
        await expect(page.page.get_by_role("radio", name="Strict")).to_be_checked()
        await day.fill("")
        await day.press("Enter")
        await page.go("live")
        await expect(page.page.locator(".budget").first).to_contain_text("no limit")
        assert agent.agent.router.budget.day_usd is None
        assert agent.agent.config.privacy.preset == "strict"


async def test_a_budget_that_did_not_hold_is_not_shown_as_if_it_did(browser: Browser) -> None:
    async with settings(browser, router={"budget": {"day_usd": "0.5"}}) as (page, agent):
        await page.go("settings")
        day = page.page.get_by_label("A day")
        await expect(day).to_have_value("0.5")
        await page.page.route("**/v1/isthmus/settings", lambda route: route.abort())
        await day.fill("3")
        await day.press("Enter")
        await expect(day).to_have_value("0.5")
        await page.page.unroute("**/v1/isthmus/settings")
        page.complaints.clear()  # The request that failed.
        # More than the agent takes is not sent: the browser says so, in its own words.
        await day.fill("1e12")
        await day.press("Enter")
        assert not await day.evaluate("field => field.validity.valid")
        await expect(page.page.locator(".said")).to_have_count(0)
        assert str(agent.agent.router.budget.day_usd) == "0.5"


async def test_settings_that_could_not_be_read_come_when_the_agent_is_back(
    browser: Browser,
) -> None:
    async with settings(browser) as (page, _):
        await page.page.route("**/v1/isthmus/**", lambda route: route.abort())
        await page.go("settings")
        # In one place, and nothing of it stands in the view.
        await expect(page.page.get_by_role("alert")).to_have_text(
            "The agent cannot be reached. Is it still running?"
        )
        await expect(page.page.locator(".said")).to_have_count(0)
        await page.page.unroute("**/v1/isthmus/**")
        await expect(page.page.get_by_role("radio", name="Offline")).to_be_visible()
        await expect(page.page.get_by_role("alert")).to_have_count(0)
        page.complaints.clear()  # The requests that failed.


async def test_what_an_operator_fixed_cannot_be_chosen_and_says_by_whom(
    browser: Browser, monkeypatch: Any
) -> None:
    monkeypatch.setenv("ISTHMUS_EDGE_ROUTER__PRESET", "balanced")
    async with settings(browser) as (page, _):
        await page.go("settings")
        about = page.page.locator(".setting").first
        await expect(about).to_contain_text("Fixed by ISTHMUS_EDGE_ROUTER__PRESET")
        await expect(page.page.get_by_role("radio", name="Saver")).to_be_disabled()


async def test_all_conversations_are_deleted_when_that_is_confirmed(browser: Browser) -> None:
    async with settings(browser) as (page, _):
        await page.answer("Remember me")
        await page.go("settings")
        await page.button("Delete all conversations").click()
        await page.button("Cancel", page.page.get_by_role("dialog")).click()
        await expect(page.page.locator(".conversation")).to_have_count(1)
        await page.button("Delete all conversations").click()
        dialog = page.page.get_by_role("dialog")
        await page.button("Delete all conversations", dialog).click()
        await expect(page.page.locator(".conversation")).to_have_count(0)

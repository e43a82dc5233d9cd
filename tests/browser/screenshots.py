"""Pictures of the page for the documentation, taken of a real agent: make screenshots.

The device runs the real small model. The cloud's answers, their price, and the hour before are a
script, since a picture is to be the same wherever it is taken.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.async_api import Browser

sys.path.insert(0, str(Path(__file__).parent.parent))

from isthmus.cloud.testing import ScriptedBackend, running_gateway
from isthmus.core.chat import PrivacyClass
from isthmus.core.decision import Outcome, Reason, Status, Target
from isthmus.core.money import Usage
from isthmus.core.tier import ModelInfo
from isthmus.edge.ledger import Ledger
from isthmus.edge.remote import RemoteConfig, RemoteTier
from isthmus.edge.testing import running_agent
from isthmus.engine.engine import Engine
from isthmus.engine.sources.pull import pull
from page_in_browser import DESK, PHONE, Shown, running_chromium, shown

LETTER = """Dear Ms Doe,

thank you for the plans of the lock. Two things before Friday:

1. The **upper gate** needs 40 cm more clearance.
2. Please confirm the valve sizes in the table.

| valve | now | planned |
|---|---:|---:|
| filling | 1.2 m | 1.4 m |
| emptying | 1.0 m | 1.2 m |

```python
def filling_s(area_m2: float, head_m: float, valve_m2: float) -> float:
    \"\"\"How long the chamber takes to fill.\"\"\"
    return 2 * area_m2 * head_m**0.5 / (0.62 * valve_m2 * 19.62**0.5)
```

You reach me under the number that you have.
"""
PICTURES = {
    ("desk", "en"): ("chat", "why", "live", "settings"),
    ("phone", "en"): ("chat", "why"),
    ("desk", "zh"): ("chat", "live"),
    ("phone", "zh"): ("live",),
}
SHORT = "What is the capital of France?"
ASKED = {
    "en": "Write to Jane Doe (jane.doe@example.org, +1 415 555 0132) about the plans of the lock, "
    "and add how long filling takes.",
    "zh": "给 Jane Doe（jane.doe@example.org，+1 415 555 0132）写信谈船闸图纸，并附上充水时间。",
}
SETTINGS: dict[str, Any] = {
    "cloud_input_usd_per_mtok": "0.5",
    "cloud_output_usd_per_mtok": "1.5",
    "router": {"budget": {"day_usd": "0.50"}},
}


def an_hour(ledger: Ledger) -> None:
    """Outcomes of an hour as they may have been."""
    chance, now = random.Random(7), time.time()
    for n in range(560):
        at = now - 3600 + 3600 * n / 560
        wave = 0.72 + 0.18 * math.sin(n / 55)
        edge = chance.random() < wave
        kept, hidden = edge and chance.random() < 0.04, not edge and chance.random() < 0.2
        reason = Reason.VALUE_ON_EDGE if edge else Reason.VALUE_IN_CLOUD
        more = (Reason.PRIVACY_REDACTED,) if hidden else ()
        ttft = chance.lognormvariate(math.log(24 if edge else 260), 0.35)
        tpot = chance.lognormvariate(math.log(2.8 if edge else 14), 0.15)
        ledger.record(
            Outcome(
                request_id=f"shown-{n}",
                at_unix_s=at,
                route=Target.EDGE if edge else Target.CLOUD,
                reasons=(Reason.PRIVACY_LOCAL_ONLY,) if kept else (reason, *more),
                status=Status.FAILED if chance.random() < 0.004 else Status.OK,
                privacy_class=PrivacyClass.SENSITIVE
                if kept
                else PrivacyClass.REDACTED
                if hidden
                else PrivacyClass.PUBLIC,
                usage=Usage(80, 140),
                ttft_ms=ttft,
                tpot_ms=tpot,
                total_ms=ttft + 140 * tpot,
                price_micro_usd=0 if edge else 250,
                saved_micro_usd=250 if edge else 0,
            )
        )


async def take(browser: Browser, url: str, folder: Path) -> None:
    """Every picture."""
    for (size, language), wanted in PICTURES.items():
        options: dict[str, Any] = {
            "size": DESK if size == "desk" else PHONE,
            "locale": {"en": "en-US", "zh": "zh-CN"}[language],
            "dark": (size == "phone") == (language == "en"),
            "device_scale_factor": 1 if size == "desk" else 2,
        }
        async with shown(browser, url, **options) as page:
            async for view in _views(page, language):
                if view in wanted:
                    await _picture(page, folder / f"page-{view}-{size}-{language}.png")


async def _views(page: Shown, language: str) -> AsyncIterator[str]:
    """Go from view to view; the name of each while it is shown."""
    await page.answer(SHORT, route="only_on_device")
    answer = await page.answer(ASKED[language], route="prefer_in_cloud")
    yield "chat"
    await answer.locator(".badge").click()
    await page.why.evaluate("panel => panel.scrollIntoView({block: 'start'})")
    yield "why"
    await page.go("live")
    await page.page.wait_for_selector("canvas")
    yield "live"
    await page.go("settings")
    await page.page.wait_for_selector(".setting input")
    yield "settings"


async def _picture(page: Shown, path: Path) -> None:
    await page.page.wait_for_timeout(300)
    await page.page.screenshot(path=path)
    with Image.open(path) as image:
        pixels = image.convert("RGB")
    # Its 256 commonest colours are enough, and stay exactly what they are.
    counted: Any = sorted(pixels.getcolors(pixels.width * pixels.height) or [], reverse=True)
    palette = Image.new("P", (1, 1))
    palette.putpalette([part for _, colour in counted[:256] for part in colour])
    pixels.quantize(palette=palette, dither=Image.Dither.NONE).save(path, optimize=True)


async def main(folder: Path) -> None:
    """Take them all into `folder`."""
    model = pull("smollm2-135m")
    with tempfile.TemporaryDirectory() as home:
        os.environ["ISTHMUS_HOME"] = home
        pieces = [f"{word} " for word in LETTER.split(" ")]
        big = ModelInfo("cloud-32b", "vllm", context_tokens=32768)
        backend = ScriptedBackend(pieces, first_delay_s=0.2, delay_s=0.015, info=big)
        ledger = Ledger()
        an_hour(ledger)
        async with running_gateway(backend) as address, running_chromium() as browser:
            cloud = RemoteTier(RemoteConfig(address))
            await cloud.info()
            async with running_agent(
                lambda: Engine.open(str(model)), cloud=cloud, ledger=ledger, **SETTINGS
            ) as agent:
                await agent.agent.device.wait()
                await take(browser, agent.url, folder)


if __name__ == "__main__":
    images = Path(sys.argv[1])
    images.mkdir(parents=True, exist_ok=True)
    asyncio.run(main(images))

"""A gateway that is killed at any moment charges nobody twice, and nobody for more than 32 tokens
that did not arrive; what devices say that they received makes it exact.
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from chaos_counts import count
from isthmus.cli.gateway_process import ended, start_gateway
from isthmus.cloud.ledger.database import sqlite_url
from ledger_devices import PRICES, Device, assert_sound, check, load, reconcile

pytestmark = pytest.mark.chaos

KILLS = count(5, 50)
STREAMS = 24


async def test_kills_at_random_moments_leave_a_ledger_that_comes_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ISTHMUS_CLOUD_LEDGER__KIND", raising=False)
    chance = random.Random(7)
    path = tmp_path / "ledger.db"
    url = sqlite_url(path)
    devices: list[Device] = []
    for kill in range(KILLS):
        new = [Device(f"{kill}-{n}", chance.randint(1, 400)) for n in range(STREAMS)]
        # Half of those whose answer was cut off ask again; the others never come back.
        back = [one for one in devices[-STREAMS:] if not one.whole][::2]
        devices += new
        gateway = start_gateway(
            tmp_path,
            name=f"gateway-{kill}",
            ledger={"kind": "sqlite", "path": str(path)},
            prices=PRICES,
            backend={
                "kind": "scripted",
                "model": "scripted",
                "options": {"tokens_per_s": 200.0, "first_token_ms": 20.0},
            },
        )
        with ended(gateway):
            address = (await asyncio.to_thread(gateway.ready))["address"]
            running = asyncio.create_task(load(address, [*new, *back]))
            await asyncio.sleep(chance.uniform(0.05, 1.5))
            gateway.kill()
            await asyncio.wait_for(running, 90)
        check(url, devices, exactly=False)

    assert_sound(devices)
    assert any(one.usage.completion_tokens for one in devices if not one.whole)
    # A kill may come between the last token and the settling of it.
    await reconcile(url, devices)

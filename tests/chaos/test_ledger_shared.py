"""Two gateways share a ledger in PostgreSQL and are killed at any moment: whoever goes on with an
answer at the other one pays for it once, and nobody for more than 32 tokens that did not arrive.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import ExitStack
from pathlib import Path

import pytest

from chaos_counts import count
from cloud_ledgers import postgres_database, rows
from ledger_devices import (
    PRICE,
    Device,
    assert_sound,
    check,
    check_counters,
    load,
    reconcile,
)
from ledger_gateways import ROOMY, Gateways

pytestmark = [pytest.mark.chaos, pytest.mark.postgres]

KILLS = count(5, 50)
STREAMS = 8
"""At each gateway, in each round: few enough for this process to read all as it comes. What waits
in its buffers when a gateway is killed is lost with the connection, though it was sent."""
PATIENCE_S = 150


async def test_kills_leave_a_shared_ledger_that_comes_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ISTHMUS_CLOUD_LEDGER__KIND", raising=False)
    chance = random.Random(11)
    devices: list[Device] = []
    twice: list[Device] = []
    gone_on = 0
    with postgres_database() as url, ExitStack() as stack:
        gateways = Gateways(tmp_path, url)
        stack.callback(gateways.close)
        for kill in range(KILLS):
            await gateways.start()
            new = [Device(f"{kill}-{n}", chance.randint(1, 200)) for n in range(2 * STREAMS)]
            devices += new
            # The same requests at both gateways, nearly at once: one of the two is left.
            doubles = [Device(f"{kill}-twice-{n}", chance.randint(50, 120)) for n in range(2)]
            again = [Device(one.mark, one.tokens) for one in doubles]
            twice += again
            dies = chance.randrange(2)
            lives = gateways.addresses[1 - dies]
            running = [
                asyncio.create_task(load(gateways.addresses[dies], [*new[:STREAMS], *doubles])),
                asyncio.create_task(load(lives, new[STREAMS:])),
            ]
            await asyncio.sleep(chance.uniform(0.05, 1.0))
            running.append(asyncio.create_task(load(lives, again)))
            await asyncio.sleep(chance.uniform(0.0, 0.5))
            gateways.kill(dies)
            await asyncio.wait_for(asyncio.gather(*running), PATIENCE_S)
            assert all(one.whole for one in [*new[STREAMS:], *again]), gateways.said()[-2000:]
            cut_off = [one for one in new[:STREAMS] if not one.whole]
            # A third asks the other gateway at once, one later again; the rest never come back.
            back = cut_off[::3]
            gone_on += sum(one.usage.completion_tokens > 0 for one in back)
            await asyncio.wait_for(load(lives, back), PATIENCE_S)
            assert all(one.whole for one in back)
            # Whole answers that are asked for once more, at a gateway that did not write them.
            repeated = [one for one in new[:STREAMS] if one.whole and one not in back][:2]
            for one in repeated:
                one.begin_anew()
            await asyncio.wait_for(load(lives, repeated), PATIENCE_S)
            assert all(one.whole for one in repeated)
            check(url, [*devices, *twice], exactly=False)

        assert_sound([*devices, *twice])
        assert gone_on
        await reconcile(url, [*devices, *twice], quotas=ROOMY)
        check_counters(url)
        # Nobody pays for more than one answer to a request.
        for one in twice:
            (row,) = [row for row in rows(url) if row["request_id"] == one.mark]
            assert row["charge_micro_usd"] == PRICE.cost_micro_usd(one.usage)

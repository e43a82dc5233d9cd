"""The page's settings: for the next request, kept, and never over what the operator fixed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from fleet_devices import PINNED, signed
from isthmus.core.errors import ConfigError
from isthmus.edge.agent import Agent
from isthmus.edge.choices import Choices, choices_path, keep_choices, read_choices
from isthmus.edge.config import EdgeConfig
from isthmus.edge.consent import Consent
from isthmus.edge.fleet.bundles import Bundles
from isthmus.edge.fleet.held import HeldBundles
from isthmus.edge.page.kept import Kept
from isthmus.edge.testing import RunningAgent, ScriptedEngine, ScriptedTier, running_agent
from isthmus.privacy.policy import PrivacyConfig
from isthmus.router.config import RouterConfig
from isthmus.router.presets import Preset

PATH = "/v1/isthmus/settings"
Client = tuple[httpx.AsyncClient, RunningAgent]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@asynccontextmanager
async def page(**more: Any) -> AsyncIterator[Client]:
    kept = Kept(choices=choices_path())
    async with (
        running_agent(ScriptedEngine(), cloud=ScriptedTier(), kept=kept, **more) as running,
        httpx.AsyncClient(base_url=running.url, trust_env=False, timeout=20) as client,
    ):
        yield client, running


async def target(client: httpx.AsyncClient, text: str = "Hello") -> str:
    """Where a request that wants the cloud goes."""
    body = {
        "messages": [{"role": "user", "content": text}],
        "isthmus": {"route": "prefer_in_cloud"},
    }
    told = await client.post("/v1/chat/completions", json=body)
    return str(told.json()["isthmus"]["target"])


async def test_what_is_chosen_holds_for_the_next_request_and_for_the_next_start() -> None:
    async with page() as (client, running):
        assert await target(client) == "cloud"
        told = await client.patch(
            PATH,
            json={"preset": "offline", "budget": {"day_usd": 0.1}, "privacy": {"policy": "strict"}},
        )
        assert told.status_code == 200
        shown = (await client.get(PATH)).json()
        assert shown == told.json()
        assert shown["preset"] == "offline"
        assert shown["budget"] == {"day_usd": 0.1, "month_usd": None}
        assert shown["privacy"]["policy"] == "strict"
        assert shown["fixed"] == {}
        assert await target(client) == "edge"
        await client.patch(PATH, json={"preset": "best"})
        assert await target(client) == "cloud"
        assert await target(client, "Write to jane.doe@example.org") == "edge"
        assert running.agent.spending.budget.limits.day_usd == Decimal("0.1")
    config = EdgeConfig.load()
    assert config.router.preset is Preset.BEST
    assert config.router.budget.day_usd == Decimal("0.1")
    assert config.privacy.preset == "strict"


async def test_a_limit_is_taken_away_by_null_also_where_the_file_has_one(tmp_path: Path) -> None:
    file = tmp_path / "edge.toml"
    file.write_text("[router]\nthreshold = 0.4\n[router.budget]\nday_usd = 2\nmonth_usd = 9\n")
    own = EdgeConfig.load(file)
    async with page(router=own.router) as (client, _):
        told = await client.patch(PATH, json={"budget": {"day_usd": None}})
        assert told.json()["budget"] == {"day_usd": None, "month_usd": 9.0}
    again = EdgeConfig.load(file)
    assert (again.router.budget.day_usd, again.router.budget.month_usd) == (None, 9)
    assert again.router.threshold == 0.4, "what was not chosen stays as the file has it"
    keep_choices(Choices(preset=Preset.SAVER))
    assert EdgeConfig.load(file).router.threshold is None, "it would decide in the preset's place"


async def test_the_environment_stands_over_what_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    keep_choices(Choices(preset=Preset.BEST, privacy="strict"))
    monkeypatch.setenv("ISTHMUS_EDGE_ROUTER__PRESET", "private")
    config = EdgeConfig.load()
    assert (config.router.preset, config.privacy.preset) == (Preset.PRIVATE, "strict")
    async with page(router=config.router) as (client, _):
        shown = (await client.get(PATH)).json()
        assert shown["fixed"] == {"preset": "ISTHMUS_EDGE_ROUTER__PRESET"}
        assert {one["name"] for one in shown["presets"] if one["allowed"]} == {"private"}
        told = await client.patch(PATH, json={"preset": "best"})
        assert (told.status_code, told.json()["error"]["param"]) == (409, "preset")
        assert "ISTHMUS_EDGE_ROUTER__PRESET" in told.json()["error"]["message"]
        assert (await client.patch(PATH, json={"privacy": {"policy": "open"}})).status_code == 200


async def test_consent_is_given_and_revoked_unless_a_setting_forbids_it() -> None:
    async with page(privacy=PrivacyConfig()) as (client, _):
        assert (await client.get(PATH)).json()["privacy"]["consent"] is False
        assert await target(client) == "edge"
        await client.patch(PATH, json={"privacy": {"consent": True}})
        assert await target(client) == "cloud"
        assert Consent().granted
        await client.patch(PATH, json={"privacy": {"consent": False}})
        assert await target(client) == "edge"
    async with page(privacy=PrivacyConfig(consent=False)) as (client, _):
        told = await client.patch(PATH, json={"privacy": {"consent": True}})
        assert told.status_code == 409
        assert (await client.get(PATH)).json()["fixed"].keys() == {"privacy.consent"}
    assert not Consent().granted


async def test_a_wrong_setting_changes_nothing() -> None:
    wrong: list[tuple[Any, str]] = [
        ({"preset": "cheap"}, "preset"),
        ({"budget": {"day_usd": -1}}, "budget.day_usd"),
        ({"budget": {"day_usd": "1"}}, "budget.day_usd"),
        ({"budget": {"year_usd": 1}}, "budget.year_usd"),
        ({"privacy": {"policy": "lax"}}, "privacy.policy"),
        ({"privacy": {"consent": "yes"}}, "privacy.consent"),
        ({"model": "x"}, "model"),
    ]
    async with page() as (client, running):
        before = running.agent.router
        for body, param in wrong:
            told = await client.patch(PATH, json=body)
            assert (told.status_code, told.json()["error"]["param"]) == (400, param)
        assert running.agent.router is before
    assert read_choices() == Choices()


async def test_what_a_fleets_bundle_leaves_nothing_of_is_refused_with_its_number(
    tmp_path: Path,
) -> None:
    class Member:
        def __init__(self, agent: Agent) -> None:
            held = HeldBundles(tmp_path / "fleet")
            self.bundles = Bundles(agent, agent.config.router, PINNED, held, software="1")

        def spooled(self, trail: object) -> tuple[()]:
            return ()

        async def close(self) -> None:
            await self.bundles.close()

    async with page(router=RouterConfig(preset=Preset.BEST)) as (client, running):
        member = Member(running.agent)
        await member.bundles.start()
        await member.bundles.take(signed(7, 'preset = "saver"\n[router.budget]\nday_usd = 1'))
        running.agent.member = cast("Any", member)
        shown = (await client.get(PATH)).json()
        assert (shown["preset"], shown["budget"]["day_usd"]) == ("saver", 1.0)
        assert shown["fixed"] == {"preset": "fleet bundle 7", "budget.day_usd": "fleet bundle 7"}
        allowed = {one["name"] for one in shown["presets"] if one["allowed"]}
        assert allowed == {"saver", "private", "offline"}
        for body in ({"preset": "balanced"}, {"budget": {"day_usd": 2}}):
            told = await client.patch(PATH, json=body)
            assert told.status_code == 409
            assert "fleet bundle 7" in told.json()["error"]["message"]
        assert read_choices() == Choices()
        told = await client.patch(PATH, json={"preset": "offline", "budget": {"day_usd": 0.5}})
        assert (told.json()["preset"], told.json()["budget"]["day_usd"]) == ("offline", 0.5)
        assert told.json()["fixed"] == {}


@pytest.mark.parametrize(
    "text",
    ["[router", '[router]\npreset = "cheap"', "router = 3", '[router.budget]\nday_usd = "x"'],
)
def test_a_damaged_file_is_told_and_never_passed_over(text: str) -> None:
    keep_choices(Choices(privacy="strict"))
    choices_path().write_text(text)
    with pytest.raises(ConfigError, match="remove it"):
        EdgeConfig.load()


def test_choices_are_read_as_they_were_kept() -> None:
    chosen = Choices(Preset.SAVER, Decimal("0.10"), Decimal("Infinity"), "open")
    keep_choices(chosen)
    assert read_choices() == chosen
    assert chosen.router(RouterConfig()).budget.month_usd is None
    assert Choices(privacy="strict").over(chosen) == Choices(
        Preset.SAVER, Decimal("0.10"), Decimal("Infinity"), "strict"
    )

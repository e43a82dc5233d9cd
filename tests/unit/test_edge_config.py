"""The agent's settings: where they come from, and what an error names."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from isthmus.core.errors import ConfigError
from isthmus.edge.config import EdgeConfig


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "edge.toml"
    path.write_text(
        'port = 1111\nmodel = "from-file"\ncloud_input_usd_per_mtok = "0.15"\n'
        "[router]\nthreshold = 0.5\n"
    )
    return path


def test_flags_stand_over_environment_over_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert EdgeConfig.load(file).port == 1111
    monkeypatch.setenv("ISTHMUS_EDGE_PORT", "2222")
    assert EdgeConfig.load(file).port == 2222
    assert EdgeConfig.load(file, {"port": 3333}).port == 3333
    assert EdgeConfig.load(file).model == "from-file"


def test_tables_of_file_and_environment_are_merged(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISTHMUS_EDGE_ROUTER__ANSWER_TOKENS", "99")
    router = EdgeConfig.load(file).router
    assert (router.threshold, router.answer_tokens) == (0.5, 99)


def test_worths_and_budgets_come_from_the_environment_too(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISTHMUS_EDGE_ROUTER__PRESET", "saver")
    monkeypatch.setenv("ISTHMUS_EDGE_ROUTER__BUDGET__DAY_USD", "0.10")
    monkeypatch.setenv("ISTHMUS_EDGE_SENSORS", '["sysfs"]')
    config = EdgeConfig.load(file)
    assert config.router.weights.good_answer_usd == 0.002
    assert config.router.budget.micro_usd("day") == 100_000
    assert config.sensors == ("sysfs",)


def test_the_cascade_is_set_in_a_table_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "edge.toml"
    path.write_text(
        "[router.cascade]\nedge_floor = 0.5\n[router.cascade.watch]\nwindow_tokens = 4\n"
    )
    monkeypatch.setenv("ISTHMUS_EDGE_ROUTER__CASCADE__ENABLED", "false")
    cascade = EdgeConfig.load(path).router.cascade
    assert (cascade.enabled, cascade.edge_floor, cascade.watch.window_tokens) == (False, 0.5, 4)


def test_prices_are_exact(file: Path) -> None:
    assert EdgeConfig.load(file).cloud_price.input_usd_per_mtok == Decimal("0.15")


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("prot = 1", "prot"),
        ('port = "x"', "port"),
        ("port = 70000", "port"),
        ('gateway_address = "nowhere"', "gateway_address"),
        ("cloud_input_usd_per_mtok = -1", "cloud_input_usd_per_mtok"),
        ("[router]\nthreshold = -3", "router.threshold"),
        ("[router]\nmood = 1", "router.mood"),
        ('[router]\npreset = "cheap"', "router.preset"),
        ("[router]\ngood_answer_usd = -1", "router.good_answer_usd"),
        ("[router]\nmax_cloud_share = 20", "router.max_cloud_share"),
        ("[router.budget]\nday_usd = -1", "router.budget.day_usd"),
        ('[router.budget]\nmonth_usd = "much"', "router.budget.month_usd"),
        ('[router.budget]\ntimezone = "Mars"', "router.budget.timezone"),
        ("[router.budget]\nyear_usd = 1", "router.budget.year_usd"),
        ('sensors = ["barometer"]', "sensors.0"),
        ("sensors_interval_s = 0", "sensors_interval_s"),
        ("[router.cascade]\nedge_floor = 2", "router.cascade.edge_floor"),
        ("[router.cascade]\npatience_s = 0", "router.cascade.patience_s"),
        ("[router.cascade.watch]\nwindow_tokens = 0", "router.cascade.watch"),
        ('token = " "', "token"),
        ('gateway_plaintext = true\ngateway_ca_file = "x"', "gateway_plaintext"),
        ('gateway_token = "two words"', "gateway_token"),
        ("port =", "config"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, field: str) -> None:
    path = tmp_path / "edge.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        EdgeConfig.load(path)
    assert caught.value.field == field


def test_a_misspelt_name_in_a_table_of_the_router_has_a_nearest_one(tmp_path: Path) -> None:
    path = tmp_path / "edge.toml"
    path.write_text("[router.budget]\ndya_usd = 1\n")
    with pytest.raises(ConfigError) as caught:
        EdgeConfig.load(path)
    assert "router.budget.dya_usd: is no setting; did you mean 'day_usd'?" in str(caught.value)


def test_a_misspelt_variable_is_not_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISTHMUS_EDGE_PROT", "1")
    with pytest.raises(ConfigError, match="ISTHMUS_EDGE_PROT"):
        EdgeConfig.load()


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        EdgeConfig.load(tmp_path / "none.toml")


def test_the_token_never_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISTHMUS_EDGE_TOKEN", "swordfish")
    assert "swordfish" not in repr(EdgeConfig.load())

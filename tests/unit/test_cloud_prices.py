"""The price book tells what a model costs on a day, to the micro-dollar."""

from __future__ import annotations

import os
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from isthmus.cloud.ledger import prices
from isthmus.cloud.ledger.prices import PriceBook, PriceEntry
from isthmus.core.errors import ConfigError
from isthmus.core.money import Price, Usage


def entry(**settings: Any) -> PriceEntry:
    return PriceEntry.model_validate(settings)


def test_the_latest_entry_that_has_begun_holds() -> None:
    book = PriceBook(
        [
            entry(output_usd_per_mtok="3", **{"from": date(2026, 7, 1)}),
            entry(output_usd_per_mtok="1"),
            entry(output_usd_per_mtok="2", **{"from": date(2026, 1, 1)}),
        ]
    )
    days = [date(2025, 12, 31), date(2026, 1, 1), date(2026, 6, 30), date(2026, 7, 1)]
    assert [book.price("m", day).output_usd_per_mtok for day in days] == [1, 2, 2, 3]


def test_a_models_own_price_comes_before_that_of_all() -> None:
    book = PriceBook([entry(input_usd_per_mtok=1), entry(model="big", input_usd_per_mtok=9)])
    assert book.price("big").input_usd_per_mtok == 9
    assert book.price("other").input_usd_per_mtok == 1


def test_without_an_entry_nothing_costs_anything() -> None:
    assert PriceBook().price("m") == Price()


def test_an_hour_of_gpus_is_shared_by_the_tokens_that_it_yields() -> None:
    # 4 GPUs at $2.50 are $10 an hour; 3,600,000 answer tokens an hour make $2.777778 a million.
    price = entry(
        usd_per_gpu_hour="2.50", gpus=4, input_tokens_per_s=10_000, output_tokens_per_s=1_000
    ).price
    assert price == Price(Decimal("0.277778"), Decimal("2.777778"))


def test_cached_tokens_cost_what_the_book_says() -> None:
    price = entry(input_usd_per_mtok=4, cached_usd_per_mtok=1, output_usd_per_mtok=0).price
    assert price.cost_micro_usd(Usage(100, 7, cached_tokens=60)) == 40 * 4 + 60 * 1


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_cached_part_never_makes_a_prompt_dearer(prompt: int, cached: int, more: int) -> None:
    price = Price(Decimal("0.15"), Decimal("0.6"), Decimal("0.0375"))
    whole = price.cost_micro_usd(Usage(prompt, more))
    assert 0 <= price.cost_micro_usd(Usage(prompt, more, cached)) <= whole


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"input_usd_per_mtok": -1},
        {"input_usd_per_mtok": "0.0000001"},
        {"input_usd_per_mtok": 1, "cached_usd_per_mtok": 2},
        {"input_usd_per_mtok": 1, "input_tokens_per_s": 5},
        {"usd_per_gpu_hour": 1},
        {"usd_per_gpu_hour": 1, "input_tokens_per_s": 1, "output_tokens_per_s": 0},
        {"usd_per_gpu_hour": 1, "output_usd_per_mtok": 1},
        {"output_usd_per_mtok": 1, "until": "2026-01-01"},
    ],
)
def test_an_entry_that_says_too_little_or_too_much_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        entry(**settings)


def test_two_prices_from_the_same_day_are_refused() -> None:
    with pytest.raises(ConfigError, match="same day"):
        PriceBook([entry(input_usd_per_mtok=1), entry(input_usd_per_mtok=2)])


def test_a_changed_file_is_taken_over_and_a_wrong_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prices, "_LOOK_AGAIN_S", 0.0)
    path = tmp_path / "prices.toml"

    def write(text: str, at_s: int) -> None:
        path.write_text(text)
        os.utime(path, (at_s, at_s))

    write("[[prices]]\noutput_usd_per_mtok = '1'\n", 1)
    book = PriceBook(path=path)
    write("[[prices]]\noutput_usd_per_mtok = '2'\n", 2)
    assert book.price("m").output_usd_per_mtok == 2
    write("[[prices]]\noutput_usd_per_mtok = 'free'\n", 3)
    assert book.price("m").output_usd_per_mtok == 2
    path.unlink()
    assert book.price("m").output_usd_per_mtok == 2


@pytest.mark.parametrize("text", ["x = 1", "[[prices]]\nmodel = 1", "prices = 3", "[["])
def test_a_file_that_is_wrong_is_refused_at_start(tmp_path: Path, text: str) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as refused:
        PriceBook(path=path)
    assert refused.value.field == "prices_file"


def test_a_misspelt_price_in_the_file_has_a_nearest_name(tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_text("[[prices]]\noutput_usd_per_mtk = '1'\n")
    with pytest.raises(ConfigError, match="did you mean 'output_usd_per_mtok'"):
        PriceBook(path=path)

"""The price book: what each model costs, and since when.

In the gateway's file, or in a file of its own that is read again when it changes::

    [[prices]]
    input_usd_per_mtok = "0.15"
    cached_usd_per_mtok = "0.075"
    output_usd_per_mtok = "0.60"

    [[prices]]
    model = "qwen2.5-72b-instruct"
    from = 2026-12-01
    usd_per_gpu_hour = "2.50"
    gpus = 4
    input_tokens_per_s = 12_000
    output_tokens_per_s = 1_500

An hour of a GPU becomes a price per token by the tokens that it yields, so that devices can tell
beforehand what an answer costs.
"""

from __future__ import annotations

import logging
import time
import tomllib
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from isthmus.core.errors import ConfigError
from isthmus.core.misspelt import wrong_settings
from isthmus.core.money import Price

_log = logging.getLogger(__name__)

ANY_MODEL: Final = "*"
_MICRO: Final = Decimal("0.000001")
_SECONDS_PER_HOUR: Final = 3600
_TOKENS: Final = 1_000_000
_LOOK_AGAIN_S: Final = 2.0

Usd = Annotated[Decimal, Field(ge=0, le=1_000_000, decimal_places=6)]
PerSecond = Annotated[Decimal, Field(gt=0)]


class PriceEntry(BaseModel):
    """What a model costs from a day on (UTC): per million tokens, or per hour of a GPU."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    model: str = ANY_MODEL
    """The model's name; `*`: every model that has no price of its own."""
    since: date = Field(default=date.min, alias="from")
    """The first day that it holds; left out: always did."""
    input_usd_per_mtok: Usd | None = None
    """A million tokens of prompt."""
    cached_usd_per_mtok: Usd | None = None
    """A million tokens of prompt that were cached; left out: as the others."""
    output_usd_per_mtok: Usd | None = None
    """A million tokens of answer."""
    usd_per_gpu_hour: Usd | None = None
    """One GPU for one hour, in place of prices per token."""
    gpus: int = Field(default=1, ge=1)
    """How many of them serve the model."""
    input_tokens_per_s: PerSecond | None = None
    """Prompt tokens a second that they compute together, measured (`vllm bench serve`)."""
    output_tokens_per_s: PerSecond | None = None
    """Answer tokens a second that they write together."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        yields = (self.input_tokens_per_s, self.output_tokens_per_s)
        tokens = (self.input_usd_per_mtok, self.output_usd_per_mtok)
        if self.usd_per_gpu_hour is None:
            if any(value is not None for value in yields):
                raise ValueError("tokens_per_s belong to usd_per_gpu_hour")
            if all(value is None for value in tokens):
                raise ValueError("give input_usd_per_mtok, output_usd_per_mtok or usd_per_gpu_hour")
        elif any(value is not None for value in tokens):
            raise ValueError("give usd_per_gpu_hour or prices per token, not both")
        elif None in yields:
            raise ValueError("usd_per_gpu_hour needs input_tokens_per_s and output_tokens_per_s")
        cached = self.cached_usd_per_mtok
        if cached is not None and cached > self.price.input_usd_per_mtok:
            # Whoever sets money aside beforehand counts on the whole prompt as the worst.
            raise ValueError("cached_usd_per_mtok must not be above the price of other input")
        return self

    @property
    def price(self) -> Price:
        """In dollars per million tokens, to the micro-dollar."""
        if self.usd_per_gpu_hour is None:
            zero = Decimal(0)
            return Price(
                self.input_usd_per_mtok or zero,
                self.output_usd_per_mtok or zero,
                self.cached_usd_per_mtok,
            )
        per_s = self.usd_per_gpu_hour * self.gpus / _SECONDS_PER_HOUR
        taken, written = (
            (per_s * _TOKENS / rate).quantize(_MICRO, ROUND_HALF_UP)
            for rate in (self.input_tokens_per_s, self.output_tokens_per_s)
            if rate is not None
        )
        return Price(taken, written, self.cached_usd_per_mtok)


class PriceBook:
    """Which price holds when. Without an entry an answer costs nothing."""

    def __init__(self, entries: Sequence[PriceEntry] = (), *, path: Path | None = None) -> None:
        """The prices of `entries`, or of the file at `path`. Raises `ConfigError`."""
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._look_at_s = 0.0
        self._entries = _ordered(entries)
        if path is not None:
            self._stamp = _stamp(path)
            self._entries = _read(path)

    def price(self, model: str, on: date | None = None) -> Price:
        """What `model` costs on a day; today by default."""
        self._look_again()
        day = datetime.now(UTC).date() if on is None else on
        for wanted in (model, ANY_MODEL):
            holding = [e for e in self._entries if e.model == wanted and e.since <= day]
            if holding:
                return holding[-1].price
        return Price()

    def _look_again(self) -> None:
        """Take over a changed file; one that is wrong changes nothing and is told."""
        if self._path is None or time.monotonic() < self._look_at_s:
            return
        self._look_at_s = time.monotonic() + _LOOK_AGAIN_S
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._entries = _read(self._path)
        except ConfigError as error:
            _log.warning("the prices stay as they were: %s", error.message)
        else:
            _log.info("new prices from %s", self._path)


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _ordered(entries: Sequence[PriceEntry]) -> tuple[PriceEntry, ...]:
    keys = [(entry.model, entry.since) for entry in entries]
    for key in keys:
        if keys.count(key) > 1:
            raise ConfigError(
                f"prices: two entries for {key[0]!r} hold from the same day", field="prices"
            )
    return tuple(sorted(entries, key=lambda entry: entry.since))


def _read(path: Path) -> tuple[PriceEntry, ...]:
    try:
        content: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        if set(content) - {"prices"}:
            raise ConfigError(f"{path} may hold [[prices]] alone", field="prices_file")
        entries = TypeAdapter(tuple[PriceEntry, ...]).validate_python(content.get("prices", []))
    except OSError as error:
        raise ConfigError(
            f"prices_file {path} cannot be read: {error.strerror}", field="prices_file"
        ) from None
    except ValidationError as error:
        where, why = wrong_settings(error, tuple[PriceEntry, ...])[0]
        raise ConfigError(f"{path}: prices.{where}: {why}", field="prices_file") from None
    except ValueError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}", field="prices_file") from None
    return _ordered(entries)

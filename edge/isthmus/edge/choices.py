"""What a person chose on the page: kept in `ISTHMUS_HOME/settings.toml`, over the settings file.

The environment stands over it, and a fleet's bundle tunes it as it tunes any setting of the device.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final

from isthmus.core.errors import ConfigError
from isthmus.core.paths import home, write_whole
from isthmus.privacy.policy import PRESETS, PrivacyConfig
from isthmus.router.config import BudgetLimits, RouterConfig
from isthmus.router.presets import Preset

NO_LIMIT: Final = Decimal("Infinity")
"""A limit that was taken away, where the settings file has one."""

_NAMES: Final = {
    "preset": ("router", "preset"),
    "day_usd": ("router", "budget", "day_usd"),
    "month_usd": ("router", "budget", "month_usd"),
    "privacy": ("privacy", "preset"),
}
"""Each choice's place among the settings."""
WORTHS: Final = (
    "good_answer_usd",
    "second_usd",
    "battery_percent_usd",
    "leave_usd",
    "max_cloud_share",
    "min_quality_share",
    "threshold",
    "threshold_source",
)
"""Numbers that stand over a preset: whoever chooses one means the preset."""


def choices_path() -> Path:
    """Where the choices are kept."""
    return home() / "settings.toml"


@dataclass(frozen=True, slots=True)
class Choices:
    """What was chosen; None: nothing. Raises `ConfigError` for what cannot be."""

    preset: Preset | None = None
    day_usd: Decimal | None = None
    month_usd: Decimal | None = None
    privacy: str | None = None

    def __post_init__(self) -> None:
        for name in ("day_usd", "month_usd"):
            limit: Decimal | None = getattr(self, name)
            if limit is not None and not limit >= 0:
                raise ConfigError("must be at least 0 dollars", field=f"router.budget.{name}")
        if self.privacy is not None and self.privacy not in PRESETS:
            raise ConfigError(f"must be one of: {', '.join(PRESETS)}", field="privacy.preset")

    def router(self, own: RouterConfig) -> RouterConfig:
        """`own` with what was chosen."""
        if self.preset is not None:
            plain = RouterConfig()
            base: dict[str, Any] = {name: getattr(plain, name) for name in WORTHS}
            own = replace(own, **base, preset=self.preset)
        limits = {
            name: None if limit == NO_LIMIT else limit
            for name in ("day_usd", "month_usd")
            if (limit := getattr(self, name)) is not None
        }
        return replace(own, budget=_with(own.budget, limits)) if limits else own

    def of_privacy(self, own: PrivacyConfig) -> PrivacyConfig:
        """`own` with what was chosen."""
        return own if self.privacy is None else replace(own, preset=self.privacy)

    def over(self, other: Choices) -> Choices:
        """These, and of `other` what is not among them."""
        given = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(other, **{name: value for name, value in given.items() if value is not None})

    def free(self, env_prefix: str) -> Choices:
        """These without what the environment sets."""
        taken: dict[str, Any] = dict.fromkeys(set_by_environment(env_prefix))
        return replace(self, **taken)


def _with(limits: BudgetLimits, chosen: Mapping[str, Decimal | None]) -> BudgetLimits:
    day = chosen.get("day_usd", limits.day_usd)
    return replace(limits, day_usd=day, month_usd=chosen.get("month_usd", limits.month_usd))


def set_by_environment(env_prefix: str) -> dict[str, str]:
    """The choices that the environment makes, each with its variable."""
    found = {}
    present = {name.upper() for name in os.environ}
    for choice, place in _NAMES.items():
        places = [place[:depth] for depth in range(1, len(place) + 1)]
        if choice == "preset":
            places += [("router", worth) for worth in WORTHS]
        names = (f"{env_prefix}{'__'.join(one)}".upper() for one in places)
        variable = next((name for name in names if name in present), None)
        if variable is not None:
            found[choice] = variable
    return found


def read_choices(path: Path | None = None) -> Choices:
    """What is kept. Raises `ConfigError`: a damaged file must not loosen what was chosen."""
    path = path or choices_path()
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
        return _read(tables)
    except FileNotFoundError:
        return Choices()
    except OSError as error:
        why = error.strerror or type(error).__name__
    except ConfigError as error:
        why = f"{error.field}: {error.message}"
    except (ValueError, TypeError, InvalidOperation):
        why = "it is damaged"
    raise ConfigError(
        f"the choices of the page in {path} cannot be read ({why}): mend the file, or remove it "
        "and choose again",
        field="settings.toml",
    )


def _read(tables: Mapping[str, Any]) -> Choices:
    found: dict[str, Any] = {}
    for choice, place in _NAMES.items():
        value: Any = tables
        for name in place:
            if not isinstance(value, Mapping):
                raise TypeError
            value = value.get(name, {})
        if value != {}:
            found[choice] = str(value)
    for name in ("day_usd", "month_usd"):
        if name in found:
            found[name] = NO_LIMIT if found[name] == "none" else Decimal(found[name])
    if "preset" in found:
        found["preset"] = Preset(found["preset"])
    return Choices(**found)


def keep_choices(choices: Choices, path: Path | None = None) -> None:
    """Keep them, whole or not at all. Raises `ConfigError`."""
    path = path or choices_path()
    tables: dict[str, list[str]] = {}
    for choice, (*table, name) in _NAMES.items():
        value = getattr(choices, choice)
        if value is not None:
            told = "none" if value == NO_LIMIT else str(value)
            tables.setdefault(".".join(table), []).append(f'{name} = "{told}"')
    lines = ["# Chosen on the page; over the settings file, under the environment."]
    for title, values in tables.items():
        lines += ["", f"[{title}]", *values]
    try:
        write_whole(path, ("\n".join(lines) + "\n").encode())
    except OSError as error:
        raise ConfigError(
            f"cannot keep what was chosen in {path} ({error.strerror}): make its folder writable, "
            "or set ISTHMUS_HOME to another",
            field="ISTHMUS_HOME",
        ) from None

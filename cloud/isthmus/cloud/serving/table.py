"""What the tables of `[serving]` are made of: settings that name the argument they become."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict


@dataclass(frozen=True, slots=True)
class Argument:
    """The engine argument that a setting becomes, as `Annotated` carries it."""

    name: str
    """A field of `AsyncEngineArgs`; `*`: the setting is a table of such fields."""
    key: str = ""
    """Where in that argument, which is a table itself; `*`: the setting is a table of keys."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting that was given."""

    path: str
    """Its name in the file, `serving.kv_cache.dtype`."""
    argument: Argument
    value: Any


class Table(BaseModel):
    """A frozen table that takes no key it does not know and quotes no value in its errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def settings(table: Table, path: str = "serving") -> Iterator[Setting]:
    """Every setting that was given in `table` and in those below it, in the order of their kind."""
    for name, field in type(table).model_fields.items():
        value, here = getattr(table, name), f"{path}.{name}"
        if isinstance(value, Table):
            yield from settings(value, here)
            continue
        argument = next((one for one in field.metadata if isinstance(one, Argument)), None)
        if argument is None or value is None or value == {}:
            continue
        if argument.name == "*":
            yield from (Setting(f"{here}.{key}", Argument(key), one) for key, one in value.items())
        elif argument.key == "*":
            yield from (
                Setting(f"{here}.{key}", Argument(argument.name, key), one)
                for key, one in value.items()
            )
        else:
            yield Setting(here, argument, value)

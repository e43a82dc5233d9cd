"""What is wrong with settings, told by their names, with the nearest name of a misspelt one.

A value is never shown: it may be a secret. Of a misspelt choice only its nearest one is.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
from collections.abc import Collection, Iterable, Sequence
from typing import Annotated, Any, Final, Union, get_args, get_origin, get_type_hints

from pydantic import ValidationError
from pydantic_core import ErrorDetails

_UNKNOWN: Final = frozenset({"extra_forbidden", "unexpected_keyword_argument"})
_CHOICES: Final = frozenset({"literal_error", "enum"})


def wrong_settings(error: ValidationError, settings: Any) -> list[tuple[str, str]]:
    """Each wrong setting of `settings` (a model, or a container of them) and what is wrong."""
    return [_told(one, settings) for one in error.errors(include_url=False)]


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'that'?` where one of `known` is near; else nothing."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _told(error: ErrorDetails, settings: Any) -> tuple[str, str]:
    place = [str(part) for part in error["loc"]]
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] in _UNKNOWN:
        message = "is no setting" + nearest(place[-1], _names(settings, place[:-1]))
    elif error["type"] in _CHOICES:
        choices = re.findall(r"'([^']*)'", error.get("ctx", {}).get("expected", ""))
        message += nearest(str(error["input"]), choices)
    return ".".join(place), message


def _names(settings: Any, tables: Sequence[str]) -> Collection[str]:
    """The settings of a table; none where it has no fixed ones."""
    for table in tables:
        settings = _entry(settings, table)
    kind = _bare(settings)
    if dataclasses.is_dataclass(kind):
        return [field.name for field in dataclasses.fields(kind)]
    fields = getattr(kind, "model_fields", {})
    return [field.alias or name for name, field in fields.items()]


def _entry(settings: Any, name: str) -> Any:
    """The type of what has this name, or this place, in a table, a list or a mapping."""
    kind = _bare(settings)
    if dataclasses.is_dataclass(kind):
        return get_type_hints(kind).get(name)
    if (fields := getattr(kind, "model_fields", None)) is not None:
        return fields[name].annotation if name in fields else None
    inside = [one for one in get_args(kind) if one is not Ellipsis]
    return inside[-1] if inside else None


def _bare(kind: Any) -> Any:
    """Without `Annotated[…]` and `… | None`."""
    while (origin := get_origin(kind)) in {Annotated, Union, types.UnionType}:
        args = get_args(kind)
        kind = args[0] if origin is Annotated else next(a for a in args if a is not type(None))
    return kind

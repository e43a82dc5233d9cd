"""JSON schemas of requests: made ready for a grammar, and what is wrong with one put into words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from isthmus.core.errors import InvalidRequest, IsthmusError, NotSupported

_MAPS: Final = ("properties", "$defs", "definitions")
_LISTS: Final = ("anyOf", "oneOf", "prefixItems")
_ONES: Final = ("items", "additionalProperties")
"""Keywords that hold schemas: by name, in a list, or one."""
_JOINING: Final = frozenset(
    {"allOf", "not", "if", "dependentSchemas", "patternProperties", "unevaluatedProperties"}
)
_CHOOSING: Final = frozenset({"$ref", "anyOf", "oneOf"})


def narrowed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """`schema` without properties that it does not name, unless it says that it wants them.

    What fits the narrower one fits the original. Small models invent properties without end where
    they may. A schema that puts an object together from several is left as it is.
    """
    return dict(schema) if any(map(_joins, _mappings(schema))) else _closed(schema)


def arguments_schema(parameters: Mapping[str, Any], field: str) -> dict[str, Any]:
    """The schema of a call's arguments: an object's, and no argument where none is described.

    Raises `InvalidRequest` for a schema of something else.
    """
    if not parameters:
        return {"type": "object", "properties": {}, "additionalProperties": False}
    kind = parameters.get("type", "object")
    if "object" not in (kind if isinstance(kind, list) else [kind]):
        raise InvalidRequest("must describe an object: a tool's arguments have names", field=field)
    return narrowed({**parameters, "type": "object"})


def schema_error(message: str, field: str) -> IsthmusError:
    """Our error for llguidance's `message`, whose words may quote the schema and are not repeated.

    What JSON Schema allows and a grammar cannot hold is `NotSupported`: another tier may.
    """
    keywords = re.search(r"Unimplemented keys: \[([^\]]*)\]", message)
    if keywords:
        return NotSupported(
            f"the schema uses {keywords[1]}, which the device cannot hold an answer to; "
            "leave it out",
            field=field,
        )
    for sign, told in _NOT_SUPPORTED.items():
        if sign in message:
            return NotSupported(f"the schema {told}", field=field)
    told = next((told for sign, told in _INVALID.items() if sign in message), "is not valid")
    return InvalidRequest(f"the JSON schema {told}", field=field)


_NOT_SUPPORTED: Final = {
    "oneOf constraints": "has alternatives in 'oneOf' that overlap; use 'anyOf'",
    "look-around": "has a pattern with look-around, which is not supported",
    "backreferences": "has a pattern with backreferences, which are not supported",
    "Unknown format": "has a 'format' that is not supported; leave it out or use 'pattern'",
    "too large": "is too large for the device",
    "limit": "is too complex for the device",
}
_INVALID: Final = {
    "Unsatisfiable": "cannot be met by any value",
    "regex parse error": "has a pattern that is not a regular expression",
    "Resource ": "has a '$ref' that leads out of it",
    "Pointer ": "has a '$ref' that leads nowhere",
    "Invalid type": "has a 'type' that JSON does not have",
}


def _closed(schema: Any) -> Any:
    if not isinstance(schema, Mapping):
        return schema
    out = dict(schema)
    for key in _MAPS:
        if isinstance(schemas := out.get(key), Mapping):
            out[key] = {name: _closed(one) for name, one in schemas.items()}
    for key in _LISTS:
        if isinstance(schemas := out.get(key), list):
            out[key] = [_closed(one) for one in schemas]
    for key in _ONES:
        if key in out:
            out[key] = _closed(out[key])
    named, required = out.get("properties"), out.get("required", [])
    if isinstance(named, Mapping) and isinstance(required, list) and named.keys() >= {*required}:
        out.setdefault("additionalProperties", False)
    return out


def _joins(schema: Mapping[str, Any]) -> bool:
    return not _JOINING.isdisjoint(schema) or (
        "properties" in schema and not _CHOOSING.isdisjoint(schema)
    )


def _mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    """Every mapping in `value` (JSON's types), whether it is a schema or not."""
    pending = [value]
    while pending:
        one = pending.pop()
        if isinstance(one, Mapping):
            yield one
            pending += one.values()
        elif isinstance(one, list | tuple):
            pending += one

"""The forms of JSON Schema and of OpenAPI operations that the agent's page is made of."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

STRING: Schema = {"type": "string"}
TEXT: Schema = {"type": "string", "minLength": 1}
INTEGER: Schema = {"type": "integer"}
FLAG: Schema = {"type": "boolean"}
ARRAY: Schema = {"type": "array"}
JSON_OBJECT: Schema = {"type": "object"}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def or_null(schema: Schema) -> Schema:
    """Null counts as left out."""
    return {"anyOf": [schema, {"type": "null"}]}


def one_of(*words: str) -> Schema:
    return {"type": "string", "enum": list(words)}


def number(low: float, high: float) -> Schema:
    return {"type": "number", "minimum": low, "maximum": high}


def integer(low: int, high: int) -> Schema:
    return {"type": "integer", "minimum": low, "maximum": high}


def array(items: Schema, *, least: int = 0, most: int | None = None) -> Schema:
    limits = {"minItems": least} | ({} if most is None else {"maxItems": most})
    return {"type": "array", "items": items} | limits


def record(**members: Schema) -> Schema:
    """An answer's object: all of these, and others."""
    return {"type": "object", "properties": members, "required": list(members)}


def strict(needed: dict[str, Schema], optional: dict[str, Schema]) -> Schema:
    """A request's object: nothing but these; an optional one may be null."""
    return {
        "type": "object",
        "properties": needed | {name: or_null(schema) for name, schema in optional.items()},
        "required": list(needed),
        "additionalProperties": False,
    }


def operation(
    told: str,
    gives: Schema,
    *,
    takes: Schema | None = None,
    path: str | None = None,
    query: dict[str, Schema] | None = None,
    kind: str = "application/json",
    status: str = "200",
    unready: Schema | None = None,
) -> dict[str, Any]:
    """What one method of a path takes and gives.

    `path`, `query`: its parameters; `unready`: what a 503 holds, where that is not an error.
    """

    def form(description: str, schema: Schema, kind: str = "application/json") -> dict[str, Any]:
        return {"description": description, "content": {kind: {"schema": schema}}}

    parameters = [
        {"name": name, "in": "query", "required": False, "schema": schema}
        for name, schema in (query or {}).items()
    ]
    if path is not None:
        parameters.insert(0, {"name": path, "in": "path", "required": True, "schema": TEXT})
    body = {"required": True, "content": {"application/json": {"schema": takes}}}
    return {
        "summary": told,
        "parameters": parameters,
        **({} if takes is None else {"requestBody": body}),
        "responses": {
            status: form(told, gives, kind),
            "4XX": form("Refused; the error names the field to change", ref("Error")),
            "503": form(
                "Not now: nothing can answer, the agent stops, or the request's own deadline has "
                "passed (`deadline_exceeded`)",
                unready or ref("Error"),
            ),
        },
    }

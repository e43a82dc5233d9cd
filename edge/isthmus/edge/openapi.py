"""`GET /openapi.json`: what the agent's HTTP API takes and gives, for clients and generators.

Names and limits are those of the parser (`openai_api`, `openai_messages`, `fields`), which stays
the judge: what two fields must have in common (the tool that is named has to be there) is an error
that this page cannot tell beforehand. Source of the form: the OpenAPI Specification 3.1.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from isthmus.core.chat import ResponseKind, Role, RouteMode
from isthmus.edge.feedback import RATINGS
from isthmus.edge.openai_api import IGNORED, MAX_STOPS, MAX_TOKENS, MODELS
from isthmus.edge.openai_messages import MAX_MESSAGES

Schema = dict[str, Any]


def openapi() -> dict[str, Any]:
    """The whole page."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Isthmus edge agent",
            "version": version("isthmus"),
            "description": "OpenAI's chat completions, answered on the device or in the cloud.",
        },
        "paths": {
            "/v1/chat/completions": {"post": _chat()},
            "/v1/isthmus/preview": {"post": _preview()},
            "/v1/isthmus/receipts/{request_id}": {
                "get": _get("The signed receipt of an answer", _JSON_OBJECT, path="request_id")
            },
            "/v1/feedback": {"post": _feedback()},
            "/v1/models": {"get": _get("The models", _object(object=_STRING, data=_ARRAY))},
            "/v1/models/{model}": {"get": _get("One model", _ref("Model"), path="model")},
            "/metrics": {"get": _get("Prometheus's text format", _STRING, kind="text/plain")},
            "/healthz": {"get": _get("The process answers", _object(status=_STRING))},
            "/readyz": {
                "get": _get(
                    "The device's model is loaded; 503 while it is not",
                    _object(status=_STRING),
                    unready=_object(status=_STRING),
                )
            },
            "/openapi.json": {"get": _get("This page", _JSON_OBJECT)},
        },
        "components": {
            "schemas": {
                "ChatRequest": _chat_request(),
                "Message": _message(),
                "ContentPart": _content_part(),
                "Tool": _tool(),
                "Wishes": _wishes(),
                "Model": _object(id=_STRING, object=_STRING, created=_INTEGER, owned_by=_STRING),
                "Error": _object(
                    error=_object(
                        message=_STRING,
                        type=_STRING,
                        param=_or_null(_STRING),
                        code=_or_null(_STRING),
                    )
                ),
            },
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


_STRING: Schema = {"type": "string"}
_TEXT: Schema = {"type": "string", "minLength": 1}
_INTEGER: Schema = {"type": "integer"}
_FLAG: Schema = {"type": "boolean"}
_ARRAY: Schema = {"type": "array"}
_JSON_OBJECT: Schema = {"type": "object"}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _or_null(schema: Schema) -> Schema:
    """Null counts as left out."""
    return {"anyOf": [schema, {"type": "null"}]}


def _one_of(*words: str) -> Schema:
    return {"type": "string", "enum": list(words)}


def _number(low: float, high: float) -> Schema:
    return {"type": "number", "minimum": low, "maximum": high}


def _integer(low: int, high: int) -> Schema:
    return {"type": "integer", "minimum": low, "maximum": high}


def _array(items: Schema, *, least: int = 0, most: int | None = None) -> Schema:
    limits = {"minItems": least} | ({} if most is None else {"maxItems": most})
    return {"type": "array", "items": items} | limits


def _object(**members: Schema) -> Schema:
    """An answer's object: all of these, and others."""
    return {"type": "object", "properties": members, "required": list(members)}


def _strict(needed: dict[str, Schema], optional: dict[str, Schema]) -> Schema:
    """A request's object: nothing but these; an optional one may be null."""
    return {
        "type": "object",
        "properties": needed | {name: _or_null(schema) for name, schema in optional.items()},
        "required": list(needed),
        "additionalProperties": False,
    }


def _responses(
    told: str,
    schema: Schema,
    kind: str = "application/json",
    unready: Schema | None = None,
) -> dict[str, Any]:
    """An operation's answers; `unready` is what a 503 holds, where that is not an error."""

    def form(description: str, schema: Schema, kind: str = "application/json") -> dict[str, Any]:
        return {"description": description, "content": {kind: {"schema": schema}}}

    return {
        "200": form(told, schema, kind),
        "4XX": form("Refused; the error names the field to change", _ref("Error")),
        "503": form(
            "Not now: nothing can answer, the agent stops, or the request's own deadline has "
            "passed (`deadline_exceeded`)",
            unready or _ref("Error"),
        ),
    }


def _get(
    told: str,
    schema: Schema,
    *,
    path: str | None = None,
    kind: str = "application/json",
    unready: Schema | None = None,
) -> dict[str, Any]:
    parameter = {"name": path, "in": "path", "required": True, "schema": _TEXT}
    return {
        "summary": told,
        "responses": _responses(told, schema, kind, unready),
        "parameters": [] if path is None else [parameter],
    }


def _post(told: str, takes: Schema, gives: Schema) -> dict[str, Any]:
    return {
        "summary": told,
        "requestBody": {"required": True, "content": {"application/json": {"schema": takes}}},
        "responses": _responses(told, gives),
    }


def _chat() -> dict[str, Any]:
    answer = _object(
        id=_STRING, object=_STRING, created=_INTEGER, model=_STRING, choices=_ARRAY, usage={}
    )
    operation = _post("OpenAI's chat completions", _ref("ChatRequest"), answer)
    operation["responses"]["200"]["content"]["text/event-stream"] = {
        "schema": _object(data=_STRING)
    }
    return operation


def _preview() -> dict[str, Any]:
    shown = _object(object=_STRING, consent=_FLAG, privacy_class=_STRING, bytes=_INTEGER)
    return _post("What would leave the device for a request", _ref("ChatRequest"), shown)


def _feedback() -> dict[str, Any]:
    takes = _strict({"request_id": _TEXT, "rating": _one_of(*RATINGS)}, {})
    return _post("Whether an answer was good", takes, _object(object=_STRING, target=_STRING))


def _chat_request() -> Schema:
    penalty = _number(-2, 2)
    understood = {
        "model": _one_of(*MODELS),
        "stream": _FLAG,
        "stream_options": _strict({}, {"include_usage": _FLAG, "include_obfuscation": _FLAG}),
        "max_tokens": _integer(1, MAX_TOKENS),
        "max_completion_tokens": _integer(1, MAX_TOKENS),
        "temperature": _number(0, 2),
        "top_p": _number(0, 1),
        "top_k": _integer(-1, 1 << 20),
        "min_p": _number(0, 1),
        "repetition_penalty": _number(0.01, 10),
        "presence_penalty": penalty,
        "frequency_penalty": penalty,
        "seed": _integer(-(1 << 63), (1 << 63) - 1),
        "stop": {"anyOf": [_TEXT, _array(_TEXT, most=MAX_STOPS)]},
        "ignore_eos": _FLAG,
        "logprobs": _FLAG,
        "top_logprobs": _integer(0, 20),
        "n": _integer(1, 1),
        "tools": _array(_ref("Tool")),
        "tool_choice": {
            "anyOf": [
                _one_of("auto", "none", "required"),
                _strict({"type": _one_of("function"), "function": _object(name=_STRING)}, {}),
            ]
        },
        "parallel_tool_calls": _FLAG,
        "response_format": _response_format(),
        "isthmus": _ref("Wishes"),
        "modalities": _array(_one_of("text"), least=1, most=1),
        "service_tier": {},
    }
    ignored: dict[str, Schema] = {name: {} for name in sorted(IGNORED)}
    messages = _array(_ref("Message"), least=1, most=MAX_MESSAGES)
    return _strict({"messages": messages}, understood | ignored)


def _response_format() -> Schema:
    form = _strict(
        {"name": _STRING, "schema": _JSON_OBJECT}, {"description": _STRING, "strict": _FLAG}
    )
    free = _one_of(ResponseKind.TEXT.value, ResponseKind.JSON_OBJECT.value)
    schema = _one_of(ResponseKind.JSON_SCHEMA.value)
    return {
        "anyOf": [_strict({"type": free}, {}), _strict({"type": schema, "json_schema": form}, {})]
    }


def _message() -> Schema:
    content = {"anyOf": [_STRING, _array(_ref("ContentPart"), least=1)]}
    call = _object(id=_STRING, function=_object(name=_STRING, arguments=_STRING))
    echoed = ("refusal", "audio", "annotations", "function_call", "reasoning", "reasoning_content")
    named = {"name": _STRING}
    plain = _one_of(*(r.value for r in Role if r not in {Role.ASSISTANT, Role.TOOL}))
    assistant = _one_of(Role.ASSISTANT.value)
    more = named | {name: {} for name in echoed}
    return {
        "anyOf": [
            _strict({"role": plain, "content": content}, named),
            _strict({"role": assistant, "content": content}, more | {"tool_calls": _array(call)}),
            _strict({"role": assistant, "tool_calls": _array(call, least=1)}, more),
            _strict(
                {"role": _one_of(Role.TOOL.value), "content": content, "tool_call_id": _STRING},
                named,
            ),
        ]
    }


def _content_part() -> Schema:
    url = {"type": "string", "pattern": "^(https://|data:image/)"}
    image = _object(url=url) | {"description": "May have a detail: low, high or auto"}
    return {
        "anyOf": [
            _object(type=_one_of("text"), text=_STRING),
            _object(type=_one_of("image_url"), image_url=image),
        ]
    }


def _tool() -> Schema:
    function = _strict(
        {"name": _STRING}, {"description": _STRING, "parameters": _JSON_OBJECT, "strict": _FLAG}
    )
    return _strict({"type": _one_of("function"), "function": function}, {})


def _wishes() -> Schema:
    large = 1e9
    return _strict(
        {},
        {
            "route": _one_of(*(mode.value for mode in RouteMode)),
            "ttft_slo_ms": _number(0, large),
            "max_price_usd": _number(0, large),
            "conversation": {"type": "string", "minLength": 1, "maxLength": 256},
            "deadline_ms": _number(1, large),
            "privacy": {"anyOf": [_STRING, {"type": "object", "additionalProperties": _STRING}]},
        },
    )

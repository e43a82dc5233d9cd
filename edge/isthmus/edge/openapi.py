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
from isthmus.edge.openapi_forms import (
    ARRAY,
    FLAG,
    INTEGER,
    JSON_OBJECT,
    STRING,
    TEXT,
    Schema,
    array,
    integer,
    number,
    one_of,
    operation,
    or_null,
    record,
    ref,
    strict,
)
from isthmus.edge.page.openapi import page_paths, page_schemas


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
                "get": operation("The signed receipt of an answer", JSON_OBJECT, path="request_id")
            },
            "/v1/feedback": {"post": _feedback()},
            "/v1/models": {"get": operation("The models", record(object=STRING, data=ARRAY))},
            "/v1/models/{model}": {"get": operation("One model", ref("Model"), path="model")},
            "/metrics": {"get": operation("Prometheus's text format", STRING, kind="text/plain")},
            "/healthz": {"get": operation("The process answers", record(status=STRING))},
            "/readyz": {
                "get": operation(
                    "The device's model is loaded; 503 while it is not",
                    record(status=STRING),
                    unready=record(status=STRING),
                )
            },
            **page_paths(),
            "/openapi.json": {"get": operation("This page", JSON_OBJECT)},
        },
        "components": {
            "schemas": {
                "ChatRequest": _chat_request(),
                "Message": _message(),
                "ContentPart": _content_part(),
                "Tool": _tool(),
                "Wishes": _wishes(),
                **page_schemas(),
                "Model": record(id=STRING, object=STRING, created=INTEGER, owned_by=STRING),
                "Error": record(
                    error=record(
                        message=STRING,
                        type=STRING,
                        param=or_null(STRING),
                        code=or_null(STRING),
                    )
                ),
            },
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _chat() -> dict[str, Any]:
    answer = record(
        id=STRING, object=STRING, created=INTEGER, model=STRING, choices=ARRAY, usage={}
    )
    found = operation("OpenAI's chat completions", answer, takes=ref("ChatRequest"))
    found["responses"]["200"]["content"]["text/event-stream"] = {"schema": record(data=STRING)}
    return found


def _preview() -> dict[str, Any]:
    shown = record(object=STRING, consent=FLAG, privacy_class=STRING, bytes=INTEGER)
    return operation("What would leave the device for a request", shown, takes=ref("ChatRequest"))


def _feedback() -> dict[str, Any]:
    takes = strict({"request_id": TEXT, "rating": one_of(*RATINGS)}, {})
    return operation(
        "Whether an answer was good", record(object=STRING, target=STRING), takes=takes
    )


def _chat_request() -> Schema:
    penalty = number(-2, 2)
    understood = {
        "model": one_of(*MODELS),
        "stream": FLAG,
        "stream_options": strict({}, {"include_usage": FLAG, "include_obfuscation": FLAG}),
        "max_tokens": integer(1, MAX_TOKENS),
        "max_completion_tokens": integer(1, MAX_TOKENS),
        "temperature": number(0, 2),
        "top_p": number(0, 1),
        "top_k": integer(-1, 1 << 20),
        "min_p": number(0, 1),
        "repetition_penalty": number(0.01, 10),
        "presence_penalty": penalty,
        "frequency_penalty": penalty,
        "seed": integer(-(1 << 63), (1 << 63) - 1),
        "stop": {"anyOf": [TEXT, array(TEXT, most=MAX_STOPS)]},
        "ignore_eos": FLAG,
        "logprobs": FLAG,
        "top_logprobs": integer(0, 20),
        "n": integer(1, 1),
        "tools": array(ref("Tool")),
        "tool_choice": {
            "anyOf": [
                one_of("auto", "none", "required"),
                strict({"type": one_of("function"), "function": record(name=STRING)}, {}),
            ]
        },
        "parallel_tool_calls": FLAG,
        "response_format": _response_format(),
        "isthmus": ref("Wishes"),
        "modalities": array(one_of("text"), least=1, most=1),
        "service_tier": {},
    }
    ignored: dict[str, Schema] = {name: {} for name in sorted(IGNORED)}
    messages = array(ref("Message"), least=1, most=MAX_MESSAGES)
    return strict({"messages": messages}, understood | ignored)


def _response_format() -> Schema:
    form = strict({"name": STRING, "schema": JSON_OBJECT}, {"description": STRING, "strict": FLAG})
    free = one_of(ResponseKind.TEXT.value, ResponseKind.JSON_OBJECT.value)
    schema = one_of(ResponseKind.JSON_SCHEMA.value)
    return {
        "anyOf": [strict({"type": free}, {}), strict({"type": schema, "json_schema": form}, {})]
    }


def _message() -> Schema:
    content = {"anyOf": [STRING, array(ref("ContentPart"), least=1)]}
    call = record(id=STRING, function=record(name=STRING, arguments=STRING))
    echoed = ("refusal", "audio", "annotations", "function_call", "reasoning", "reasoning_content")
    named = {"name": STRING}
    plain = one_of(*(r.value for r in Role if r not in {Role.ASSISTANT, Role.TOOL}))
    assistant = one_of(Role.ASSISTANT.value)
    more = named | {name: {} for name in echoed}
    return {
        "anyOf": [
            strict({"role": plain, "content": content}, named),
            strict({"role": assistant, "content": content}, more | {"tool_calls": array(call)}),
            strict({"role": assistant, "tool_calls": array(call, least=1)}, more),
            strict(
                {"role": one_of(Role.TOOL.value), "content": content, "tool_call_id": STRING},
                named,
            ),
        ]
    }


def _content_part() -> Schema:
    url = {"type": "string", "pattern": "^(https://|data:image/)"}
    image = record(url=url) | {"description": "May have a detail: low, high or auto"}
    return {
        "anyOf": [
            record(type=one_of("text"), text=STRING),
            record(type=one_of("image_url"), image_url=image),
        ]
    }


def _tool() -> Schema:
    function = strict(
        {"name": STRING}, {"description": STRING, "parameters": JSON_OBJECT, "strict": FLAG}
    )
    return strict({"type": one_of("function"), "function": function}, {})


def _wishes() -> Schema:
    large = 1e9
    return strict(
        {},
        {
            "route": one_of(*(mode.value for mode in RouteMode)),
            "ttft_slo_ms": number(0, large),
            "max_price_usd": number(0, large),
            "conversation": {"type": "string", "minLength": 1, "maxLength": 256},
            "deadline_ms": number(1, large),
            "privacy": {"anyOf": [STRING, {"type": "object", "additionalProperties": STRING}]},
        },
    )

"""OpenAI's chat-completions request, read by hand so that every error names the exact field.

Source: the OpenAI API reference, "Create chat completion", with vLLM's extra sampling fields and
an `isthmus` object. Three kinds of fields: those that are understood; those of OpenAI's that do
not change the answer, which are ignored; all others, which are refused by name.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from isthmus.core.chat import (
    ChatRequest,
    Priority,
    ResponseFormat,
    ResponseKind,
    RouteMode,
    RoutePreference,
    Sampling,
)
from isthmus.core.deadline import Deadline
from isthmus.core.errors import InvalidRequest
from isthmus.edge.fields import Field
from isthmus.edge.openai_messages import parse_messages, parse_tool_choice, parse_tools

MODELS = {
    "isthmus": RouteMode.AUTO,
    "isthmus-edge": RouteMode.ONLY_ON_DEVICE,
    "isthmus-cloud": RouteMode.ONLY_IN_CLOUD,
}
"""The models that the agent offers, and the route that each one means."""

UNDERSTOOD = frozenset(
    {
        "messages",
        "model",
        "stream",
        "stream_options",
        "max_tokens",
        "max_completion_tokens",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "repetition_penalty",
        "presence_penalty",
        "frequency_penalty",
        "seed",
        "stop",
        "ignore_eos",
        "logprobs",
        "top_logprobs",
        "n",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "response_format",
        "isthmus",
        "modalities",
        "service_tier",
    }
)
IGNORED = frozenset(
    {
        "user",
        "metadata",
        "store",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "prompt_cache_options",
        "prediction",
        "reasoning_effort",
        "verbosity",
    }
)
"""Hints and bookkeeping of OpenAI's own service."""
REFUSED = {
    "logit_bias": "is not supported; leave it out",
    "audio": "is not supported: Isthmus answers in text",
    "functions": "is OpenAI's old form; use 'tools'",
    "function_call": "is OpenAI's old form; use 'tool_choice'",
    "web_search_options": "is not supported: Isthmus does not search the web",
}

MAX_TOKENS = 1 << 24
MAX_STOPS = 16
_LEAST_TOP_P = 1e-6
"""What OpenAI's 0 means to samplers that want a mass above zero: the best token alone."""


class UnknownModelName(InvalidRequest):
    """The request names a model that the agent does not offer."""

    kind = "model_not_found"


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """A request with what concerns only the form of its HTTP answer."""

    chat: ChatRequest
    stream: bool
    include_usage: bool


def parse_chat_request(body: Any, *, default_deadline_s: float | None = None) -> ParsedRequest:
    """The decoded body as a request. Raises `InvalidRequest`, whose `field` is OpenAI's `param`."""
    root = Field(body).object()
    _check_names(root)
    model, preference = _route(root)
    tools = parse_tools(root.get("tools"))
    tool_choice, tool_name = parse_tool_choice(root.get("tool_choice"), tools)
    stream = root.get("stream")
    streams = stream.given and stream.flag()
    include_usage = _include_usage(root.get("stream_options"))
    deadline_ms = _deadline_ms(root)
    chat = ChatRequest(
        request_id=uuid.uuid4().hex,
        messages=parse_messages(root.need("messages")),
        model=model,
        sampling=_sampling(root),
        max_tokens=_max_tokens(root),
        tools=tools,
        tool_choice=tool_choice,
        tool_name=tool_name,
        parallel_tool_calls=root.get("parallel_tool_calls").optional_flag(),
        response_format=_response_format(root.get("response_format")),
        deadline=Deadline.after(
            default_deadline_s if deadline_ms is None else deadline_ms / 1000.0
        ),
        preference=preference,
        priority=_priority(root, streams=streams),
    )
    return ParsedRequest(
        chat=chat,
        stream=streams,
        include_usage=include_usage,
    )


def _check_names(root: Field) -> None:
    for name, why in REFUSED.items():
        field = root.get(name)
        if field.value not in (None, {}, []):
            field.fail(why)
    root.only(*UNDERSTOOD, *IGNORED, *REFUSED)
    n, modalities = root.get("n"), root.get("modalities")
    if n.given and n.integer(1, 128) != 1:
        n.fail("must be 1: Isthmus gives one answer for a request")
    if modalities.given and [m.text() for m in modalities.array()] != ["text"]:
        modalities.fail('must be ["text"]: Isthmus answers in text')


def _route(root: Field) -> tuple[str, RoutePreference]:
    model = root.get("model")
    name = model.text() if model.given else "isthmus"
    if name not in MODELS:
        raise UnknownModelName(
            f"there is no such model here; the models are: {', '.join(MODELS)} (GET /v1/models)",
            field="model",
        )
    mode = MODELS[name]
    wishes = root.get("isthmus")
    if not wishes.given:
        return name, RoutePreference(mode=mode)
    wishes.object().only(
        "route", "ttft_slo_ms", "max_price_usd", "conversation", "deadline_ms", "privacy"
    )
    route = wishes.get("route")
    if route.given:
        asked = RouteMode(route.choice(*RouteMode))
        if mode is not RouteMode.AUTO and asked not in {RouteMode.AUTO, mode}:
            route.fail(f"contradicts the model '{name}', which means '{mode}'; use model 'isthmus'")
        mode = asked if mode is RouteMode.AUTO else mode
    slo, price = wishes.get("ttft_slo_ms"), wishes.get("max_price_usd")
    conversation = wishes.get("conversation")
    if conversation.given and not 0 < len(conversation.text()) <= 256:
        conversation.fail("must have 1 to 256 characters")
    return name, RoutePreference(
        mode=mode,
        ttft_slo_ms=slo.number(0, 1e9) if slo.given else None,
        max_price_usd=price.number(0, 1e9) if price.given else None,
        conversation=conversation.text() if conversation.given else None,
        privacy=_privacy(wishes.get("privacy")),
    )


def _privacy(field: Field) -> dict[str, str]:
    """A preset, or an object with an action for each label; the settings say what is too loose."""
    if not field.given:
        return {}
    if isinstance(field.value, str):
        return {"preset": field.text()}
    names = list(field.object().value)
    if not all(name.isidentifier() and len(name) <= 64 for name in names):
        field.fail("holds a name that is no label")  # the caller's own text: not shown
    return {name: field.get(name).text() for name in names}


def _deadline_ms(root: Field) -> float | None:
    wishes = root.get("isthmus")
    if not wishes.given:
        return None
    deadline = wishes.get("deadline_ms")
    return deadline.number(1, 1e9) if deadline.given else None


def _priority(root: Field, *, streams: bool) -> Priority:
    """How urgent it is in the cloud: by OpenAI's tiers, else by whether somebody watches."""
    match root.get("service_tier").value:
        case "flex":
            return Priority.BATCH
        case "priority":
            return Priority.INTERACTIVE
        case _:  # a hint, and OpenAI's own tiers change: never an error
            return Priority.INTERACTIVE if streams else Priority.NORMAL


def _response_format(field: Field) -> ResponseFormat:
    if not field.given:
        return ResponseFormat()
    kind = ResponseKind(field.object().need("type").choice(*ResponseKind))
    if kind is not ResponseKind.JSON_SCHEMA:
        # Other servers take a schema beside any type: dropped, the answer would not follow it.
        field.only("type")
        return ResponseFormat(kind=kind)
    field.only("type", "json_schema")
    form = field.need("json_schema").object()
    form.only("name", "description", "schema", "strict")
    strict = form.get("strict")
    return ResponseFormat(
        kind=kind,
        name=form.need("name").text(),
        schema=form.need("schema").free_object(),
        strict=strict.given and strict.flag(),
    )


def _sampling(root: Field) -> Sampling:
    def number(name: str, default: float, low: float, high: float) -> float:
        field = root.get(name)
        return field.number(low, high) if field.given else default

    top_k, seed, ignore_eos = root.get("top_k"), root.get("seed"), root.get("ignore_eos")
    return Sampling(
        temperature=number("temperature", 1.0, 0, 2),
        top_p=max(_LEAST_TOP_P, number("top_p", 1.0, 0, 1)),
        # -1 is how vLLM's clients say "all of them".
        top_k=max(0, top_k.integer(-1, 1 << 20)) if top_k.given else 0,
        min_p=number("min_p", 0.0, 0, 1),
        repetition_penalty=number("repetition_penalty", 1.0, 0.01, 10),
        presence_penalty=number("presence_penalty", 0.0, -2, 2),
        frequency_penalty=number("frequency_penalty", 0.0, -2, 2),
        seed=seed.integer(-(1 << 63), (1 << 63) - 1) if seed.given else None,
        stop=_stop(root.get("stop")),
        ignore_eos=ignore_eos.given and ignore_eos.flag(),
        top_logprobs=_top_logprobs(root),
    )


def _stop(field: Field) -> tuple[str, ...]:
    if not field.given:
        return ()
    if isinstance(field.value, str):
        stops = [field]
    elif isinstance(field.value, list):
        stops = list(field.array())
    else:
        field.fail("must be a string or an array of strings")
    if len(stops) > MAX_STOPS:
        field.fail(f"holds more than {MAX_STOPS} strings")
    for stop in stops:
        if not stop.text():
            stop.fail("must not be empty")
    return tuple(stop.text() for stop in stops)


def _top_logprobs(root: Field) -> int | None:
    wanted, top = root.get("logprobs"), root.get("top_logprobs")
    on = wanted.given and wanted.flag()
    if top.given:
        count = top.integer(0, 20)
        if count and not on:
            top.fail("needs 'logprobs' to be true")
        return count if on else None
    return 0 if on else None


def _max_tokens(root: Field) -> int | None:
    old, new = root.get("max_tokens"), root.get("max_completion_tokens")
    values = [field.integer(1, MAX_TOKENS) for field in (new, old) if field.given]
    if len(set(values)) > 1:
        old.fail("differs from 'max_completion_tokens'; give one of the two")
    return values[0] if values else None


def _include_usage(field: Field) -> bool:
    if not field.given:
        return False
    field.object().only("include_usage", "include_obfuscation")
    usage = field.get("include_usage")
    return usage.given and usage.flag()

"""Chat requests on the wire."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from decimal import Decimal
from hashlib import sha256
from typing import Any, Final

from google.protobuf.json_format import MessageToDict

from isthmus.core import chat
from isthmus.core.deadline import Deadline
from isthmus.core.errors import InvalidRequest
from isthmus.core.money import MICRO_USD_PER_USD
from isthmus.core.wire import enums
from isthmus.v1 import chat_pb2, gateway_pb2

_MAX_DEADLINE_MS: Final = 2**53
_UINT32: Final = (0, 2**32 - 1)
_INT64: Final = (-(2**63), 2**63 - 1)


def request_to_wire(request: chat.ChatRequest) -> gateway_pb2.GenerateRequest:
    """The message for `request`; what is left of its deadline is taken now.

    Raises `InvalidRequest` for what no message can hold (a lone surrogate, a seed over 64 bits).
    """
    sampling, form = request.sampling, request.response_format
    try:
        wire = gateway_pb2.GenerateRequest(
            request_id=request.request_id,
            model=request.model,
            messages=[_message_to_wire(message) for message in request.messages],
            sampling=chat_pb2.Sampling(
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                top_k=_within(sampling.top_k, _UINT32, "top_k"),
                min_p=sampling.min_p,
                repetition_penalty=sampling.repetition_penalty,
                presence_penalty=sampling.presence_penalty,
                frequency_penalty=sampling.frequency_penalty,
                stop=sampling.stop,
                ignore_eos=sampling.ignore_eos,
            ),
            tools=[
                chat_pb2.Tool(
                    name=tool.name,
                    description=tool.description,
                    parameters_json=json.dumps(dict(tool.parameters), ensure_ascii=False),
                    strict=tool.strict,
                )
                for tool in request.tools
            ],
            tool_choice=enums.TOOL_CHOICES[request.tool_choice],
            tool_name=request.tool_name,
            parallel_tool_calls=request.parallel_tool_calls,
            response_format=chat_pb2.ResponseFormat(
                kind=enums.RESPONSE_KINDS[form.kind],
                name=form.name,
                schema_json=(
                    None
                    if form.schema is None
                    else json.dumps(dict(form.schema), ensure_ascii=False)
                ),
                strict=form.strict,
            ),
            privacy_class=enums.PRIVACY_CLASSES[request.privacy_class],
            ttft_slo_ms=request.preference.ttft_slo_ms,
            answer_so_far=request.answer_so_far,
            draft=request.draft,
            received=request.received,
            received_tokens=request.received_tokens,
            priority=enums.PRIORITIES[request.priority],
        )
    except UnicodeError as error:
        raise InvalidRequest("a text is not valid Unicode", field="messages") from error
    if sampling.seed is not None:
        wire.sampling.seed = _within(sampling.seed, _INT64, "seed")
    if sampling.top_logprobs is not None:
        wire.sampling.top_logprobs = _within(sampling.top_logprobs, _UINT32, "top_logprobs")
    if request.max_tokens is not None:
        wire.max_tokens = _within(request.max_tokens, _UINT32, "max_tokens")
    remaining_s = request.deadline.remaining_s()
    if remaining_s is not None:
        wire.deadline_remaining_ms = min(int(remaining_s * 1000), _MAX_DEADLINE_MS)
    if request.preference.max_price_usd is not None:
        # Through the shortest decimal form and rounded down: never above what was allowed.
        limit_usd = request.preference.max_price_usd
        if not math.isfinite(limit_usd):
            raise InvalidRequest("max_price_usd must be a finite number", field="max_price_usd")
        micro = int(Decimal(repr(limit_usd)) * MICRO_USD_PER_USD)
        wire.max_price_micro_usd = _within(micro, (0, 2**63 - 1), "max_price_usd")
    return wire


def request_as_bytes(request: chat.ChatRequest) -> bytes:
    """The message for `request` as it travels: the same bytes whenever it is asked for.

    Without its deadline, which a gRPC call carries itself. Raises as `request_to_wire`.
    """
    lasting = replace(request, deadline=Deadline.NEVER)
    return request_to_wire(lasting).SerializeToString(deterministic=True)


def request_body(wire: gateway_pb2.GenerateRequest) -> bytes:
    """What tells whether two messages ask for the same answer: sha256 of all but how it is fetched.

    The deadline and what was received differ from one attempt to the next.
    """
    lasting = gateway_pb2.GenerateRequest()
    lasting.CopyFrom(wire)
    for name in ("received", "received_tokens", "deadline_remaining_ms"):
        lasting.ClearField(name)
    return sha256(lasting.SerializeToString(deterministic=True)).digest()


def request_as_json(request: chat.ChatRequest) -> dict[str, Any]:
    """The message for `request` as JSON, field by field, to be shown to people."""
    shown: dict[str, Any] = MessageToDict(
        request_to_wire(request), preserving_proto_field_name=True
    )
    return shown


def request_from_wire(wire: gateway_pb2.GenerateRequest) -> chat.ChatRequest:
    """The request that a message stands for; its deadline runs from now."""
    if not wire.request_id:
        raise InvalidRequest("request_id must not be empty", field="request_id")
    if not wire.messages:
        raise InvalidRequest("messages must hold at least one message", field="messages")
    form = wire.response_format
    return chat.ChatRequest(
        request_id=wire.request_id,
        messages=tuple(
            _message_from_wire(message, f"messages[{i}]") for i, message in enumerate(wire.messages)
        ),
        model=wire.model,
        sampling=_sampling_from_wire(wire.sampling),
        max_tokens=wire.max_tokens if wire.HasField("max_tokens") else None,
        tools=tuple(
            chat.Tool(
                name=tool.name,
                description=tool.description,
                parameters=_object(tool.parameters_json or "{}", f"tools[{i}].parameters_json"),
                strict=tool.strict if tool.HasField("strict") else None,
            )
            for i, tool in enumerate(wire.tools)
        ),
        tool_choice=enums.name_of(
            enums.TOOL_CHOICES, wire.tool_choice, "tool_choice", chat.ToolChoice.AUTO
        ),
        tool_name=wire.tool_name if wire.HasField("tool_name") else None,
        parallel_tool_calls=(
            wire.parallel_tool_calls if wire.HasField("parallel_tool_calls") else None
        ),
        response_format=chat.ResponseFormat(
            kind=enums.name_of(
                enums.RESPONSE_KINDS, form.kind, "response_format.kind", chat.ResponseKind.TEXT
            ),
            name=form.name,
            schema=(
                _object(form.schema_json, "response_format.schema_json")
                if form.HasField("schema_json")
                else None
            ),
            strict=form.strict,
        ),
        deadline=Deadline.after(
            wire.deadline_remaining_ms / 1000 if wire.HasField("deadline_remaining_ms") else None
        ),
        preference=chat.RoutePreference(
            ttft_slo_ms=wire.ttft_slo_ms if wire.HasField("ttft_slo_ms") else None,
            max_price_usd=(
                wire.max_price_micro_usd / MICRO_USD_PER_USD
                if wire.HasField("max_price_micro_usd")
                else None
            ),
        ),
        privacy_class=enums.name_of(
            enums.PRIVACY_CLASSES, wire.privacy_class, "privacy_class", chat.PrivacyClass.UNKNOWN
        ),
        answer_so_far=wire.answer_so_far,
        draft=wire.draft,
        received=wire.received if wire.HasField("received") else None,
        received_tokens=wire.received_tokens,
        priority=enums.name_of(enums.PRIORITIES, wire.priority, "priority", chat.Priority.NORMAL),
    )


def _message_to_wire(message: chat.Message) -> chat_pb2.Message:
    return chat_pb2.Message(
        role=enums.ROLES[message.role],
        content=[
            chat_pb2.ContentPart(text=part.text)
            if isinstance(part, chat.TextPart)
            else chat_pb2.ContentPart(image=chat_pb2.ImagePart(url=part.url, detail=part.detail))
            for part in message.content
        ],
        name=message.name,
        tool_calls=[
            chat_pb2.ToolCall(id=call.id, name=call.name, arguments_json=call.arguments)
            for call in message.tool_calls
        ],
        tool_call_id=message.tool_call_id,
    )


def _message_from_wire(wire: chat_pb2.Message, field: str) -> chat.Message:
    content: list[chat.ContentPart] = []
    for i, part in enumerate(wire.content):
        match part.WhichOneof("part"):
            case "text":
                content.append(chat.TextPart(part.text))
            case "image":
                content.append(chat.ImagePart(part.image.url, part.image.detail or "auto"))
            case _:
                where = f"{field}.content[{i}]"
                raise InvalidRequest(f"{where} is of no kind that is known here", field=where)
    return chat.Message(
        role=enums.name_of(enums.ROLES, wire.role, f"{field}.role"),
        content=tuple(content),
        name=wire.name if wire.HasField("name") else None,
        tool_calls=tuple(
            chat.ToolCall(call.id, call.name, call.arguments_json) for call in wire.tool_calls
        ),
        tool_call_id=wire.tool_call_id if wire.HasField("tool_call_id") else None,
    )


def _sampling_from_wire(wire: chat_pb2.Sampling) -> chat.Sampling:
    return chat.Sampling(
        temperature=wire.temperature if wire.HasField("temperature") else 1.0,
        top_p=wire.top_p if wire.HasField("top_p") else 1.0,
        top_k=wire.top_k,
        min_p=wire.min_p,
        repetition_penalty=wire.repetition_penalty if wire.HasField("repetition_penalty") else 1.0,
        presence_penalty=wire.presence_penalty,
        frequency_penalty=wire.frequency_penalty,
        seed=wire.seed if wire.HasField("seed") else None,
        stop=tuple(wire.stop),
        ignore_eos=wire.ignore_eos,
        top_logprobs=wire.top_logprobs if wire.HasField("top_logprobs") else None,
    )


def _object(text: str, field: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        # Without its cause, which holds the text.
        raise InvalidRequest(
            f"{field} is not valid JSON, or nested too deeply", field=field
        ) from None
    if not isinstance(value, dict):
        raise InvalidRequest(f"{field} must be a JSON object", field=field)
    return value


def _within(value: int, limits: tuple[int, int], field: str) -> int:
    low, high = limits
    if not low <= value <= high:
        raise InvalidRequest(f"{field} must be between {low} and {high}", field=field)
    return value

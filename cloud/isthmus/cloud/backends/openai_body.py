"""A chat request as the JSON body of OpenAI's `/chat/completions`."""

from __future__ import annotations

from typing import Any

from isthmus.core.chat import (
    ChatRequest,
    ContentPart,
    Message,
    ResponseKind,
    Sampling,
    TextPart,
    Tool,
    ToolChoice,
)


def body_of(request: ChatRequest, model: str) -> dict[str, Any]:
    """The body for a streamed answer.

    Fields beyond OpenAI's (`top_k`, `min_p`, `repetition_penalty`, `ignore_eos`, the continuation
    of an answer) are vLLM's extensions, and only there when they are asked for.
    """
    body: dict[str, Any] = {
        "model": model,
        "messages": [message_of(message) for message in request.messages],
        "stream": True,
        "stream_options": {"include_usage": True},
        **_sampling(request.sampling),
    }
    if request.max_tokens is not None:
        body["max_tokens"] = request.max_tokens
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
        body["tool_choice"] = _tool_choice(request)
        if request.parallel_tool_calls is not None:
            body["parallel_tool_calls"] = request.parallel_tool_calls
    match request.response_format.kind:
        case ResponseKind.JSON_OBJECT:
            body["response_format"] = {"type": "json_object"}
        case ResponseKind.JSON_SCHEMA:
            form = request.response_format
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {
                    "name": form.name or "answer",
                    "schema": dict(form.schema or {}),
                    "strict": form.strict,
                },
            }
        case ResponseKind.TEXT:
            pass
    if request.answer_so_far:
        body["messages"].append({"role": "assistant", "content": request.answer_so_far})
        body["add_generation_prompt"] = False
        body["continue_final_message"] = True
    return body


def message_of(message: Message) -> dict[str, Any]:
    """One message in OpenAI's form; text alone is a plain string, which every template reads."""
    out: dict[str, Any] = {"role": message.role.value}
    if all(isinstance(part, TextPart) for part in message.content):
        out["content"] = message.text
    else:
        out["content"] = [_part(part) for part in message.content]
    if message.name is not None:
        out["name"] = message.name
    if message.tool_calls:
        out["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        out["tool_call_id"] = message.tool_call_id
    return out


def _tool(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {
        "name": tool.name,
        "description": tool.description,
        "parameters": dict(tool.parameters),
    }
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _part(part: ContentPart) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    return {"type": "image_url", "image_url": {"url": part.url, "detail": part.detail}}


def _sampling(sampling: Sampling) -> dict[str, Any]:
    body: dict[str, Any] = {"temperature": sampling.temperature, "top_p": sampling.top_p}
    plain = Sampling()
    for name in (
        "top_k",
        "min_p",
        "repetition_penalty",
        "presence_penalty",
        "frequency_penalty",
        "ignore_eos",
        "seed",
    ):
        value = getattr(sampling, name)
        if value != getattr(plain, name):
            body[name] = value
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if sampling.top_logprobs is not None:
        body["logprobs"] = True
        body["top_logprobs"] = sampling.top_logprobs
    return body


def _tool_choice(request: ChatRequest) -> Any:
    if request.tool_choice is ToolChoice.REQUIRED and request.tool_name is not None:
        return {"type": "function", "function": {"name": request.tool_name}}
    return request.tool_choice.value

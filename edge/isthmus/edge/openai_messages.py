"""The conversation and the tools of OpenAI's chat-completions request.

Source: the OpenAI API reference, "Create chat completion": `messages`, `tools`, `tool_choice`.
"""

from __future__ import annotations

from isthmus.core.chat import (
    ContentPart,
    ImagePart,
    Message,
    Role,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
)
from isthmus.edge.fields import Field

MAX_MESSAGES = 4096


def parse_messages(field: Field) -> tuple[Message, ...]:
    """The turns, oldest first. Raises `InvalidRequest`, as all of these do, with the field."""
    messages = list(field.array())
    if not messages:
        field.fail("must hold at least one message")
    if len(messages) > MAX_MESSAGES:
        field.fail(f"holds more than {MAX_MESSAGES} messages")
    return tuple(_message(message) for message in messages)


def _message(field: Field) -> Message:
    role = Role(field.object().need("role").choice(*Role))
    allowed = {"role", "content", "name"}
    if role is Role.ASSISTANT:
        # The ones that are not read here come back from clients that echo whole answers.
        allowed |= {"tool_calls", "refusal", "audio", "annotations", "function_call"}
        allowed |= {"reasoning_content", "reasoning"}
    elif role is Role.TOOL:
        allowed |= {"tool_call_id"}
    field.only(*sorted(allowed))
    tool_calls = _tool_calls(field.get("tool_calls")) if role is Role.ASSISTANT else ()
    content = field.get("content")
    if not content.given and not tool_calls:
        content.fail("is missing")
    name = field.get("name")
    call_id = field.need("tool_call_id").text() if role is Role.TOOL else None
    return Message(
        role=role,
        content=_content(content, role) if content.given else (),
        name=name.text() if name.given else None,
        tool_calls=tool_calls,
        tool_call_id=call_id,
    )


def _content(field: Field, role: Role) -> tuple[ContentPart, ...]:
    if isinstance(field.value, str):
        return (TextPart(field.text()),)
    if not isinstance(field.value, list):
        field.fail("must be a string or an array of parts")
    parts = tuple(_part(part, role) for part in field.array())
    if not parts:
        field.fail("must hold at least one part")
    return parts


def _part(field: Field, role: Role) -> ContentPart:
    kind = field.object().need("type")
    match kind.text():
        case "text":
            return TextPart(field.need("text").text())
        case "refusal" if role is Role.ASSISTANT:
            return TextPart(field.need("refusal").text())
        case "image_url" if role is Role.USER:
            image = field.need("image_url").object()
            url, detail = image.need("url"), image.get("detail")
            if not url.text().startswith(("https://", "data:image/")):
                url.fail("must be an https:// or a data:image/… URL")
            return ImagePart(
                url=url.text(),
                detail=detail.choice("low", "high", "auto") if detail.given else "auto",
            )
        case _:
            allowed = "'text' or 'image_url'" if role is Role.USER else "'text'"
            raise kind.error(f"must be {allowed} in a message of this role")


def _tool_calls(field: Field) -> tuple[ToolCall, ...]:
    if not field.given:
        return ()
    calls = []
    for call in field.array():
        kind = call.object().get("type")
        if kind.given:
            kind.choice("function")
        function = call.need("function").object()
        calls.append(
            ToolCall(
                id=call.need("id").text(),
                name=function.need("name").text(),
                arguments=function.need("arguments").text(),
            )
        )
    return tuple(calls)


def parse_tools(field: Field) -> tuple[Tool, ...]:
    """The functions that the model may call."""
    if not field.given:
        return ()
    tools = []
    for tool in field.array():
        tool.object().only("type", "function")
        tool.need("type").choice("function")
        function = tool.need("function").object()
        function.only("name", "description", "parameters", "strict")
        description, parameters = function.get("description"), function.get("parameters")
        tools.append(
            Tool(
                name=function.need("name").text(),
                description=description.text() if description.given else "",
                parameters=parameters.free_object() if parameters.given else {},
                strict=function.get("strict").optional_flag(),
            )
        )
    return tuple(tools)


def parse_tool_choice(field: Field, tools: tuple[Tool, ...]) -> tuple[ToolChoice, str | None]:
    """Whether one of `tools` is called, and its name where it must be that one."""
    if not field.given:
        return ToolChoice.AUTO, None
    if isinstance(field.value, dict):
        field.only("type", "function")
        field.need("type").choice("function")
        name = field.need("function").object().need("name")
        if name.text() not in {tool.name for tool in tools}:
            name.fail("names none of the tools of the request")
        return ToolChoice.REQUIRED, name.text()
    choice = ToolChoice(field.choice(*ToolChoice))
    if choice is ToolChoice.REQUIRED and not tools:
        field.fail("is 'required', but the request has no tools")
    return choice, None

"""The one walk over every text of a request that would leave the device.

Scanning collects through it and redacting rewrites through it, so that no field can be seen by the
one and missed by the other. What the wire carries besides (numbers of the sampler, enums, the
request's id, which the agent makes itself) holds nothing that a user wrote.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import accumulate
from typing import Any
from urllib.parse import unquote

from isthmus.core.chat import ChatRequest, ImagePart, Message, TextPart, Tool, ToolCall
from isthmus.privacy.base import Span
from isthmus.privacy.readings import readings
from isthmus.privacy.seams import between_strings


class Place(StrEnum):
    """A field that holds text."""

    MODEL = "model"
    CONTENT = "messages.content"
    IMAGE_URL = "messages.content.image_url"
    IMAGE_DETAIL = "messages.content.image_url.detail"
    NAME = "messages.name"
    TOOL_CALL_ID = "messages.tool_call_id"
    CALL_ID = "messages.tool_calls.id"
    CALL_NAME = "messages.tool_calls.function.name"
    ARGUMENTS = "messages.tool_calls.function.arguments"
    TOOL_NAME = "tools.function.name"
    TOOL_DESCRIPTION = "tools.function.description"
    TOOL_PARAMETERS = "tools.function.parameters"
    TOOL_CHOICE = "tool_choice"
    SCHEMA_NAME = "response_format.json_schema.name"
    SCHEMA = "response_format.json_schema.schema"
    STOP = "stop"
    SEED = "seed"
    ANSWER_SO_FAR = "answer_so_far"


class UnscannedField(Exception):
    """A part of the request that no detector can read. Names the part, never its content."""


class FixedField(Exception):
    """A value stands where no placeholder may: in a name, an id, a URL. `place` says where."""

    def __init__(self, place: Place) -> None:
        super().__init__(place.value)
        self.place = place


@dataclass(frozen=True, slots=True)
class Passage:
    """Texts that a model reads as one: a message's parts, the strings of a JSON document.

    `between[i]` stands before `texts[i]`, its last element at the end: one more than texts.
    """

    place: Place
    texts: tuple[str, ...]
    between: tuple[str, ...]
    read: bool = False
    """Another reading of a text that was put through `change` just before."""

    @property
    def joined(self) -> str:
        """What a reader sees."""
        pieces = [piece for pair in zip(self.between, self.texts, strict=False) for piece in pair]
        return "".join((*pieces, self.between[-1]))

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """Where each text begins and ends in `joined`."""
        steps = [len(p) for pair in zip(self.between, self.texts, strict=False) for p in pair]
        ends = list(accumulate(steps))
        return list(zip(ends[::2], ends[1::2], strict=True))

    @property
    def seamless(self) -> bool:
        """Whether the texts follow one another with nothing between them."""
        return not any(self.between)


ScanText = Callable[[str], Sequence[Span]]
"""The sensitive spans of a text, in its offsets. May raise: the request stays then."""


def spans_of(passage: Passage, scan: ScanText) -> list[Span]:
    """The spans of a passage, in the offsets of `joined`. They may overlap."""
    spans = set(scan(passage.joined))
    if passage.seamless and len(passage.texts) > 1:
        # And of each text alone: what two have at their seam may look like one longer number.
        for (start, _), text in zip(passage.ranges, passage.texts, strict=True):
            spans |= {Span(start + s.start, start + s.end, s.label, s.score) for s in scan(text)}
    elif len(passage.texts) > 1:
        spans.update(between_strings(passage.texts, passage.between, passage.ranges))
    return sorted(spans)


Change = Callable[[Passage], Sequence[str]]
"""The texts that take the place of a passage's, one for one."""


def map_texts(request: ChatRequest, change: Change) -> ChatRequest:
    """`request` with every text put through `change`.

    Raises `UnscannedField` for what cannot be read, `FixedField` when `change` would alter what
    has to stay as it is, `RecursionError` for JSON that is nested too deeply.
    """
    if request.received is not None:
        # What the cloud wrote comes after the walk; before it nobody may bring any.
        raise UnscannedField("received")
    form = request.response_format
    answer_so_far, draft = _answer(request, change)
    if request.sampling.seed is not None:
        _fixed(Place.SEED, str(request.sampling.seed), change)
    return replace(
        request,
        model=_fixed(Place.MODEL, request.model, change),
        messages=tuple(_message(message, change) for message in request.messages),
        tools=tuple(_tool(tool, change) for tool in request.tools),
        tool_name=_optional(Place.TOOL_CHOICE, request.tool_name, change),
        response_format=replace(
            form,
            name=_fixed(Place.SCHEMA_NAME, form.name, change),
            schema=None if form.schema is None else _schema(Place.SCHEMA, form.schema, change),
        ),
        sampling=replace(
            request.sampling,
            stop=tuple(_free(Place.STOP, stop, change) for stop in request.sampling.stop),
        ),
        answer_so_far=answer_so_far,
        draft=draft,
    )


def _answer(request: ChatRequest, change: Change) -> tuple[str, str]:
    """What stands of the answer, and the draft that may follow, which a model reads as one."""
    if not request.draft:
        return _free(Place.ANSWER_SO_FAR, request.answer_so_far, change), ""
    texts = (request.answer_so_far, request.draft)
    so_far, draft = _changed(Passage(Place.ANSWER_SO_FAR, texts, ("", "", "")), change)
    _check_readings(Place.ANSWER_SO_FAR, so_far + draft, change)
    return so_far, draft


def _message(message: Message, change: Change) -> Message:
    texts = tuple(part.text for part in message.content if isinstance(part, TextPart))
    changed = iter(_content(texts, change))
    return replace(
        message,
        content=tuple(
            TextPart(next(changed)) if isinstance(part, TextPart) else _image(part, change)
            for part in message.content
        ),
        name=_optional(Place.NAME, message.name, change),
        tool_calls=tuple(_call(call, change) for call in message.tool_calls),
        tool_call_id=_optional(Place.TOOL_CALL_ID, message.tool_call_id, change),
    )


def _content(texts: tuple[str, ...], change: Change) -> Sequence[str]:
    if len(texts) == 1 and "\\" in texts[0] and _is_json(texts[0]):
        return [_json(Place.CONTENT, texts[0], change)]  # a tool's result, as programs write it
    # All parts together, as the model reads them: a value may be split over two of them.
    changed = _changed(Passage(Place.CONTENT, texts, ("",) * (len(texts) + 1)), change)
    _check_readings(Place.CONTENT, "".join(changed), change)
    return changed


def _image(image: ImagePart, change: Change) -> ImagePart:
    if not image.url.lower().startswith(("https://", "http://")):
        raise UnscannedField(Place.IMAGE_URL.value)
    _fixed(Place.IMAGE_URL, unquote(image.url), change)
    _fixed(Place.IMAGE_DETAIL, image.detail, change)
    return image


def _call(call: ToolCall, change: Change) -> ToolCall:
    return ToolCall(
        id=_fixed(Place.CALL_ID, call.id, change),
        name=_fixed(Place.CALL_NAME, call.name, change),
        arguments=_arguments(call.arguments, change),
    )


def _tool(tool: Tool, change: Change) -> Tool:
    return replace(
        tool,
        name=_fixed(Place.TOOL_NAME, tool.name, change),
        description=_free(Place.TOOL_DESCRIPTION, tool.description, change),
        parameters=_schema(Place.TOOL_PARAMETERS, tool.parameters, change),
    )


def _arguments(text: str, change: Change) -> str:
    if _is_json(text):
        return _json(Place.ARGUMENTS, text, change)
    # A model wrote it, perhaps not to the end.
    return _free(Place.ARGUMENTS, text, change)


def _schema(place: Place, schema: Mapping[str, Any], change: Change) -> Mapping[str, Any]:
    # The text as the wire's conversion writes it.
    text = json.dumps(dict(schema), ensure_ascii=False)
    changed = _json(place, text, change)
    if changed == text:
        return schema
    decoded: dict[str, Any] = json.loads(changed)
    return decoded


_LITERAL = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d[0-9.eE+-]*', re.DOTALL)


def _is_json(text: str) -> bool:
    try:
        json.loads(text, parse_int=str)  # as text: an integer may have too many digits
    except (ValueError, RecursionError):
        return False
    return True


def _json(place: Place, text: str, change: Change) -> str:
    """A JSON document with its strings, keys and numbers changed, and not a byte besides."""
    texts, between, at = [], [], 0
    literals = list(_LITERAL.finditer(text))
    for found in literals:
        quoted = found[0][0] == '"'
        between.append(text[at : found.start() + quoted])
        texts.append(json.loads(found[0], strict=False) if quoted else found[0])
        at = found.end() - quoted
    between.append(text[at:])
    passage = Passage(place, tuple(texts), tuple(between))
    pieces, at = [], 0
    for found, old, new in zip(literals, texts, _changed(passage, change), strict=True):
        pieces.append(text[at : found.start()])
        at = found.end()
        if new == old:
            pieces.append(found[0])
            continue
        if found[0][0] != '"' and place in {Place.TOOL_PARAMETERS, Place.SCHEMA}:
            raise FixedField(place)  # a schema's limits are numbers
        pieces.append(json.dumps(new, ensure_ascii=False))
    result = "".join((*pieces, text[at:]))
    _check_readings(place, result, change)
    return result


def _free(place: Place, text: str, change: Change) -> str:
    changed = _one(place, text, change)
    _check_readings(place, changed, change)
    return changed


def _fixed(place: Place, text: str, change: Change) -> str:
    if _one(place, text, change) != text:
        raise FixedField(place)
    return text


def _check_readings(place: Place, text: str, change: Change) -> None:
    """What escapes hide can be seen, but not replaced."""
    for plain in readings(text):
        if _changed(Passage(place, (plain,), ("", ""), read=True), change)[0] != plain:
            raise FixedField(place)


def _one(place: Place, text: str, change: Change) -> str:
    return _changed(Passage(place, (text,), ("", "")), change)[0]


def _optional(place: Place, text: str | None, change: Change) -> str | None:
    return None if text is None else _fixed(place, text, change)


def _changed(passage: Passage, change: Change) -> Sequence[str]:
    return change(passage) if any(passage.texts) else passage.texts

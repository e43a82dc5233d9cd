"""Scanning a text, and everything of a request that would leave the device. Fails closed."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from isthmus.core.chat import ChatRequest, ImagePart, Message, PrivacyClass, TextPart
from isthmus.privacy.base import Detector, Span
from isthmus.privacy.detectors import STRUCTURED
from isthmus.privacy.scanner import Scanner

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ScanResult:
    """What a scan found: classes and counts, never text."""

    privacy_class: PrivacyClass
    labels: Mapping[str, int] = field(default_factory=dict)
    """How many spans of each label."""
    failed: bool = False
    """A detector failed or a part could not be read: the class is then `UNKNOWN`."""


class UnscannedField(Exception):
    """A part of the request that no detector can read. Names the part, never its content."""


def scan(text: str, detectors: Sequence[Detector] = STRUCTURED) -> tuple[Span, ...]:
    """The sensitive spans of `text`: see `Scanner.scan`."""
    return Scanner(detectors).scan(text)


def scan_request(request: ChatRequest, detectors: Sequence[Detector] = STRUCTURED) -> ScanResult:
    """Scan every field of `request` that would leave the device. Never raises.

    Any failure (a detector's, a picture's pixels that nothing here can read) makes the class
    `UNKNOWN`, which the policy treats as sensitive. The request's id, which the agent makes
    itself, is the one field that is not looked at.
    """
    counts: Counter[str] = Counter()
    failed = False
    try:
        for text in _texts(request):
            counts.update(span.label for span in scan(text, detectors))
    except Exception as error:
        # The error's own message may hold the user's text: its class is all that is said.
        log.warning("the privacy scan failed (%s): the request stays", type(error).__name__)
        failed = True
    if failed:
        privacy_class = PrivacyClass.UNKNOWN
    else:
        privacy_class = PrivacyClass.SENSITIVE if counts else PrivacyClass.PUBLIC
    return ScanResult(privacy_class, dict(counts), failed)


def _texts(request: ChatRequest) -> Iterator[str]:
    """Every text of the request."""
    for message in request.messages:
        yield from _message_texts(message)
    for tool in request.tools:
        yield tool.name
        yield tool.description
        yield from _json_texts(tool.parameters)
    yield request.answer_so_far
    yield request.model
    yield request.tool_name or ""
    yield request.response_format.name
    yield from _json_texts(request.response_format.schema)
    yield request.preference.conversation or ""
    yield from request.sampling.stop


def _message_texts(message: Message) -> Iterator[str]:
    # Joined, as the model reads them: a value may be split over two parts. And each alone: what
    # two parts have at their seam may look like one longer number, which is none.
    yield message.text
    parts = [part.text for part in message.content if isinstance(part, TextPart)]
    if len(parts) > 1:
        yield from parts
    yield message.name or ""
    yield message.tool_call_id or ""
    for call in message.tool_calls:
        yield call.id
        yield call.name
        yield call.arguments
        yield from _escaped_texts(call.arguments)
    for part in message.content:
        if isinstance(part, ImagePart):
            if not part.url.lower().startswith(("https://", "http://")):
                raise UnscannedField("messages.content.image_url")
            yield unquote(part.url)


def _escaped_texts(arguments: str) -> Iterator[str]:
    """What JSON escapes hide; text that is no JSON (the model wrote it) has none."""
    if "\\" not in arguments:
        return
    try:
        value = json.loads(arguments)
    except ValueError:
        return
    yield from _json_texts(value)


def _json_texts(value: Any) -> Iterator[str]:
    """The keys, strings and numbers of a JSON value."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield str(key)
            yield from _json_texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _json_texts(item)
    elif value is not None and not isinstance(value, bool):
        yield str(value)

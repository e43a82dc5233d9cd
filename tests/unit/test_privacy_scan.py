"""Scanning requests: every field that would leave is read, and failure means that it stays."""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from isthmus.core.chat import (
    ChatRequest,
    ImagePart,
    Message,
    PrivacyClass,
    ResponseFormat,
    ResponseKind,
    Role,
    Sampling,
    TextPart,
    Tool,
    ToolCall,
)
from isthmus.privacy.base import Span
from isthmus.privacy.scan import scan, scan_request
from isthmus.privacy.scanner import Scanner

SECRET = "jane@example.org"
PLAIN = ChatRequest("r", (Message(Role.USER, (TextPart("What is the capital of France?"),)),))


def with_message(message: Message) -> ChatRequest:
    return replace(PLAIN, messages=(message, *PLAIN.messages))


PLANTED = {
    "system": with_message(Message(Role.SYSTEM, (TextPart(f"The user is {SECRET}."),))),
    "assistant": with_message(Message(Role.ASSISTANT, (TextPart(SECRET),))),
    "split_over_parts": with_message(
        Message(Role.USER, (TextPart("jane@exam"), TextPart("ple.org")))
    ),
    "one_of_two_parts": with_message(Message(Role.USER, (TextPart("13812345678"), TextPart("5")))),
    "name": with_message(Message(Role.USER, name=SECRET)),
    "tool_result": with_message(Message(Role.TOOL, (TextPart(SECRET),), tool_call_id="1")),
    "tool_call_id": with_message(Message(Role.TOOL, tool_call_id=SECRET)),
    "tool_call_name": with_message(
        Message(Role.ASSISTANT, tool_calls=(ToolCall("1", SECRET, ""),))
    ),
    "arguments": with_message(
        Message(Role.ASSISTANT, tool_calls=(ToolCall("1", "send", json.dumps({"to": SECRET})),))
    ),
    "escaped_arguments": with_message(
        Message(Role.ASSISTANT, tool_calls=(ToolCall("1", "send", r'{"to": "jane\u0040b.org"}'),))
    ),
    "image_url": with_message(
        Message(Role.USER, (ImagePart("https://example.com/i.png?u=jane%40example.org"),))
    ),
    "tool_description": replace(PLAIN, tools=(Tool("t", f"Writes to {SECRET}"),)),
    "tool_schema_value": replace(PLAIN, tools=(Tool("t", "", {"p": [{"default": SECRET}]}),)),
    "tool_schema_key": replace(PLAIN, tools=(Tool("t", "", {SECRET: 1}),)),
    "tool_schema_number": replace(PLAIN, tools=(Tool("t", "", {"default": 13812345678}),)),
    "response_schema": replace(
        PLAIN, response_format=ResponseFormat(ResponseKind.JSON_SCHEMA, "s", {"const": SECRET})
    ),
    "answer_so_far": replace(PLAIN, answer_so_far=f"Write to {SECRET}"),
    "draft": replace(PLAIN, answer_so_far="Write ", draft=f"to {SECRET}"),
    "draft_over_the_seam": replace(PLAIN, answer_so_far=SECRET[:4], draft=SECRET[4:]),
    "stop": replace(PLAIN, sampling=Sampling(stop=(SECRET,))),
    "model": replace(PLAIN, model=SECRET),
}


def test_a_plain_request_is_public() -> None:
    result = scan_request(PLAIN)
    assert (result.privacy_class, dict(result.labels), result.failed) == (
        PrivacyClass.PUBLIC,
        {},
        False,
    )


@pytest.mark.parametrize("where", PLANTED)
def test_a_value_is_found_in_every_field(where: str) -> None:
    result = scan_request(PLANTED[where])
    assert result.privacy_class is PrivacyClass.REDACTED
    assert sum(result.labels.values()) >= 1


class Finds:
    """A detector that finds one label from the start of each text."""

    def __init__(self, label: str, length: int, score: float) -> None:
        self.name = label
        self.labels = frozenset({label})
        self._span = Span(0, length, label, score)

    def detect(self, text: str) -> Iterator[Span]:
        yield self._span


def test_a_surer_milder_label_hides_no_stricter_one() -> None:
    scanner = Scanner((Finds("BANK_CARD", 4, 0.4), Finds("EMAIL", 6, 0.99)))
    result = scan_request(PLAIN, scanner)
    assert result.privacy_class is PrivacyClass.SENSITIVE
    assert result.labels == {"EMAIL": 1, "BANK_CARD": 1}
    assert [span.label for span in scanner.scan(PLAIN.messages[0].text)] == ["EMAIL"]


class Broken:
    name = "broken"

    def detect(self, text: str) -> Iterator[Span]:
        raise ValueError(f"cannot read {text}")


def test_a_detectors_error_makes_the_class_unknown_and_says_no_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.DEBUG):
        result = scan_request(PLAIN, Scanner((Broken(),)))
    assert (result.privacy_class, result.failed) == (PrivacyClass.UNKNOWN, True)
    assert "ValueError" in caplog.text
    assert "France" not in caplog.text


@pytest.mark.parametrize("url", ["data:image/png;base64,iVBORw0KGgo=", "file:///a.png", ""])
def test_a_picture_that_cannot_be_read_makes_the_class_unknown(url: str) -> None:
    result = scan_request(with_message(Message(Role.USER, (ImagePart(url),))))
    assert result.privacy_class is PrivacyClass.UNKNOWN


def test_a_bottomless_schema_makes_the_class_unknown() -> None:
    schema: dict[str, object] = {}
    for _ in range(100_000):
        schema = {"a": schema}
    result = scan_request(replace(PLAIN, tools=(Tool("t", "", schema),)))
    assert result.privacy_class is PrivacyClass.UNKNOWN
    while schema:  # taken apart here: a deep value is freed by recursion otherwise
        schema = schema["a"]  # type: ignore[assignment]


SHARED = Path(__file__).parents[3] / "shared" / "data" / "pii_dev.jsonl.gz"


@pytest.mark.skipif(not SHARED.exists(), reason="the labelled texts are not here")
def test_structured_labels_of_the_labelled_texts_are_found_and_benign_texts_are_not() -> None:
    with gzip.open(SHARED, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    wanted = {"EMAIL", "PHONE", "BANK_CARD", "ID_CN", "US_SSN"}
    covered = total = alarms = benign = 0
    for row in rows:
        spans = scan(row["text"])
        if row["kind"] == "negative":
            benign += 1
            alarms += bool(spans)
        for gold in row["spans"]:
            if gold["label"] in wanted:
                total += 1
                covered += any(s.start < gold["end"] and s.end > gold["start"] for s in spans)
    assert covered / total > 0.95
    assert alarms / benign < 0.01

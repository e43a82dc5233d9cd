"""What is read from a request before anything is decided."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from isthmus.core.chat import (
    ChatRequest,
    ImagePart,
    Message,
    PrivacyClass,
    ResponseFormat,
    ResponseKind,
    Role,
    TextPart,
    Tool,
    ToolChoice,
)
from isthmus.privacy.scan import ScanResult
from isthmus.router.signals import (
    Capability,
    CloudState,
    EdgeState,
    estimate_tokens,
    gather,
    needs_of,
)

PUBLIC = ScanResult(PrivacyClass.PUBLIC)
ASKED = ChatRequest("r", (Message(Role.USER, (TextPart("mail a@b.org"),)),), max_tokens=9)


def test_signals_are_gathered_from_a_request() -> None:
    signals = gather(ASKED, edge=EdgeState(), cloud=CloudState())
    assert signals.privacy.privacy_class is PrivacyClass.REDACTED
    assert (signals.max_tokens, signals.needs) == (9, frozenset())
    assert signals.prompt_tokens == estimate_tokens(ASKED) > 3
    given_ones = gather(
        ASKED, edge=EdgeState(), cloud=CloudState(), privacy=PUBLIC, prompt_tokens=17
    )
    assert (given_ones.privacy, given_ones.prompt_tokens) == (PUBLIC, 17)


def test_a_schema_of_any_depth_is_estimated() -> None:
    schema: dict[str, Any] = {}
    for _ in range(5_000):
        schema = {"a": schema}
    assert estimate_tokens(replace(ASKED, tools=(Tool("t", "", schema),))) >= 5_000


def test_needs_are_read_from_the_request() -> None:
    tools = replace(ASKED, tools=(Tool("t"),))
    image = Message(Role.USER, (ImagePart("https://example.org/a.png"),))
    schema = ResponseFormat(ResponseKind.JSON_SCHEMA, "s", {})
    assert needs_of(tools) == {Capability.TOOLS}
    assert needs_of(replace(tools, tool_choice=ToolChoice.NONE)) == set()
    assert needs_of(replace(ASKED, messages=(image,))) == {Capability.IMAGES}
    assert needs_of(replace(ASKED, response_format=schema)) == {Capability.JSON_SCHEMA}


def test_chinese_text_counts_more_tokens_than_english_of_the_same_length() -> None:
    english, chinese = (
        estimate_tokens(replace(ASKED, messages=(Message(Role.USER, (TextPart(text),)),)))
        for text in ("abcd" * 25, "你好世界" * 25)
    )
    assert english < chinese

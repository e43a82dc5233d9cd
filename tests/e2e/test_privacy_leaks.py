"""Random conversations with values in every field, faults in every part: none of them leaves.

A recording tier stands in the cloud's place and keeps the bytes that left. They, and every log
line, metric, exception and row of the ledger, are searched for the values that were planted.
`make soak` runs 100,000 conversations, the suite a few thousand (ISTHMUS_SOAK_CONVERSATIONS).
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import threading
import traceback
from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isthmus.core.chat import (
    ChatRequest,
    ImagePart,
    Message,
    ResponseFormat,
    ResponseKind,
    Role,
    RouteMode,
    RoutePreference,
    Sampling,
    TextPart,
    Tool,
    ToolCall,
)
from isthmus.core.errors import IsthmusError, Unavailable
from isthmus.core.events import Delta, Event, TokenLogprob
from isthmus.edge.agent import Agent
from isthmus.edge.config import EdgeConfig
from isthmus.edge.device import Device
from isthmus.edge.ledger import Ledger
from isthmus.edge.testing import ScriptedEngine, ScriptedTier
from isthmus.edge.tiers import Check
from isthmus.edge.trail import Trail
from isthmus.privacy.base import Span
from isthmus.privacy.detectors import STRUCTURED
from isthmus.privacy.policy import PrivacyConfig
from isthmus.privacy.scanner import Scanner
from isthmus.privacy.vault import Vault

CONVERSATIONS = int(os.environ.get("ISTHMUS_SOAK_CONVERSATIONS", "2000"))

VALUES = {
    "Annika Lindqvist": "PERSON",
    "欧阳娜娜": "PERSON",
    "annika.l@example.org": "EMAIL",
    "+46 70 174 06 05": "PHONE",
    "4000701740605": "PHONE",
    'Flat "B\\C"\n12 Rosengatan': "ADDRESS",
    "E-4711-Ω": "EMPLOYEE",
    "5500 0055 5555 5559": "BANK_CARD",
    "sk-Zq8Wn3Lp5Xv7": "SECRET",
}


class Planted:
    """Finds the values above: how well values are found is measured elsewhere."""

    name = "planted"
    labels = frozenset(VALUES.values())

    def detect(self, text: str) -> Iterator[Span]:
        for value, label in VALUES.items():
            for found in re.finditer(re.escape(value), text):
                yield Span(*found.span(), label, 1.0)


def forms(value: str) -> Iterator[str]:
    """What a search of captured bytes looks for."""
    yield value
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield quote(value)
    yield value.upper()
    yield value.lower()
    yield re.sub(r"[\s-]", "", value)


SOUGHT = {form for value in VALUES for form in forms(value)}
SOUGHT_BYTES = re.compile(b"|".join(sorted(re.escape(form.encode()) for form in SOUGHT)))
SOUGHT_TEXT = re.compile("|".join(sorted(map(re.escape, SOUGHT))))


def user(*parts: str) -> Message:
    return Message(Role.USER, tuple(map(TextPart, parts)))


def in_message(build: Callable[[str], Message]) -> Callable[[ChatRequest, str], ChatRequest]:
    return lambda request, text: replace(request, messages=(build(text), *request.messages))


def calling(arguments: Callable[[str], str]) -> Callable[[ChatRequest, str], ChatRequest]:
    return in_message(
        lambda text: Message(Role.ASSISTANT, tool_calls=(ToolCall("1", "f", arguments(text)),))
    )


def with_schema(schema: dict[str, Any]) -> ResponseFormat:
    return ResponseFormat(ResponseKind.JSON_SCHEMA, "s", schema)


FIELDS: dict[str, Callable[[ChatRequest, str], ChatRequest]] = {
    "user": in_message(user),
    "system": in_message(lambda text: Message(Role.SYSTEM, (TextPart(text),))),
    "assistant": in_message(lambda text: Message(Role.ASSISTANT, (TextPart(text),))),
    "tool result": in_message(lambda text: Message(Role.TOOL, (TextPart(text),), tool_call_id="1")),
    "two parts": in_message(lambda text: user(text[: len(text) // 2], text[len(text) // 2 :])),
    "name": in_message(lambda text: replace(user("hello"), name=text)),
    "tool_call_id": in_message(lambda text: Message(Role.TOOL, tool_call_id=text)),
    "call id": in_message(
        lambda text: Message(Role.ASSISTANT, tool_calls=(ToolCall(text, "f", "{}"),))
    ),
    "call name": in_message(
        lambda text: Message(Role.ASSISTANT, tool_calls=(ToolCall("1", text, "{}"),))
    ),
    "arguments": calling(lambda text: json.dumps({"a": [text]}, ensure_ascii=False)),
    "escaped arguments": calling(lambda text: json.dumps({text: 1})),
    "every character escaped": calling(
        lambda text: '{"a": "' + "".join(f"\\u{ord(char):04x}" for char in text) + '"}'
    ),
    "escaped result": in_message(
        lambda text: Message(Role.TOOL, (TextPart(json.dumps({"a": text})),), tool_call_id="1")
    ),
    "JSON in JSON": calling(lambda text: json.dumps({"a": json.dumps({"b": text})})),
    "address in a text": in_message(lambda text: user(f"see https://a.org/?q={quote(text)} now")),
    "broken arguments": calling(lambda text: json.dumps({"a": text})[:-2]),
    "plain arguments": calling(lambda text: text),
    "number in arguments": calling(lambda text: '{"a": 4000701740605}'),
    "image": in_message(
        lambda text: Message(Role.USER, (ImagePart(f"https://example.org/{quote(text)}"),))
    ),
    "picture": in_message(
        lambda text: Message(Role.USER, (ImagePart("data:image/png;base64,AA"), TextPart(text)))
    ),
    "tool name": lambda request, text: replace(request, tools=(Tool(text),)),
    "tool description": lambda request, text: replace(request, tools=(Tool("t", text),)),
    "schema": lambda request, text: replace(request, tools=(Tool("t", "", {"a": [{text: text}]}),)),
    "schema number": lambda request, text: replace(
        request, tools=(Tool("t", "", {"maximum": 4000701740605}),)
    ),
    "response schema": lambda request, text: replace(
        request, response_format=with_schema({"enum": [text]})
    ),
    "stop": lambda request, text: replace(request, sampling=Sampling(stop=(text,))),
}


class Fault(Exception):
    """What goes wrong; its text is the worst that it could say."""


@dataclass
class Faults:
    """One thing that goes wrong, after `after` times."""

    kind: str = "none"
    after: int = 0
    held: threading.Event = field(default_factory=threading.Event)

    def strike(self, kind: str, text: str = "") -> bool:
        if self.kind != kind:
            return False
        self.after -= 1
        return self.after < 0


class Scanning(Scanner):
    """The scanner, with faults."""

    def __init__(self, faults: Faults) -> None:
        super().__init__((*STRUCTURED, Planted()))
        self._faults = faults

    def find(self, text: str) -> tuple[Span, ...]:
        if self._faults.strike("detector"):
            raise Fault(text)
        if self._faults.strike("hang"):
            self._faults.held.wait(10)
        return super().find(text)


class Recorder(ScriptedTier):
    """The cloud: keeps what left, and answers with it."""

    faults: Faults

    async def generate(
        self, request: ChatRequest, check: Check = lambda data: None
    ) -> AsyncGenerator[Event, None]:
        text = request.messages[-1].text
        if self.faults.strike("edited"):
            text = text.lower().replace("[", "").replace("_", " ")
        self.deltas = [
            Delta(piece, logprobs=(TokenLogprob(piece, -1.0, piece.encode()),))
            for piece in re.findall(r"(?s).{1,7}", text)
        ]
        if self.faults.strike("network"):
            self.deltas, self.error = self.deltas[:2], Unavailable("the network is gone")
        elif self.faults.strike("cloud"):
            self.deltas, self.error = self.deltas[:1], Fault(text)
        async for event in super().generate(request, check):
            yield event


FAULTS = ("detector", "vault", "network", "cloud", "device", "cancel", "forgotten", "edited")
FAULTS = ("none",) * 8 + FAULTS * 2 + ("hang",)  # the last one takes its time


@dataclass(frozen=True)
class Turn:
    """One request of a conversation."""

    planted: Sequence[tuple[str, str, str]]
    asked: str
    mode: RouteMode
    fault: str
    after: int


NOISE = st.sampled_from(["", " ", "x", "…", "，", "[PERSON_b2c3]", "\\", "%5B", "ſ", "\u200b"])
PLANTED = st.tuples(st.sampled_from(list(FIELDS)), st.sampled_from(list(VALUES)), NOISE)
TURNS = st.lists(
    st.builds(
        Turn,
        st.lists(PLANTED, max_size=3),
        st.sampled_from(["", *VALUES]),
        st.sampled_from(
            [RouteMode.PREFER_IN_CLOUD, RouteMode.ONLY_IN_CLOUD, RouteMode.PREFER_ON_DEVICE]
        ),
        st.sampled_from(FAULTS),
        st.integers(0, 6),
    ),
    min_size=1,
    max_size=3,
)


class Log(logging.Handler):
    """Every line that is logged, at any level, with its exception."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@dataclass
class Stage:
    """An agent between a device and a cloud that follow scripts."""

    faults: Faults
    cloud: Recorder
    engine: ScriptedEngine
    agent: Agent
    said: list[str] = field(default_factory=list)
    """Everything that was said besides the answers."""

    async def converse(self, turns: Sequence[Turn]) -> None:
        history: tuple[Message, ...] = ()
        for turn in turns:
            planted = {value for _, value, _ in turn.planted} | {turn.asked}
            request = request_of(turn, history)
            self.faults.kind, self.faults.after = turn.fault, turn.after
            self.engine.error = Fault(turn.asked) if turn.fault == "device" else None
            self.engine.deltas = [Delta("Dear "), Delta(turn.asked), Delta(" and")]
            self.cloud.error = None
            if turn.fault == "forgotten":
                self.agent.screen.vaults.wipe()
            trail = Trail(request)
            text = await self.answer(trail, turn)
            self.faults.held.set()
            history = (*request.messages, trail.answer())
            known = {value for value in VALUES if value in str(history)}
            assert {value for value in VALUES if value in text} <= planted | known

    async def answer(self, trail: Trail, turn: Turn) -> str:
        text = ""
        try:
            async with aclosing(self.agent.run(trail)) as events:
                left = turn.after if turn.fault == "cancel" else 1_000_000
                async for event in events:
                    text += event.text if isinstance(event, Delta) else ""
                    left -= 1
                    if left < 0:
                        break
        except IsthmusError as error:
            self.said += traceback.format_exception(error)
            self.said.append(repr(error))
        outcome = trail.outcome()
        self.said += (repr(outcome), repr(self.agent.screen.vaults.__dict__))
        return text


def request_of(turn: Turn, history: tuple[Message, ...]) -> ChatRequest:
    request = ChatRequest("r", (), preference=RoutePreference(turn.mode))
    for where, value, noise in turn.planted:
        request = FIELDS[where](request, f"{noise} {value} {noise}" if noise else value)
    asked = user(f"Please write a long and friendly letter about it {turn.asked}".rstrip())
    return replace(request, messages=(*history, *request.messages, asked))


@pytest.fixture(scope="module")
def log() -> Iterator[Log]:
    handler, root = Log(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture
def failing_vault(monkeypatch: pytest.MonkeyPatch) -> Faults:
    """A vault that fails where a turn says so."""
    shared, add = Faults(), Vault.add

    def failing(self: Vault, label: str, value: str, *, unlike: Collection[str] = ()) -> str:
        if shared.strike("vault"):
            raise Fault(value)
        return add(self, label, value, unlike=unlike)

    monkeypatch.setattr(Vault, "add", failing)
    return shared


class Kept(Ledger):
    """A ledger that many agents use in turn."""

    def close(self) -> None:
        """Not with an agent."""


PLACEHOLDER = re.compile(rb"\[[A-Z_]+_[a-z]\d[a-z]\d\]")


@pytest.mark.timeout(0)
def test_no_planted_value_leaves_or_is_told_whatever_fails(
    log: Log, failing_vault: Faults, tmp_path: Path
) -> None:
    ledger = Kept(tmp_path / "ledger.sqlite")
    requests = redacted = 0

    @settings(
        max_examples=CONVERSATIONS,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(TURNS)
    def conversation(turns: Sequence[Turn]) -> None:
        nonlocal requests, redacted
        log.lines.clear()
        failing_vault.held = threading.Event()
        left, said = asyncio.run(play(turns, failing_vault, ledger))
        requests += len(left)
        redacted += sum(PLACEHOLDER.search(data) is not None for data in left)
        assert not any(map(SOUGHT_BYTES.search, left)), "a value left"
        assert not any(map(SOUGHT_TEXT.search, (*said, *log.lines))), "a value was told"

    conversation()
    Ledger.close(ledger)
    assert SOUGHT_BYTES.search(ledger.path.read_bytes()) is None
    # It would prove nothing if nothing were sent.
    assert redacted > CONVERSATIONS // 10, f"of {requests} requests"


async def play(
    turns: Sequence[Turn], faults: Faults, ledger: Ledger
) -> tuple[list[bytes], list[str]]:
    """What left for the cloud, and what was said, over one conversation."""
    cloud, engine = Recorder(), ScriptedEngine()
    cloud.faults = faults
    agent = Agent(
        EdgeConfig(privacy=PrivacyConfig(consent=True), scan_timeout_s=0.05),
        device=Device(lambda: engine),
        cloud=cloud,
        ledger=ledger,
        scanner=Scanning(faults),
    )
    agent.device.start()
    await agent.device.wait()
    stage = Stage(faults, cloud, engine, agent)
    await stage.converse(turns)
    await agent.close()
    return cloud.left, [*stage.said, agent.metrics.text().decode()]

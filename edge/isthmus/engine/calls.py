"""How a model on the device writes a tool call, and how one is read from its answer.

The form is that of the Hermes and Qwen 2.5 models' chat templates::

    <tool_call>
    {"name": "get_weather", "arguments": {"city": "Paris"}}
    </tool_call>

A grammar (`isthmus.engine.constraint`) holds the model to it to the letter, so that reading it
takes no guessing: the texts around a call's name and arguments are fixed, and none of them can
occur within a JSON text that has no line breaks.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from enum import Enum, auto
from typing import Any

from isthmus.core.chat import Tool
from isthmus.core.events import ToolCallDelta

OPEN, CLOSE = "<tool_call>", "</tool_call>"
MAX_CALLS = 8
"""In one answer, of a model that was trained to call tools: others would go on repeating one."""

_BEFORE_NAME = '\n{"name": '
_BEFORE_ARGUMENTS = ', "arguments": '
_AFTER_ARGUMENTS = f"}}\n{CLOSE}"
BETWEEN = "\n"
"""Separates calls from each other, and the first one from a text before it."""


def around_arguments(name: str) -> tuple[str, str]:
    """The fixed text between a call's `OPEN` and its arguments, and that after them."""
    return f"{_BEFORE_NAME}{_quoted(name)}{_BEFORE_ARGUMENTS}", _AFTER_ARGUMENTS


def written(name: str, arguments: Any) -> str:
    """A call as the model writes it. `arguments` is JSON's value."""
    before, after = around_arguments(name)
    return f"{OPEN}{before}{json.dumps(arguments, ensure_ascii=False)}{after}"


def result(content: str) -> str:
    """What a tool answered, as the model is told."""
    return f"<tool_response>\n{content}\n</tool_response>"


def described(tool: Tool) -> dict[str, Any]:
    """A tool in OpenAI's form, which chat templates expect."""
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}


def instructions(tools: Sequence[Tool]) -> str:
    """The tools in words, for a model whose chat template has no place for them."""
    lines = [json.dumps(described(tool)["function"], ensure_ascii=False) for tool in tools]
    example = f'{OPEN}{_BEFORE_NAME}"NAME"{_BEFORE_ARGUMENTS}{{…}}{_AFTER_ARGUMENTS}'
    return "\n".join(
        (
            "You can call these functions:",
            *lines,
            f"To call one, answer with its name and arguments as JSON, like this:\n{example}",
            "Call one only when the request needs it; else answer in plain text.",
        )
    )


def overlap(text: str, mark: str) -> int:
    """The longest end of `text` that could still become `mark`."""
    for size in range(min(len(mark) - 1, len(text)), 0, -1):
        if text.endswith(mark[:size]):
            return size
    return 0


class _Reading(Enum):
    TEXT = auto()
    NAME = auto()
    ARGUMENTS = auto()


_UNTIL = {
    _Reading.TEXT: OPEN,
    _Reading.NAME: _BEFORE_ARGUMENTS,
    _Reading.ARGUMENTS: _AFTER_ARGUMENTS,
}


class CallReader:
    """Parts an answer that a grammar holds to the form above into its text and its calls."""

    def __init__(self) -> None:
        self.complete = 0
        """Calls that were read to their end."""
        self._reading = _Reading.TEXT
        self._held = ""

    def push(self, text: str) -> tuple[str, tuple[ToolCallDelta, ...]]:
        """What a piece of the answer adds: text to show, and pieces of calls."""
        self._held += text
        shown, calls = "", list[ToolCallDelta]()
        while True:
            mark = _UNTIL[self._reading]
            piece, found, rest = self._held.partition(mark)
            match self._reading:
                case _Reading.TEXT:
                    shown += self._text(piece, found)
                case _Reading.NAME if found:
                    name = json.loads(piece.removeprefix(_BEFORE_NAME))
                    call_id = f"call_{secrets.token_hex(12)}"
                    calls.append(ToolCallDelta(self.complete, call_id, name))
                case _Reading.ARGUMENTS:
                    ready = piece if found else self._release(overlap(piece, mark))
                    if ready:
                        calls.append(ToolCallDelta(self.complete, arguments=ready))
            if not found:
                return shown, tuple(calls)
            self._held = rest
            self._advance()

    def flush(self) -> str:
        """Text that was held back and became no call, at the end of the answer."""
        held, self._held = self._held, ""
        return held if self._reading is _Reading.TEXT and not self.complete else ""

    def _advance(self) -> None:
        match self._reading:
            case _Reading.TEXT:
                self._reading = _Reading.NAME
            case _Reading.NAME:
                self._reading = _Reading.ARGUMENTS
            case _Reading.ARGUMENTS:
                self._reading = _Reading.TEXT
                self.complete += 1

    def _text(self, piece: str, found: str) -> str:
        if found:
            # The line break before a call belongs to its form, as in the templates.
            return piece.removesuffix(BETWEEN)
        return self._release(max(overlap(piece, mark) for mark in (OPEN, BETWEEN + OPEN)))

    def _release(self, keep: int) -> str:
        """All that is held but its last `keep` characters."""
        cut = len(self._held) - keep
        ready, self._held = self._held[:cut], self._held[cut:]
        return ready


def _quoted(name: str) -> str:
    return json.dumps(name, ensure_ascii=False)

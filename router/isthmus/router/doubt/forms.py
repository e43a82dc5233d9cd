"""JSON, and JSON that must fit a schema, checked while it is written.

A parser with a stack, fed character by character, that knows at each one whether the text can still
become what was asked for. Of a schema it reads `type`, `enum`, `const`, `properties`, `required`,
`additionalProperties` and `items`; whatever else a schema says is left to the reader: this looks
for answers that are lost, and must never call a good one broken.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final

from isthmus.core.chat import ChatRequest, ResponseKind

_SPACE: Final = " \t\n\r"
_LITERALS: Final = ("true", "false", "null")
_NUMBER: Final = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
_NUMBER_SO_FAR: Final = re.compile(
    r"-?(0|[1-9]\d*)?|-?(0|[1-9]\d*)\.\d*|-?(0|[1-9]\d*)(\.\d+)?[eE][+-]?\d*"
)
_DEEPEST: Final = 256
_KEPT_CHARS: Final = 65_536
"""A longer text is not compared with a schema."""
_LONGEST_NUMBER: Final = 1024
"""Digits: a model that writes more of them has lost its way."""

Schema = Mapping[str, Any]


class _Wants(Enum):
    """What may come next at this depth."""

    VALUE = auto()
    VALUE_OR_END = auto()
    KEY = auto()
    KEY_OR_END = auto()
    COLON = auto()
    COMMA_OR_END = auto()
    NOTHING = auto()


@dataclass(slots=True)
class _Level:
    """An object or a list that is open."""

    closes: str
    schema: Schema
    key: str = ""
    seen: set[str] = field(default_factory=set)


class _BrokenError(Exception):
    """The text cannot become what was asked for any more."""


class FormCheck:
    """Watches one text that must be JSON. `feed` it in order."""

    def __init__(self, schema: Schema | None = None, *, must_be_object: bool = False) -> None:
        """`schema`: what the JSON must fit; None: any, or any object with `must_be_object`."""
        self._root: Schema = schema or ({"type": "object"} if must_be_object else {})
        self._levels: list[_Level] = []
        self._wants = _Wants.VALUE
        self._read: list[str] = []
        """Of the text, number or word that is being read."""
        self._kind = ""
        """What is being read: a quote, `0` for a number, `a` for a word, or nothing."""
        self._escape = ""
        self._at = 0
        self._start = 0
        self._broken: int | None = None

    @classmethod
    def of(cls, request: ChatRequest) -> FormCheck | None:
        """What the text of an answer to `request` must be; None where any text will do."""
        asked = request.response_format
        if asked.kind is ResponseKind.TEXT:
            return None
        return cls(asked.schema, must_be_object=asked.kind is ResponseKind.JSON_OBJECT)

    @property
    def complete(self) -> bool:
        """Whether the text is whole as it is."""
        if self._broken is not None:
            return False
        if self._kind == "0" and not self._levels:
            return _NUMBER.fullmatch("".join(self._read)) is not None
        return self._wants is _Wants.NOTHING and not self._kind

    def feed(self, text: str) -> int | None:
        """Take a piece. Where the key or value begins that breaks the form; None: it still fits."""
        for character in text:
            if self._broken is None:
                try:
                    self._take(character)
                except _BrokenError:
                    self._broken = self._start
            self._at += 1
        return self._broken

    def _take(self, character: str) -> None:
        if self._kind == '"':
            self._in_text(character)
            return
        if self._kind:
            if character.isascii() and (character.isalnum() or character in "+-."):
                self._in_word(character)
                return
            self._end_word()
        if character in _SPACE:
            return
        self._start = self._at
        wants = self._wants
        if character in "]}":
            self._close(character)
        elif character == "," and wants is _Wants.COMMA_OR_END:
            self._wants = _Wants.KEY if self._levels[-1].closes == "}" else _Wants.VALUE
        elif character == ":" and wants is _Wants.COLON:
            self._wants = _Wants.VALUE
        elif character == '"' and wants in {_Wants.KEY, _Wants.KEY_OR_END}:
            self._kind, self._read = '"', []
        elif wants in {_Wants.VALUE, _Wants.VALUE_OR_END}:
            self._open_value(character)
        else:
            raise _BrokenError

    def _open_value(self, character: str) -> None:
        schema = self._schema()
        if character in "[{":
            _check_type(schema, "object" if character == "{" else "array")
            if len(self._levels) == _DEEPEST:
                raise _BrokenError
            is_object = character == "{"
            self._levels.append(_Level("}" if is_object else "]", schema))
            self._wants = _Wants.KEY_OR_END if is_object else _Wants.VALUE_OR_END
        elif character == '"':
            _check_type(schema, "string")
            self._kind, self._read = '"', []
        elif character in "-0123456789":
            _check_type(schema, "number")
            self._kind, self._read = "0", [character]
        elif character in "tfn":
            _check_type(schema, "null" if character == "n" else "boolean")
            self._kind, self._read = "a", [character]
        else:
            raise _BrokenError

    def _in_text(self, character: str) -> None:
        if self._escape:
            self._in_escape(character)
        elif character == '"':
            self._kind = ""
            self._end_text()
            return
        elif character == "\\":
            self._escape = "\\"
        elif character < " ":
            raise _BrokenError
        if len(self._read) <= _KEPT_CHARS:
            self._read.append(character)

    def _in_escape(self, character: str) -> None:
        self._escape += character
        if self._escape[1] == "u":
            if len(self._escape) > 2 and character not in "0123456789abcdefABCDEF":
                raise _BrokenError
            if len(self._escape) == 6:
                self._escape = ""
        elif character in '"\\/bfnrt':
            self._escape = ""
        else:
            raise _BrokenError

    def _end_text(self) -> None:
        known = len(self._read) <= _KEPT_CHARS
        text = json.loads('"' + "".join(self._read) + '"') if known else None
        if self._wants in {_Wants.KEY, _Wants.KEY_OR_END}:
            self._take_key(text)
            return
        if known:
            _check_value(self._schema(), text)
        self._end_value()

    def _take_key(self, key: str | None) -> None:
        level = self._levels[-1]
        if key is None or not _allows(level.schema, key):
            raise _BrokenError
        level.key = key
        level.seen.add(key)
        self._wants = _Wants.COLON

    def _in_word(self, character: str) -> None:
        self._read.append(character)
        if len(self._read) > _LONGEST_NUMBER:
            raise _BrokenError
        word = "".join(self._read)
        if self._kind == "0":
            fits = _NUMBER_SO_FAR.fullmatch(word) is not None
        else:
            fits = any(literal.startswith(word) for literal in _LITERALS)
        if not fits:
            raise _BrokenError
        if word in _LITERALS:
            self._end_word()

    def _end_word(self) -> None:
        word = "".join(self._read)
        whole = _NUMBER.fullmatch(word) is not None if self._kind == "0" else word in _LITERALS
        if not whole:
            raise _BrokenError
        self._kind = ""
        _check_value(self._schema(), json.loads(word))
        self._end_value()

    def _end_value(self) -> None:
        self._wants = _Wants.COMMA_OR_END if self._levels else _Wants.NOTHING

    def _close(self, character: str) -> None:
        ends = {_Wants.COMMA_OR_END, _Wants.VALUE_OR_END, _Wants.KEY_OR_END}
        if not self._levels or self._levels[-1].closes != character or self._wants not in ends:
            raise _BrokenError
        level = self._levels.pop()
        required = level.schema.get("required")
        if character == "}" and isinstance(required, list) and not level.seen.issuperset(required):
            raise _BrokenError
        self._end_value()

    def _schema(self) -> Schema:
        """What the value that comes now must fit."""
        if not self._levels:
            return self._root
        level = self._levels[-1]
        if level.closes == "]":
            return {} if "prefixItems" in level.schema else _mapping(level.schema.get("items"))
        properties = _mapping(level.schema.get("properties"))
        if level.key in properties:
            return _mapping(properties[level.key])
        return _mapping(level.schema.get("additionalProperties"))


def _mapping(value: object) -> Schema:
    return value if isinstance(value, Mapping) else {}


def _allows(schema: Schema, key: str) -> bool:
    closed = schema.get("additionalProperties") is False and "patternProperties" not in schema
    return not closed or key in _mapping(schema.get("properties"))


def _check_type(schema: Schema, kind: str) -> None:
    wanted = schema.get("type")
    if wanted is None:
        return
    kinds = [wanted] if isinstance(wanted, str) else wanted
    if not isinstance(kinds, list):
        return
    if kind not in kinds and not (kind == "number" and "integer" in kinds):
        raise _BrokenError


def _check_value(schema: Schema, value: object) -> None:
    wanted = schema.get("type")
    if wanted == "integer" and isinstance(value, float) and not value.is_integer():
        raise _BrokenError
    allowed = schema.get("enum")
    if isinstance(allowed, list) and value not in allowed:
        raise _BrokenError
    if "const" in schema and value != schema["const"]:
        raise _BrokenError

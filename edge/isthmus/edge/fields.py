"""A cursor over decoded JSON that knows its own path, so that every error names the exact field."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, NoReturn

from isthmus.core.errors import InvalidRequest

MAX_DEPTH = 64
"""How deep a free-form value (a tool's JSON schema) may nest."""

_KINDS = {
    dict: "an object",
    list: "an array",
    str: "a string",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    type(None): "null",
}


def decode_json(body: bytes) -> Any:
    """Strict JSON: UTF-8, no NaN or Infinity. Raises `InvalidRequest`."""
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise InvalidRequest(
            f"the body is not valid UTF-8: broken at byte {error.start}", field="body"
        ) from None
    except json.JSONDecodeError as error:
        raise InvalidRequest(
            f"the body is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}",
            field="body",
        ) from None
    except RecursionError:
        raise InvalidRequest("the body is nested too deeply", field="body") from None
    except ValueError:
        # What is left is CPython's limit on the digits of an integer.
        raise InvalidRequest("the body holds a number with too many digits", field="body") from None


def _no_constant(name: str) -> NoReturn:
    raise InvalidRequest(f"the body is not valid JSON: {name} is no JSON number", field="body")


class Field:
    """One value of the request and where it stands. A value of null counts as left out."""

    __slots__ = ("path", "value")

    def __init__(self, value: Any, path: str = "") -> None:
        self.value = value
        self.path = path

    def error(self, problem: str) -> InvalidRequest:
        """An error that names this field. `problem` must not repeat a user's text."""
        subject = f"'{self.path}' " if self.path else "the body "
        return InvalidRequest(subject + problem, field=self.path or "body")

    def fail(self, problem: str) -> NoReturn:
        """Raise `error(problem)`."""
        raise self.error(problem)

    def _expect(self, what: str) -> NoReturn:
        self.fail(f"must be {what}, not {_KINDS.get(type(self.value), 'that')}")

    @property
    def given(self) -> bool:
        """Whether it is there and not null."""
        return self.value is not None

    def object(self) -> Field:
        """Itself, when it is an object."""
        if not isinstance(self.value, dict):
            self._expect("an object")
        return self

    def get(self, name: str) -> Field:
        """A member of an object; one that is missing is not `given`."""
        return Field(self.value.get(name), f"{self.path}.{name}" if self.path else name)

    def need(self, name: str) -> Field:
        """A member that must be there."""
        member = self.get(name)
        if not member.given:
            member.fail("is missing")
        return member

    def only(self, *names: str) -> None:
        """Refuse members of other names: a misspelt option must not be dropped silently."""
        for name in self.value:
            if name not in names:
                # The name is the caller's own text: show it only when it looks like a name.
                shown = name if name.isidentifier() and len(name) <= 64 else "(a strange name)"
                self.get(shown).fail("is not a field that Isthmus knows")

    def array(self) -> Iterator[Field]:
        """The elements of an array."""
        if not isinstance(self.value, list):
            self._expect("an array")
        return (Field(v, f"{self.path}[{i}]") for i, v in enumerate(self.value))

    def text(self) -> str:
        """A string of whole characters."""
        if not isinstance(self.value, str):
            self._expect("a string")
        if not _is_unicode(self.value):
            self.fail("holds half a surrogate pair, which is no character")
        return self.value

    def flag(self) -> bool:
        """A boolean."""
        if not isinstance(self.value, bool):
            self._expect("true or false")
        return self.value

    def optional_flag(self) -> bool | None:
        """A boolean, or `None` when it is left out."""
        return self.flag() if self.given else None

    def number(self, low: float, high: float) -> float:
        """A finite number from `low` to `high`."""
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            self._expect("a number")
        self._within(low, high)
        return float(self.value)

    def integer(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`."""
        if isinstance(self.value, bool) or not isinstance(self.value, int):
            if isinstance(self.value, float):
                self.fail("must be a whole number")
            self._expect("a whole number")
        self._within(low, high)
        return self.value

    def _within(self, low: float, high: float) -> None:
        if isinstance(self.value, float) and not math.isfinite(self.value):
            self.fail("is too large")
        if not low <= self.value <= high:
            self.fail(
                f"must be from {low:g} to {high:g}" if high < 1e12 else f"must be at least {low:g}"
            )

    def choice(self, *choices: str) -> str:
        """One of a few words."""
        text = self.text()
        if text not in choices:
            self.fail(f"must be one of: {', '.join(choices)}")
        return text

    def free_object(self) -> dict[str, Any]:
        """An object of any form that is safe to pass on: not too deep, only real characters."""
        value = self.object().value
        pending: list[tuple[Any, int]] = [(value, 1)]
        while pending:
            node, depth = pending.pop()
            if depth > MAX_DEPTH:
                self.fail(f"is nested more than {MAX_DEPTH} levels deep")
            if isinstance(node, dict):
                pending += ((part, depth + 1) for item in node.items() for part in item)
            elif isinstance(node, list):
                pending += ((part, depth + 1) for part in node)
            elif isinstance(node, str) and not _is_unicode(node):
                self.fail("holds half a surrogate pair, which is no character")
            elif isinstance(node, float) and not math.isfinite(node):
                self.fail("holds a number that is too large")
        return dict(value)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True

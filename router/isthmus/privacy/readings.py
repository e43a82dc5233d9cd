"""What a text says to a reader who undoes the escapes of URLs, JSON and HTML in it."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from urllib.parse import unquote, unquote_plus

_PERCENT = re.compile(r"%[0-9a-fA-F]{2}")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_SHORT = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}


_DEPTH = 2
"""JSON in the strings of JSON is common, a third layer is not."""


def readings(text: str, depth: int = _DEPTH) -> Iterator[str]:
    """What `text` says with each kind of escapes undone, where it has any."""
    for plain in _once(text):
        if plain != text:
            yield plain
            if depth > 1:
                yield from readings(plain, depth - 1)


def _once(text: str) -> Iterator[str]:
    if _PERCENT.search(text):
        yield unquote(text)
        if "+" in text:
            yield unquote_plus(text)
    if "\\" in text:
        yield _ESCAPE.sub(_unescaped, text)
    if "&" in text and ";" in text:
        yield html.unescape(text)


def _unescaped(found: re.Match[str]) -> str:
    return chr(int(found[1], 16)) if found[1] else _SHORT.get(found[2], found[2])

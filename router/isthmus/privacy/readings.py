"""What a text says to a reader who undoes the escapes of URLs, JSON and HTML in it."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from urllib.parse import unquote, unquote_plus

_PERCENT = re.compile(r"%[0-9a-fA-F]{2}")
_UNICODE = re.compile(r"\\u[0-9a-fA-F]{4}")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_SHORT = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}


def readings(text: str, *, all_escapes: bool = False) -> Iterator[str]:
    r"""What `text` says with each kind of escapes undone, where it has any.

    Backslashes count where one is a `\u0041`, and all of them with `all_escapes`: in code they are
    common, and few hide a value.
    """
    if _PERCENT.search(text):
        yield unquote(text)
        if "+" in text:
            yield unquote_plus(text)
    if "\\" in text and (all_escapes or _UNICODE.search(text)):
        yield _ESCAPE.sub(_unescaped, text)
    if "&" in text and ";" in text:
        plain = html.unescape(text)
        if plain != text:
            yield plain


def _unescaped(found: re.Match[str]) -> str:
    return chr(int(found[1], 16)) if found[1] else _SHORT.get(found[2], found[2])

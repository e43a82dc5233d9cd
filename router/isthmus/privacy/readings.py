r"""What a text says to a reader who undoes the escapes and encodings in it."""

from __future__ import annotations

import base64
import html
import quopri
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from urllib.parse import unquote, unquote_plus

_DEPTH = 3
"""How many escapes around one another are undone: JSON in JSON in a URL."""

_PERCENT = re.compile(r"%[0-9a-fA-F]{2}")
_QUOTED_PRINTABLE = re.compile(r"(?:=[0-9A-F]{2}){2}|=40")
_ESCAPE = re.compile(
    r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|u\{([0-9a-fA-F]{1,5})\}|U000([0-9a-fA-F]{5})|(.))",
    re.DOTALL,
)
_SHORT = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}
_BASE64 = re.compile(
    r"(?:[A-Za-z0-9+/_-]{40,}[ \t]{0,8}\r?\n[ \t]{0,8})*[A-Za-z0-9+/_-]{8,}"  # perhaps in lines
)
_HEX = re.compile(r"[0-9a-fA-F]{12,}")
_LEAST_BASE64_CHARS = 12
_FLOAT = re.compile(r"(?<![\w.])\d{1,20}\.\d{1,20}(?:[eE]\+?\d{1,2})?(?![\w.])")
_LEAST_INTEGER = 1_000_000
"""From here on a float may be a telephone's number: tables make floats of all."""
_PIECE_CHARS, _OVERLAP_CHARS = 32_768, 4_096


def readings(text: str) -> Iterator[str]:
    """What `text` says with its escapes undone, and its base64 and hex, where it has any.

    Each kind of escapes alone, and all of them as often as they are around one another.
    """
    kinds: tuple[Callable[[str], str], ...] = (_url, _backslashes, _html, _mail, _numbers)
    found = {text: None}  # each reading once, in order
    plain = text
    for _ in range(_DEPTH):
        found.update((kind(plain), None) for kind in (_form, *kinds))
        before = plain
        for kind in kinds:
            plain = kind(plain)
        if plain == before:
            break
        found[plain] = None
    yield from list(found)[1:]
    for one in found:
        yield from _encoded(one)


def decoded(text: str) -> Iterator[str]:
    """What base64 and hex anywhere in `text` may stand for, whatever it begins with.

    Long ones in pieces that overlap: no call holds the interpreter for long.
    """
    for run in _BASE64.findall(text):
        digits = "".join(run.split()).translate(_STANDARD)
        for begin in range(0, len(digits), _PIECE_CHARS):
            piece = digits[begin : begin + _PIECE_CHARS + _OVERLAP_CHARS]
            for at in range(4):
                yield _from_base64(piece[at:]).decode(errors="replace")
    for run in _HEX.findall(text):
        for begin in range(0, len(run), _PIECE_CHARS):
            piece = run[begin : begin + _PIECE_CHARS + _OVERLAP_CHARS]
            for at in range(2):
                even = piece[at : len(piece) - (len(piece) - at) % 2]
                yield bytes.fromhex(even).decode(errors="replace")


def _encoded(text: str) -> Iterator[str]:
    """What whole runs of base64 and hex in `text` say, together: those that are a text."""
    found = [
        _from_base64("".join(run.split()).translate(_STANDARD))
        for run in _BASE64.findall(text)
        if len(run) >= _LEAST_BASE64_CHARS
    ]
    found += [bytes.fromhex(run) for run in _HEX.findall(text) if len(run) % 2 == 0]
    plain = [said for raw in found if (said := _as_text(raw))]
    if plain:
        yield "\n".join(plain)


_STANDARD = str.maketrans("-_", "+/")


def _from_base64(digits: str) -> bytes:
    whole = digits[: len(digits) - (len(digits) % 4 == 1)]
    return base64.b64decode(whole + "=" * (-len(whole) % 4))


def _as_text(raw: bytes) -> str:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return ""
    return text if all(char.isprintable() or char in "\r\n\t" for char in text) else ""


def _url(text: str) -> str:
    return unquote(text) if _PERCENT.search(text) else text


def _form(text: str) -> str:
    return unquote_plus(text) if "+" in text and _PERCENT.search(text) else text


def _backslashes(text: str) -> str:
    return _ESCAPE.sub(_unescaped, text) if "\\" in text else text


def _html(text: str) -> str:
    return html.unescape(text) if "&" in text else text


def _mail(text: str) -> str:
    if not _QUOTED_PRINTABLE.search(text):
        return text
    return quopri.decodestring(text.encode("utf-8", "surrogatepass")).decode(errors="replace")


def _numbers(text: str) -> str:
    return _FLOAT.sub(_integer, text)


def _integer(found: re.Match[str]) -> str:
    number = Decimal(found[0])
    whole = number == number.to_integral_value() and number >= _LEAST_INTEGER
    return str(int(number)) if whole else found[0]


def _unescaped(found: re.Match[str]) -> str:
    number = found[1] or found[2] or found[3] or found[4]
    if number is None:
        return _SHORT.get(found[5], found[5])
    return chr(int(number, 16))

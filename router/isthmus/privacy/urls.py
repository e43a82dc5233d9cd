"""Whether a text is inside of a URL that would carry what comes next to a foreign host.

An answer that is rendered fetches its pictures by itself: a cloud model that was talked into it by
a page can so send out what a device puts back. Only what came before is looked at, so a stream is
judged as the whole is; of each URL a beginning is kept that is long enough to hold its host. A URL
that is longer, or holds another one that its host might send the value on to, is foreign too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from isthmus.core.chat import ChatRequest, Role

_KEPT_CHARS = 300
"""A scheme and a host (253 characters, RFC 1035) fit in."""
_RECENT_CHARS = 40
_MOST_OPEN = 16

_WRITTEN_BY_PEOPLE = {Role.SYSTEM, Role.DEVELOPER, Role.USER}
# Begun at a word's beginning alone: a long word is not looked through again from each letter.
_HOST = re.compile(r"(?<![\w-])(?:[\w-]+\.)+[\w-]+|(?<=://)[\w-]+")
_SCHEME = re.compile(
    r"(?:(?<![a-z0-9])(?:https?|ftp|wss?|javascript|vbscript|blob|file):"
    r"|[a-z][a-z0-9+.-]{1,20}:(?:\\?[/\\]){2}"
    r"|(?<![a-z])data:[\w.+-]{0,20}[/;,]"
    r"|(?<![\w.])www\.)\Z",
    re.IGNORECASE,
)
_ATTRIBUTE = r"(?:src|href|srcset|action|poster|background|ping)\s{0,8}=\s{0,8}"
_UNQUOTED = re.compile(rf"{_ATTRIBUTE}\Z", re.IGNORECASE)
_QUOTED = re.compile(rf"(?:{_ATTRIBUTE}|url\(\s{{0,8}})\\?[\"']\Z", re.IGNORECASE)
_PARENTHESIS = re.compile(r"(?:\]|url)\(\Z", re.IGNORECASE)
_ANGLE = re.compile(r"\](?:\(|:)\s{0,8}<\Z")
_ENDS_OPENER = frozenset(":/\\.,;=\"'(<")

_AT_HOST = re.compile(
    r"\s*(?:(?:https?|ftp|wss?)://|(?=www\.))([\w.-]+)(?::\d{1,5})?[/?#]", re.IGNORECASE
)
# What such a host may send on with all that is in it: "?to=https%3A%2F%2F…", "?to=//…",
# "?to=www.…". One that is not escaped begins a URL of its own.
_SENT_ON = re.compile(
    r"(?::|%(?:25)*3a)(?:[/\\]|%(?:25)*(?:2f|5c)){2}|(?:=|%(?:25)*3d)"
    r"(?:(?:[/\\]|%(?:25)*(?:2f|5c)){2}|(?:[\w-]+\.)+[a-z]{2,}(?:[/?]|%(?:25)*(?:2f|3f)))",
    re.IGNORECASE,
)
_RELATIVE = re.compile(r"(?!\s*[/\\]{2})(?:[^:\\&\t\r\n]|&(?![#\w]*;|#))*")
_WRITTEN_TO = re.compile(r"\s*(?:mailto|tel|sms):", re.IGNORECASE)
_ABSOLUTE = re.compile(
    r"\s*(?:(?:https?|ftp|wss?):|[a-z][a-z0-9+.-]+:[/\\]{2}|[/\\]{2,}[^\s/\\]|www\.)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class OwnHosts:
    """The hosts that people name in a request; what a tool fetched, or a model said, names none."""

    hosts: frozenset[str] = frozenset()
    text: str = ""

    @classmethod
    def of(cls, request: ChatRequest) -> OwnHosts:
        """Those of `request`, as it left."""
        said = (one.text for one in request.messages if one.role in _WRITTEN_BY_PEOPLE)
        text = "\n".join(said)
        return cls(frozenset(host.lower() for host in _HOST.findall(text)), text)


NONE_NAMED = OwnHosts()


class _Kind(Enum):
    """Where a URL stands, and so what ends it."""

    PROSE = "prose"
    UNQUOTED = "attribute"
    PARENTHESIS = "Markdown's target"
    REFERENCE = "Markdown's reference"
    ANGLE = "<>"
    SINGLE = "'"
    DOUBLE = '"'
    JSON = "a string of JSON"


@dataclass(slots=True)
class _Open:
    kind: _Kind
    begun: str = ""
    depth: int = 0

    def ended_by(self, char: str) -> bool:
        blank = not self.begun.strip()
        match self.kind:
            case _Kind.PROSE:
                return char.isspace() or char in '<>"，。；：！？、）》」』】”'
            case _Kind.UNQUOTED:
                return char == ">" or (char in " \t\r\n\f" and not blank)
            case _Kind.PARENTHESIS:
                self.depth += (char == "(") - (char == ")")
                return self.depth < 0 or (char in " \t\r\n\f" and not blank)
            case _Kind.REFERENCE:
                return char in " \t\r\n\f" and not blank
            case _Kind.ANGLE:
                return char in ">\n"
            case _Kind.JSON:
                return False
            case _:
                return bool(char == self.kind.value)


class Urls:
    """Follows one text as it arrives, in pieces cut anywhere."""

    def __init__(self, own: OwnHosts, *, in_json: bool = False) -> None:
        self._own = own
        self._in_json = in_json
        self._recent = ""
        self._open: list[_Open] = []

    def feed(self, text: str) -> None:
        """The text goes on."""
        for char in text:
            self._step(char)

    def foreign(self, placeholder: str) -> bool:
        """Whether what comes next would go to a host that nobody named in the request."""
        return any(not self._is_own(one, placeholder) for one in self._open)

    def _step(self, char: str) -> None:
        ended = [one for one in self._open if one.ended_by(char)]
        if any(one.kind is not _Kind.PROSE for one in ended):
            # What was written inside of a target ends with it.
            ended += [one for one in self._open if one.kind is _Kind.PROSE]
        if ended:
            self._open = [one for one in self._open if not any(one is end for end in ended)]
        for one in self._open:
            if len(one.begun) < _KEPT_CHARS:
                one.begun += char
        self._recent = (self._recent + char)[-_RECENT_CHARS:]
        if char in _ENDS_OPENER:
            self._begin(char)

    def _begin(self, char: str) -> None:
        recent = self._recent
        if self._in_json and char == '"':
            escapes = len(recent) - 1 - len(recent[:-1].rstrip("\\"))
            if escapes % 2 == 0:
                self._open = [_Open(_Kind.JSON)]
                return
        if (scheme := _SCHEME.search(recent)) is not None:
            self._add(_Open(_Kind.PROSE, scheme[0]))
        if char == "=" and _UNQUOTED.search(recent):
            self._add(_Open(_Kind.UNQUOTED))
        elif char in "\"'" and _QUOTED.search(recent):
            self._open = [one for one in self._open if one.kind is not _Kind.UNQUOTED]
            self._add(_Open(_Kind(char)))
        elif char == "(" and _PARENTHESIS.search(recent):
            self._add(_Open(_Kind.PARENTHESIS))
        elif char == "<" and _ANGLE.search(recent):
            self._add(_Open(_Kind.ANGLE))
        elif recent.endswith("]:"):
            self._add(_Open(_Kind.REFERENCE))

    def _add(self, one: _Open) -> None:
        if len(self._open) < _MOST_OPEN:
            self._open.append(one)
        else:
            self._open[-1] = _Open(one.kind, ":" * _KEPT_CHARS)  # too many to tell apart

    def _is_own(self, one: _Open, placeholder: str) -> bool:
        begun = one.begun.replace("\\/", "/") if self._in_json else one.begun
        at = _AT_HOST.match(begun)
        whole = len(begun) < _KEPT_CHARS
        stays = whole and not _SENT_ON.search(begun, at.end() if at else 0)
        if at is not None and stays and at[1].lower() in self._own.hosts:
            return True
        if whole and _ABSOLUTE.match(begun) and begun.strip() + placeholder in self._own.text:
            return True  # a URL of the request itself, a value in it included
        match one.kind:
            case _Kind.PROSE:
                return False
            case _Kind.JSON:
                return _ABSOLUTE.match(begun) is None
            case _:
                return (stays and _RELATIVE.fullmatch(begun) is not None) or bool(
                    _WRITTEN_TO.match(begun)
                )

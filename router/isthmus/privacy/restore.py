"""Putting the values back into an answer while it arrives.

Only a suffix that may still become a placeholder is held back, so the text that has been given is,
cut anywhere, the beginning of the whole text restored. In a URL of a host that the request does not
name a placeholder stays: what fetches it would tell the value.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import NamedTuple

from isthmus.core.chat import ChatRequest, ResponseKind
from isthmus.core.events import Delta, TokenLogprob, ToolCallDelta
from isthmus.privacy.urls import NONE_NAMED, OwnHosts, Urls
from isthmus.privacy.vault import Vault


def restore(text: str, vault: Vault, *, in_json: bool = False) -> str:
    """The whole of `text` with the values of `vault` in it; escaped when it is JSON."""
    restorer = TextRestorer(vault, in_json=in_json)
    return restorer.feed(text) + restorer.flush()


class TextRestorer:
    """Restores one text that comes in pieces.

    `only`: the codes that left; `said`: the text that they left in, for labels without their code.
    `on_piece(arrived, value)` hears how the text moves on: so much of what arrived has been given,
    as `value` or, where that is None, as it is.
    """

    def __init__(
        self,
        vault: Vault,
        *,
        in_json: bool = False,
        only: Collection[str] | None = None,
        said: str = "",
        own: OwnHosts = NONE_NAMED,
        on_piece: Callable[[str, str | None], None] | None = None,
    ) -> None:
        self._forms = vault.forms(in_json=in_json, only=only, unless_in=said)
        self._values = vault.values
        self._in_json = in_json
        self._urls = Urls(own, in_json=in_json)
        self._on_piece = on_piece
        self._held = ""
        self._before = ""
        """The character before what is held: a placeholder without brackets begins a word."""

    def feed(self, text: str) -> str:
        """What can be given now that `text` has arrived."""
        return self._give(self._held + text, final=False)

    def flush(self) -> str:
        """The rest, when no more comes."""
        return self._give(self._held, final=True)

    def _give(self, arrived: str, *, final: bool) -> str:
        if self._forms is None:
            return self._piece(arrived)
        text = self._before + arrived
        at = len(self._before)
        end = len(text) if final else self._forms.undecided(text, at)
        pieces = []
        while (found := self._forms.find(text, at)) is not None:
            start, stop, code = found
            if start >= end:
                break
            pieces.append(self._piece(text[at:start]))
            pieces.append(self._piece(text[start:stop], self._value(text[start:stop], code)))
            at = stop
            end = max(end, at)
        pieces.append(self._piece(text[at:end]))
        self._held = text[end:]
        self._before = text[max(0, end - 1) : end]
        return "".join(pieces)

    def _value(self, placeholder: str, code: str) -> str | None:
        """What is given for a placeholder; None where it stays."""
        if self._urls.foreign(placeholder):
            return None
        value = self._values[code]
        return json.dumps(value, ensure_ascii=False)[1:-1] if self._in_json else value

    def _piece(self, arrived: str, value: str | None = None) -> str:
        self._urls.feed(arrived)
        if self._on_piece is not None and arrived:
            self._on_piece(arrived, value)
        return arrived if value is None else value


class AnswerRestorer:
    """Restores the events of one answer: text, log-probabilities, the arguments of tool calls."""

    def __init__(
        self, request: ChatRequest, vault: Vault, only: Collection[str] | None = None
    ) -> None:
        """`only`: the codes that the request held; an answer that has others made them up."""
        self._vault = vault
        self._only = only
        self._own = OwnHosts.of(request)
        texts = (*(message.text for message in request.messages), request.answer_so_far)
        self._said = "\n".join(texts)
        self._tokens = _Tokens()
        self._text = TextRestorer(
            vault,
            in_json=request.response_format.kind is not ResponseKind.TEXT,
            only=only,
            said=self._said,
            own=self._own,
            on_piece=self._tokens.moved,
        )
        self._arguments: dict[int, TextRestorer] = {}

    def feed(self, delta: Delta) -> Delta:
        """The delta as it may be shown; perhaps with nothing in it yet."""
        self._tokens.arrived(delta.logprobs)
        text = self._text.feed(delta.text)
        calls = tuple(
            replace(call, arguments=self._of(call.index).feed(call.arguments))
            for call in delta.tool_calls
        )
        return replace(
            delta, text=text, logprobs=self._tokens.take(), tool_calls=calls, token_ids=()
        )

    def flush(self) -> Delta | None:
        """What was held back to the end."""
        text = self._text.flush()
        calls = tuple(
            ToolCallDelta(index, arguments=rest)
            for index, restorer in self._arguments.items()
            if (rest := restorer.flush())
        )
        logprobs = self._tokens.take(last=True)
        if not (text or calls or logprobs):
            return None
        return Delta(text, tokens=0, logprobs=logprobs, tool_calls=calls)

    def _of(self, index: int) -> TextRestorer:
        if index not in self._arguments:
            self._arguments[index] = TextRestorer(
                self._vault, in_json=True, only=self._only, said=self._said, own=self._own
            )
        return self._arguments[index]


class _Tokens:
    """The tokens' log-probabilities, beside a text in which some of them become one value.

    Those that a placeholder took become a single entry: what was given for them, with the sum.
    Tokens are matched with the text by their bytes, since one may be a part of a character.
    """

    def __init__(self) -> None:
        self._waiting: list[TokenLogprob] = []
        self._at = 0
        """Where the first one that waits begins, in bytes of the text that arrived."""
        self._given = 0
        """How far the text has been given."""
        self._pieces: list[_Piece] = []

    def arrived(self, tokens: tuple[TokenLogprob, ...]) -> None:
        self._waiting += tokens

    def moved(self, arrived: str, value: str | None) -> None:
        """So much of what arrived has been given, as itself or as a value."""
        raw = arrived.encode()
        self._pieces.append(_Piece(self._given, raw, value))
        self._given += len(raw)

    def take(self, *, last: bool = False) -> tuple[TokenLogprob, ...]:
        """The entries of what has been given since the last time."""
        entries = []
        while self._waiting:
            count, end, value = self._group()
            if end > self._given and not last:
                break
            group = self._waiting[:count]
            del self._waiting[:count]
            entries.append(self._merged(group, end) if value else group[0])
            self._at = end
        if not self._waiting:
            self._at = self._given
        self._pieces = [piece for piece in self._pieces if piece.end > self._at]
        return tuple(entries)

    def _group(self) -> tuple[int, int, bool]:
        """How many tokens belong together, where they end, whether a value is among them."""
        count, end, value = 1, self._at + len(self._waiting[0].raw), False
        for piece in self._pieces:
            if piece.value is None or piece.end <= self._at:
                continue
            if piece.start >= end:
                break
            value = True
            while end < piece.end and count < len(self._waiting):
                end += len(self._waiting[count].raw)
                count += 1
            end = max(end, piece.end)
        return count, end, value

    def _merged(self, group: list[TokenLogprob], end: int) -> TokenLogprob:
        raw = b""
        for piece in self._pieces:
            if piece.start >= end or piece.end <= self._at:
                continue
            if piece.value is None:
                raw += piece.raw[max(0, self._at - piece.start) : end - piece.start]
            else:
                raw += piece.value.encode()
        text = raw.decode(errors="replace")
        return TokenLogprob(text, sum(token.logprob for token in group), raw)


class _Piece(NamedTuple):
    """A piece of the text that arrived, from byte `start`, and the value it was given as."""

    start: int
    raw: bytes
    value: str | None

    @property
    def end(self) -> int:
        return self.start + len(self.raw)

"""A streamed answer of OpenAI's `/chat/completions`: server-sent events, chunks, errors."""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from isthmus.core.errors import (
    ContextTooLong,
    DeadlineExceeded,
    InvalidRequest,
    IsthmusError,
    NotSupported,
    Overloaded,
    Unavailable,
)
from isthmus.core.events import (
    Delta,
    Finished,
    FinishReason,
    TokenLogprob,
    ToolCallDelta,
    TopLogprob,
)
from isthmus.core.money import Usage

_MAX_EVENT_BYTES: Final = 8 * 2**20
_MOST: Final = 2**31 - 1
_IDENTIFIER: Final = re.compile(r"[a-z_]{1,64}", re.ASCII)
_PARAMETER: Final = re.compile(r"[A-Za-z_0-9.\[\]]{1,64}", re.ASCII)
_TOO_LONG: Final = ("context length", "context_length", "max_model_len")
_FINISH: Final = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
}


class ServerSentEvents:
    """The `data` of each server-sent event (WHATWG HTML, section 9.2.6), up to `[DONE]`.

    Lines are split on bytes: text may hold U+2028 and its like, which `str.splitlines` and httpx
    take for line ends.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0
        self._begun = False
        self.ended = False
        """Whether `[DONE]` has come."""

    def feed(self, chunk: bytes) -> list[bytes]:
        """What `chunk` completes. Raises `Unavailable` for an event that is too large."""
        if self.ended:
            return []
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        found: list[bytes] = []
        for raw in lines:
            line = raw.removesuffix(b"\r")
            if not self._begun:
                self._begun = True
                line = line.removeprefix(codecs.BOM_UTF8)
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
                self._size += len(line)
            elif not line and self._data:
                data = b"\n".join(self._data)
                self._data = []
                self._size = 0
                if data == b"[DONE]":
                    self.ended = True
                    break
                found.append(data)
        if self._size + len(self._rest) > _MAX_EVENT_BYTES:
            raise Unavailable("the upstream sent an event that is too large")
        return found


class Answer:
    """Reads the events of one answer and remembers what its end needs."""

    def __init__(self, said: str = "") -> None:
        """`said` is what the answer may begin with and the caller has: it is left out."""
        self._said = said
        self._left_out = 0
        self._finish: FinishReason | None = None
        self._usage: Usage | None = None
        self._tokens = 0

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt, 0 while the upstream has not told."""
        return 0 if self._usage is None else self._usage.prompt_tokens

    @property
    def complete(self) -> bool:
        """Whether its end has come, though there may be more to tell of it."""
        return self._finish is not None

    def read(self, events: Sequence[bytes]) -> tuple[Delta | None, IsthmusError | None]:
        """The piece of answer in `events`, if any; and what went wrong behind it, if anything."""
        pieces: list[Delta] = []
        failure: IsthmusError | None = None
        try:
            for data in events:
                piece = self._event(data)
                if piece is not None:
                    pieces.append(piece)
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError):
            # Without its cause, which may hold the text.
            failure = Unavailable("the upstream sent a chunk that cannot be read")
        except IsthmusError as error:
            failure = error
        if len(pieces) < 2:
            return (pieces[0] if pieces else None), failure
        return _together(pieces), failure

    def end(self) -> Finished:
        """The end of the answer. Raises `Unavailable` when the stream broke off before it."""
        if self._finish is None:
            raise Unavailable("the upstream ended the stream before the end of the answer")
        usage = self._usage or Usage(completion_tokens=self._tokens)
        left = max(0, usage.completion_tokens - self._left_out)
        return Finished(self._finish, replace(usage, completion_tokens=left))

    def _event(self, data: bytes) -> Delta | None:
        chunk = json.loads(data.decode())
        if error := chunk.get("error"):
            raise error_of(int(error.get("code") or 500), chunk)
        usage = chunk.get("usage")
        if usage:
            self._usage = _usage(usage)
        choices = chunk.get("choices")
        return self._choice(choices[0], told=bool(usage)) if choices else None

    def _choice(self, choice: Mapping[str, Any], *, told: bool) -> Delta | None:
        finish = choice.get("finish_reason")
        if finish == "abort":
            raise Unavailable("the upstream aborted the answer")
        if finish:
            self._finish = _FINISH.get(finish, FinishReason.STOP)
        delta = choice.get("delta") or {}
        text = _text(delta.get("content"))
        calls = delta.get("tool_calls")
        logprobs = (choice.get("logprobs") or {}).get("content")
        if not (text or calls or logprobs):
            return None
        tokens = self._counted(len(logprobs or ()), told=told)
        if self._said and text:
            text = self._without_said(text)
            if not text:
                self._left_out += tokens
                return None
        return Delta(
            text,
            tokens,
            tuple(_token_logprob(one) for one in logprobs or ()),
            tuple(_tool_call(call) for call in calls or ()),
        )

    def _counted(self, logprobs: int, *, told: bool) -> int:
        """How many tokens a chunk has: OpenAI's do not say, but vLLM's usage or log-probabilities
        may.
        """
        if told and self._usage is not None:
            tokens = self._usage.completion_tokens - self._tokens
            self._tokens = self._usage.completion_tokens
            return max(0, tokens)
        tokens = logprobs or 1
        self._tokens += tokens
        return tokens

    def _without_said(self, text: str) -> str:
        """`text` without what of it the caller has already."""
        said = self._said
        for at, (ours, theirs) in enumerate(zip(said, text, strict=False)):
            if ours != theirs:
                self._said = ""
                return text[at:]
        self._said = said[len(text) :]
        return text[len(said) :]


def _together(pieces: Sequence[Delta]) -> Delta:
    return Delta(
        "".join(piece.text for piece in pieces),
        sum(piece.tokens for piece in pieces),
        tuple(one for piece in pieces for one in piece.logprobs),
        tuple(one for piece in pieces for one in piece.tool_calls),
    )


def error_of(status: int, body: Any, retry_after: str | None = None) -> IsthmusError:
    """Core's error for an upstream's HTTP status and body.

    The upstream's own message is not passed on: it may quote the request. `body` may be anything.
    """
    detail = body.get("error", body) if isinstance(body, dict) else {}
    detail = detail if isinstance(detail, dict) else {}
    message = str(detail.get("message", ""))
    code = str(detail.get("code", ""))
    shown = f" ({code})" if _IDENTIFIER.fullmatch(code) else ""
    param = str(detail.get("param") or "")
    field = param if _PARAMETER.fullmatch(param) else None
    match status:
        case 400 | 422 if any(sign in message + code for sign in _TOO_LONG):
            return ContextTooLong(
                "the conversation does not fit the upstream's context; shorten it",
                field="messages",
            )
        case 400 | 422:
            return InvalidRequest(f"the upstream refused the request{shown}", field=field)
        case 401 | 403:
            return Unavailable("the upstream does not accept the gateway's key")
        case 404:
            return Unavailable("the upstream does not know the model or the address")
        case 408 | 504:
            return DeadlineExceeded("the upstream ran out of time")
        case 413:
            return InvalidRequest("the request is too large for the upstream", field="messages")
        case 429:
            return Overloaded("the upstream is full", retry_after_s=_seconds(retry_after))
        case 501:
            return NotSupported(f"the upstream cannot do this{shown}", field=field)
        case _:
            return Unavailable(f"the upstream failed with HTTP status {status}{shown}")


def _seconds(retry_after: str | None) -> float:
    try:
        seconds = float(retry_after or 1)
    except ValueError:
        seconds = math.nan
    # The header's other form is a date; a second is a fair first try.
    return 1.0 if math.isnan(seconds) else min(max(seconds, 0.0), 3600.0)


def _text(value: object) -> str:
    """What is text and can be sent on, since JSON may hold half a character.

    Raises `TypeError` and `ValueError`.
    """
    if not value:
        return ""
    if not isinstance(value, str):
        raise TypeError("no text")
    value.encode()
    return value


def _count(value: Any) -> int:
    """A number of things, within what can be sent on; 0 where none is told."""
    return min(max(int(value or 0), 0), _MOST)


def _usage(usage: Mapping[str, Any]) -> Usage:
    details = usage.get("prompt_tokens_details") or {}
    return Usage(
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
        cached_tokens=_count(details.get("cached_tokens")),
    )


def _token_logprob(one: Mapping[str, Any]) -> TokenLogprob:
    return TokenLogprob(
        *_logprob(one), top=tuple(TopLogprob(*_logprob(each)) for each in one["top_logprobs"])
    )


def _logprob(one: Mapping[str, Any]) -> tuple[str, float, bytes]:
    token = _text(one["token"])
    raw = one.get("bytes")
    return token, float(one["logprob"]), token.encode() if raw is None else bytes([*raw])


def _tool_call(call: Mapping[str, Any]) -> ToolCallDelta:
    function = call.get("function") or {}
    return ToolCallDelta(
        index=_count(call.get("index")),
        id=_text(call.get("id")),
        name=_text(function.get("name")),
        arguments=_text(function.get("arguments")),
    )

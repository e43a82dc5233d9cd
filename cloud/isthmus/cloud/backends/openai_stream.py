"""A streamed answer of OpenAI's `/chat/completions`: server-sent events, chunks, errors."""

from __future__ import annotations

import json
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
        self.ended = False
        """Whether `[DONE]` has come."""

    def feed(self, chunk: bytes) -> list[bytes]:
        """What `chunk` completes. Raises `Unavailable` for an event that is too large."""
        if self.ended:
            return []
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > _MAX_EVENT_BYTES:
            raise Unavailable("the upstream sent an event that is too large")
        found: list[bytes] = []
        for raw in lines:
            line = raw.removesuffix(b"\r")
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
            elif not line and self._data:
                data = b"\n".join(self._data)
                self._data = []
                if data == b"[DONE]":
                    self.ended = True
                    break
                found.append(data)
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
        except (ValueError, TypeError, KeyError, AttributeError, LookupError):
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
        left = usage.completion_tokens - self._left_out
        return Finished(self._finish, replace(usage, completion_tokens=left))

    def _event(self, data: bytes) -> Delta | None:
        chunk = json.loads(data.decode())
        if "error" in chunk:
            raise error_of(int(chunk["error"].get("code") or 500), chunk)
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
        text = delta.get("content") or ""
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
        return min(max(float(retry_after or 1), 0.0), 3600.0)
    except ValueError:
        return 1.0  # the header's other form is a date; a second is a fair first try


def _usage(usage: Mapping[str, Any]) -> Usage:
    details = usage.get("prompt_tokens_details") or {}
    return Usage(
        prompt_tokens=int(usage.get("prompt_tokens") or 0),
        completion_tokens=int(usage.get("completion_tokens") or 0),
        cached_tokens=int(details.get("cached_tokens") or 0),
    )


def _token_logprob(one: Mapping[str, Any]) -> TokenLogprob:
    return TokenLogprob(
        *_logprob(one), top=tuple(TopLogprob(*_logprob(each)) for each in one["top_logprobs"])
    )


def _logprob(one: Mapping[str, Any]) -> tuple[str, float, bytes]:
    token = str(one["token"])
    raw = one.get("bytes")
    return token, float(one["logprob"]), token.encode() if raw is None else bytes(raw)


def _tool_call(call: Mapping[str, Any]) -> ToolCallDelta:
    function = call.get("function") or {}
    return ToolCallDelta(
        index=int(call.get("index") or 0),
        id=call.get("id") or "",
        name=function.get("name") or "",
        arguments=function.get("arguments") or "",
    )

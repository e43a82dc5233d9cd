"""One upstream at one address: OpenAI's protocol over HTTP."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final

from isthmus.cloud.backends.base import BackendConfig
from isthmus.cloud.backends.openai_body import body_of
from isthmus.cloud.backends.openai_draft import JUDGING, read_judged
from isthmus.cloud.backends.openai_stream import Answer, ServerSentEvents, error_of
from isthmus.cloud.drafts import JudgedToken
from isthmus.cloud.upstreams.discovery import Address
from isthmus.cloud.upstreams.http import Connections, Origin, Response
from isthmus.core import genai
from isthmus.core.chat import ChatRequest
from isthmus.core.errors import InvalidRequest, IsthmusError, NotSupported, Unavailable
from isthmus.core.events import Delta, Event, Started
from isthmus.core.tracing.base import Attributes, Kind, Span

_LAST_BYTES_S: Final = 0.02
_MAX_ERROR_BYTES: Final = 64 * 1024
_NOTHING_MORE: Final[Mapping[str, Any]] = MappingProxyType({})
_MAX_TOLD_BYTES: Final = 8 * 2**20
_MOST_CONTEXT: Final = 2**31 - 1
_MAX_JUDGED_BYTES: Final = 64 * 2**20
_QUEUES: Final = re.compile(
    rb"^vllm:num_requests_(running|waiting)(?:\{[^\n]*\})? ([0-9.eE+]+)", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Told:
    """What an upstream says of itself."""

    context_tokens: int = 0
    """0: it does not say."""
    is_vllm: bool = False
    load: float | None = None
    """Requests in it, whoever sent them; none: it does not say."""
    waiting: int = 0
    """Those of them that wait there for their turn; 0: none, or it does not say."""


class UpstreamClient:
    """Asks one upstream. Any number of `generate()` at once, then `close()`."""

    def __init__(
        self, config: BackendConfig, address: Address, *, tls: ssl.SSLContext | None = None
    ) -> None:
        """`tls` may be shared with others; making one takes longer than all the rest here."""
        self._config = config
        self._limits = config.upstreams
        self.address = address
        self.told = Told(is_vllm=bool(config.upstreams.vllm))
        self._probed = False
        headers = {"content-type": "application/json"}
        if config.api_key is not None:
            headers["authorization"] = f"Bearer {config.api_key.get_secret_value()}"
        self._connections = Connections(
            Origin(
                scheme=address.scheme,
                address=address.ip or address.host,
                port=address.port,
                host=address.name,
                tls=tls,
                server_name=address.host,
            ),
            connect_s=config.connect_timeout_s,
            headers=headers,
        )

    @property
    def continues(self) -> bool:
        """Whether it can go on with a begun answer."""
        said = self._limits.continue_final_message
        return self.told.is_vllm if said is None else said

    @property
    def salts(self) -> bool:
        """Whether it keeps tenants' prefixes apart."""
        said = self._limits.cache_salt
        return self.told.is_vllm if said is None else said

    @property
    def judges(self) -> bool:
        """Whether it can judge a draft, and go on from it."""
        said = self._limits.prompt_logprobs
        return self.continues and (self.told.is_vllm if said is None else said)

    async def close(self) -> None:
        """Close every connection. Safe to call twice."""
        await self._connections.close()

    def cut(self) -> None:
        """Give up whatever is waited for now: the upstream is known to be gone."""
        self._connections.cut()

    async def probe(self) -> None:
        """Ask for `/models`; an answer of any kind below 500 but a refused key is good.

        Keeps what it says in `told`. Raises `Unavailable`.
        """
        status, body = await self._got(self.address.path + "models")
        if status in {401, 403} or status >= 500:
            raise error_of(status, None)
        told = _told(body, self._config.model)
        if self._limits.vllm is not None:
            told = replace(told, is_vllm=self._limits.vllm)
        if told.is_vllm and self._limits.read_load:
            with suppress(Unavailable):
                load, waiting = _load(*await self._got("/metrics"))
                told = replace(told, load=load, waiting=waiting)
        self.told = told
        self._probed = True

    def span_of(self, request: ChatRequest) -> Span:
        """The span of one try to have `request` answered here."""
        told: Attributes = {
            "gen_ai.operation.name": genai.CHAT,
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": self._config.model,
            "server.address": self.address.host,
            "server.port": self.address.port,
            "isthmus.continues": bool(request.answer_so_far),
        }
        return request.span.child(f"chat {self._config.model}", Kind.CLIENT, told)

    async def generate(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        """Stream the upstream's answer; leaving closes the connection, which aborts it there.

        Events that came together are one `Delta`.
        """
        # A template may cut the spaces that a begun answer ends with, and a model goes on best from
        # a whole word: it writes them again, and they are left out here.
        kept = request.answer_so_far.rstrip()
        spaces = request.answer_so_far[len(kept) :]
        answer = Answer(said=spaces)
        began = False
        async with aclosing(self._pieces(replace(request, answer_so_far=kept), answer)) as deltas:
            async for delta in deltas:
                if not began:
                    began = True
                    yield Started(self._config.model, answer.prompt_tokens)
                if delta is not None:
                    yield delta
        yield answer.end()

    async def judge(self, request: ChatRequest) -> list[JudgedToken]:
        """The draft's tokens by vLLM's `prompt_logprobs`, from a call that writes one token.

        What such a server computes is in its prefix cache when the answer is asked for.
        """
        begun = replace(request, answer_so_far=request.answer_so_far + request.draft)
        response = await self._asked(begun, JUDGING)
        try:
            if response.status != HTTPStatus.OK:
                raise await _failure(response)
            body = await response.read_all(_MAX_JUDGED_BYTES)
        finally:
            response.close()
        tokens = read_judged(body, request.draft)
        if tokens is None:
            raise NotSupported("the upstream told no log-probabilities of the draft", field="draft")
        return tokens

    async def _pieces(
        self, request: ChatRequest, answer: Answer
    ) -> AsyncGenerator[Delta | None, None]:
        """What each piece of the response adds to `answer`; none: nothing that is to be told."""
        response = await self._asked(request)
        try:
            if response.status != HTTPStatus.OK:
                raise await _failure(response)
            events = ServerSentEvents()
            while not events.ended:
                piece = await response.read()
                if not piece:
                    return
                found = events.feed(piece)
                if found:
                    response.wait_at_most(self._limits.silence_s)
                    delta, failure = answer.read(found)
                    yield delta
                    if failure is not None:
                        raise failure
            # A connection is only used again when its last response was read to the end.
            response.wait_at_most(_LAST_BYTES_S)
            await response.read()
        except Unavailable:
            # Of a whole answer only the last bytes behind it are missing.
            if not answer.complete:
                raise
        finally:
            response.close()

    async def _body(self, request: ChatRequest) -> dict[str, Any]:
        if request.cache_salt and not self._probed and self._limits.cache_salt is None:
            # Before it has said what it is, it might mix the prefixes of tenants.
            await self.probe()
        body = body_of(request, self._config.model) | self._config.options
        if self.salts and request.cache_salt:
            body["cache_salt"] = request.cache_salt
        if self.told.is_vllm:
            # So every piece tells how many tokens it is.
            body["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
        return body

    async def _asked(
        self, request: ChatRequest, more: Mapping[str, Any] = _NOTHING_MORE
    ) -> Response:
        traceparent = request.span.traceparent
        return await self._connections.ask(
            "POST",
            f"{self.address.path}chat/completions",
            _encoded({**await self._body(request), **more}),
            within_s=self._limits.first_token_s,
            headers={"traceparent": traceparent} if traceparent else None,
        )

    async def _got(self, path: str) -> tuple[int, bytes]:
        """Status and body."""
        seconds = self._limits.probe_timeout_s
        try:
            # All of it, the connection too: a host that is gone takes none and refuses none.
            async with asyncio.timeout(seconds):
                response = await self._connections.ask("GET", path, b"", within_s=seconds)
                try:
                    return response.status, await response.read_all(_MAX_TOLD_BYTES)
                finally:
                    response.close()
        except TimeoutError:
            raise Unavailable("the upstream answers no probe in time") from None


async def _failure(response: Response) -> IsthmusError:
    raw = await response.read_all(_MAX_ERROR_BYTES)
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        body = None
    return error_of(response.status, body, response.headers.get("retry-after"))


def _encoded(body: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    except ValueError:
        # Without its cause, which holds the text.
        raise InvalidRequest(
            "a schema of the request holds half of a character, or a number that is not finite"
        ) from None


def _told(body: bytes, model: str) -> Told:
    try:
        listed = json.loads(body)["data"]
        found: dict[str, Any] = next((one for one in listed if one["id"] == model), {})
        # Ray Serve tells it in a place of its own.
        ray = (found.get("metadata") or {}).get("max_request_context_length")
        context_tokens = int(found.get("max_model_len") or ray or 0)
        context_tokens = min(max(0, context_tokens), _MOST_CONTEXT)
        return Told(context_tokens, found.get("owned_by") == "vllm")
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
        return Told()


def _load(status: int, body: bytes) -> tuple[float | None, int]:
    """Requests in it and those of them that wait, of all its engines."""
    found = _QUEUES.findall(body) if status == HTTPStatus.OK else ()
    try:
        counts = [(name, float(value)) for name, value in found]
        waiting = int(sum(count for name, count in counts if name == b"waiting"))
    except (ValueError, OverflowError):
        return None, 0
    return (sum(count for _, count in counts) if counts else None), waiting

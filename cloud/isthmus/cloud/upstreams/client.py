"""One upstream at one address: OpenAI's protocol over HTTP."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections.abc import AsyncGenerator, Awaitable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import httpx

from isthmus.cloud.backends.base import BackendConfig
from isthmus.cloud.backends.openai_body import body_of
from isthmus.cloud.backends.openai_draft import JUDGING, read_judged
from isthmus.cloud.backends.openai_stream import Answer, ServerSentEvents, error_of
from isthmus.cloud.drafts import JudgedToken
from isthmus.cloud.upstreams.discovery import Address
from isthmus.core.chat import ChatRequest
from isthmus.core.errors import InvalidRequest, IsthmusError, NotSupported, Unavailable
from isthmus.core.events import Delta, Event, Started

_LAST_BYTES_S: Final = 0.02
_MAX_ERROR_BYTES: Final = 64 * 1024
_JSON: Final = {"content-type": "application/json"}
_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_QUEUES: Final = re.compile(
    rb"^vllm:num_requests_(running|waiting)(?:\{[^\n]*\})? ([0-9.eE+]+)", re.MULTILINE
)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Told:
    """What an upstream says of itself."""

    context_tokens: int = 0
    """0: it does not say."""
    is_vllm: bool = False
    load: float | None = None
    """Requests in it, whoever sent them; none: it does not say."""


class UpstreamClient:
    """Asks one upstream. `open()`, any number of `generate()` at once, `close()`."""

    def __init__(
        self,
        config: BackendConfig,
        address: Address,
        *,
        tls: ssl.SSLContext | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """`tls` may be shared with others; making one takes longer than all the rest here."""
        self._config = config
        self._limits = config.upstreams
        self.address = address
        self._tls = tls
        self._transport = transport
        self._client: httpx.AsyncClient | None = None
        self._waits: set[asyncio.Timeout] = set()
        self.told = Told(is_vllm=bool(config.upstreams.vllm))
        self._probed = False

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

    def open(self) -> None:
        """Make the connection pool; nothing is connected yet."""
        config, address = self._config, self.address
        headers = {}
        if address.host:
            headers["host"] = address.host
        if config.api_key is not None:
            headers["authorization"] = f"Bearer {config.api_key.get_secret_value()}"
        base = httpx.URL(address.url)
        self._client = httpx.AsyncClient(
            base_url=base,
            headers=headers,
            # What is waited for after the connection is `_within`'s.
            timeout=httpx.Timeout(None, connect=config.connect_timeout_s),
            # Admission bounds the requests; a second, hidden queue here would only confuse.
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=32),
            transport=self._transport,
            verify=True if self._tls is None else self._tls,
            # A proxy of the environment is for the world outside, not for this machine.
            trust_env=base.host not in _LOCAL and not address.host,
        )

    async def close(self) -> None:
        """Close every connection. Safe to call twice."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def cut(self) -> None:
        """Give up whatever is waited for now: the upstream is known to be gone."""
        now_s = asyncio.get_running_loop().time()
        for wait in self._waits:
            if not wait.expired():
                wait.reschedule(now_s)

    async def probe(self) -> None:
        """Ask for `/models`; an answer of any kind below 500 but a refused key is good.

        Keeps what it says in `told`. Raises `Unavailable`.
        """
        response = await self._got("models")
        status = response.status_code
        if status in {401, 403} or status >= 500:
            raise error_of(status, None)
        told = _told(response, self._config.model)
        if self._limits.vllm is not None:
            told = replace(told, is_vllm=self._limits.vllm)
        if told.is_vllm and self._limits.read_load:
            with suppress(Unavailable):
                told = replace(told, load=_load(await self._got("/metrics")))
        self.told = told
        self._probed = True

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
        async with aclosing(self._chunks(replace(request, answer_so_far=kept), answer)) as chunks:
            async for delta in chunks:
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
        try:
            response = await self._within(
                self._limits.first_token_s, self._sent(await self._body(begun) | JUDGING)
            )
            try:
                if response.status_code != httpx.codes.OK:
                    raise await self._failure(response)
                await self._within(self._limits.first_token_s, response.aread())
            finally:
                await response.aclose()
        except httpx.HTTPError as error:
            raise _unreachable(error) from error
        tokens = read_judged(response.content, request.draft)
        if tokens is None:
            raise NotSupported("the upstream told no log-probabilities of the draft", field="draft")
        return tokens

    async def _chunks(
        self, request: ChatRequest, answer: Answer
    ) -> AsyncGenerator[Delta | None, None]:
        """What each piece of the response adds to `answer`; none: nothing that is to be told."""
        limits = self._limits
        try:
            body = await self._body(request)
            response = await self._within(limits.first_token_s, self._sent(body))
            try:
                if response.status_code != httpx.codes.OK:
                    raise await self._failure(response)
                events = ServerSentEvents()
                pieces = response.aiter_bytes()
                limit_s = limits.first_token_s
                while not events.ended:
                    piece = await self._within(limit_s, anext(pieces, b""))
                    if not piece:
                        return
                    found = events.feed(piece)
                    if found:
                        limit_s = limits.silence_s
                        delta, failure = answer.read(found)
                        yield delta
                        if failure is not None:
                            raise failure
                # A connection is only used again when its last response was read to the end.
                with suppress(Unavailable):
                    await self._within(_LAST_BYTES_S, anext(pieces, b""))
            finally:
                await response.aclose()
        except (httpx.HTTPError, Unavailable) as error:
            if answer.complete:
                return  # only the last bytes behind a whole answer are missing
            if isinstance(error, Unavailable):
                raise
            raise _unreachable(error) from error

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

    async def _sent(self, body: Mapping[str, Any]) -> httpx.Response:
        client = self._opened()
        extensions = None
        if self.address.host:
            extensions = {"sni_hostname": self.address.host.rpartition(":")[0] or self.address.host}
        asked = client.build_request(
            "POST", "chat/completions", content=_encoded(body), headers=_JSON, extensions=extensions
        )
        return await client.send(asked, stream=True)

    async def _got(self, path: str) -> httpx.Response:
        client = self._opened()
        url = client.base_url.join(path) if path.startswith("/") else path
        try:
            return await self._within(self._limits.probe_timeout_s, client.get(url))
        except httpx.HTTPError as error:
            raise _unreachable(error) from error

    async def _failure(self, response: httpx.Response) -> IsthmusError:
        raw = b""
        pieces = response.aiter_bytes()
        while len(raw) <= _MAX_ERROR_BYTES:
            piece = await self._within(self._limits.silence_s, anext(pieces, b""))
            if not piece:
                break
            raw += piece
        try:
            body = json.loads(raw)
        except ValueError:
            body = None
        return error_of(response.status_code, body, response.headers.get("retry-after"))

    async def _within(self, seconds: float, awaited: Awaitable[_T]) -> _T:
        """What `awaited` gives within so many seconds; `Unavailable` when it does not, or `cut`."""
        try:
            async with asyncio.timeout(seconds) as wait:
                self._waits.add(wait)
                try:
                    return await awaited
                finally:
                    self._waits.discard(wait)
        except TimeoutError:
            raise Unavailable("the upstream fell silent") from None

    def _opened(self) -> httpx.AsyncClient:
        if self._client is None:
            raise Unavailable("the upstream is closed")
        return self._client


def _encoded(body: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    except ValueError:
        # Without its cause, which holds the text.
        raise InvalidRequest(
            "a schema of the request holds half of a character, or a number that is not finite"
        ) from None


def _unreachable(error: httpx.HTTPError) -> Unavailable:
    return Unavailable(f"the upstream cannot be reached ({type(error).__name__})")


def _told(response: httpx.Response, model: str) -> Told:
    try:
        listed = response.json()["data"]
        found: dict[str, Any] = next((one for one in listed if one["id"] == model), {})
        # Ray Serve tells it in a place of its own.
        ray = (found.get("metadata") or {}).get("max_request_context_length")
        context_tokens = int(found.get("max_model_len") or ray or 0)
        return Told(context_tokens, found.get("owned_by") == "vllm")
    except (ValueError, KeyError, TypeError, AttributeError):
        return Told()


def _load(response: httpx.Response) -> float | None:
    found = _QUEUES.findall(response.content) if response.status_code == httpx.codes.OK else ()
    try:
        return sum(float(value) for _, value in found) if found else None
    except ValueError:
        return None

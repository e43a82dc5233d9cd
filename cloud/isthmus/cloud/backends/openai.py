"""Any OpenAI-compatible upstream over HTTP: vLLM servers, routers, KServe, Ray Serve, others."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Final

import httpx

from isthmus.cloud.backends.base import BackendConfig, refuse_settings
from isthmus.cloud.backends.openai_body import body_of
from isthmus.cloud.backends.openai_draft import JUDGING, read_judged
from isthmus.cloud.backends.openai_stream import Answer, error_of, sse_data
from isthmus.cloud.drafts import JudgedToken
from isthmus.core.chat import ChatRequest
from isthmus.core.errors import ConfigError, InvalidRequest, IsthmusError, NotSupported, Unavailable
from isthmus.core.events import Event, Started
from isthmus.core.tier import Load, ModelInfo

_SILENCE_S: Final = 120.0
_HEALTH_TIMEOUT_S: Final = 2.0
_HEALTH_MAX_AGE_S: Final = 10.0
_MAX_ERROR_BYTES: Final = 64 * 1024
_JSON: Final = {"content-type": "application/json"}


class OpenAIBackend:
    """Reads `url`, `model`, `api_key`, `connect_timeout_s`; options join every request's body."""

    def __init__(
        self, config: BackendConfig, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        refuse_settings(config, "threads")
        if httpx.URL(config.url).scheme not in {"http", "https"}:
            raise ConfigError(
                "backend.url must be an http address such as http://127.0.0.1:8000/v1",
                field="backend.url",
            )
        self._config = config
        self._transport = transport
        self._client: httpx.AsyncClient | None = None
        self._context_tokens = 0
        self._is_vllm = False
        self._healthy_at_s = -_HEALTH_MAX_AGE_S
        self._running = 0

    async def start(self) -> None:
        """Make the client and look for the upstream; one that is not there yet is not an error."""
        config = self._config
        headers = {}
        if config.api_key is not None:
            headers["authorization"] = f"Bearer {config.api_key.get_secret_value()}"
        base = httpx.URL(config.url if config.url.endswith("/") else config.url + "/")
        self._client = httpx.AsyncClient(
            base_url=base,
            headers=headers,
            timeout=httpx.Timeout(_SILENCE_S, connect=config.connect_timeout_s),
            # Admission bounds the requests; a second, hidden queue here would only confuse.
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=32),
            transport=self._transport,
            # A proxy of the environment is for the world outside, not for this machine.
            trust_env=base.host not in {"localhost", "127.0.0.1", "::1"},
        )
        try:
            await self.health()
        except Unavailable:
            self._healthy_at_s = -_HEALTH_MAX_AGE_S

    async def generate(self, request: ChatRequest) -> AsyncIterator[Event]:
        """Stream the upstream's answer; leaving closes the connection, which aborts it there."""
        content = _encoded(body_of(request, self._config.model) | self._config.options)
        answer = Answer()
        self._running += 1
        try:
            async with self._opened().stream(
                "POST", "chat/completions", content=content, headers=_JSON
            ) as response:
                if response.status_code != httpx.codes.OK:
                    raise await _failure(response)
                began = False
                async with aclosing(sse_data(response.aiter_bytes())) as events:
                    async for data in events:
                        delta = answer.read(data)
                        if not began:
                            began = True
                            yield Started(self._config.model, answer.prompt_tokens)
                        if delta is not None:
                            yield delta
                yield answer.end()
        except httpx.HTTPError as error:
            raise Unavailable(f"the upstream cannot be reached ({type(error).__name__})") from error
        finally:
            self._running -= 1

    async def judge(self, request: ChatRequest) -> list[JudgedToken]:
        """The draft's tokens by vLLM's `prompt_logprobs`, from a call that writes one token.

        What such a server computes is in its prefix cache when the answer is asked for.
        """
        begun = replace(request, answer_so_far=request.answer_so_far + request.draft)
        try:
            response = await self._opened().post(
                "chat/completions",
                content=_encoded(
                    body_of(begun, self._config.model) | self._config.options | JUDGING
                ),
                headers=_JSON,
            )
        except httpx.HTTPError as error:
            raise Unavailable(f"the upstream cannot be reached ({type(error).__name__})") from error
        if response.status_code != httpx.codes.OK:
            raise await _failure(response)
        tokens = read_judged(response.content, request.draft)
        if tokens is None:
            raise NotSupported("the upstream told no log-probabilities of the draft", field="draft")
        return tokens

    async def health(self) -> None:
        """Ask for `/models`; an answer of any kind below 500 but a refused key is good."""
        if time.monotonic() - self._healthy_at_s < _HEALTH_MAX_AGE_S:
            return
        try:
            response = await self._opened().get("models", timeout=_HEALTH_TIMEOUT_S)
        except httpx.HTTPError as error:
            raise Unavailable(f"the upstream cannot be reached ({type(error).__name__})") from error
        status = response.status_code
        if status in {401, 403} or status >= 500:
            raise error_of(status, None)
        self._context_tokens, self._is_vllm = _model_of(response, self._config.model)
        self._healthy_at_s = time.monotonic()

    def load(self) -> Load:
        """What this gateway has running there; the upstream's own queue is not visible."""
        return Load(running_requests=self._running)

    def info(self) -> ModelInfo:
        """The model by the upstream's name; what the upstream cannot do it refuses itself."""
        return ModelInfo(
            model=self._config.model,
            backend="openai",
            context_tokens=self._context_tokens,
            supports_tools=True,
            supports_images=True,
            supports_json=True,
            verifies_drafts=self._is_vllm,
        )

    def collectors(self) -> Sequence[Any]:
        """None: the upstream has its own."""
        return ()

    async def close(self) -> None:
        """Close all connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def _opened(self) -> httpx.AsyncClient:
        if self._client is None:
            raise Unavailable("the openai backend is not started")
        return self._client


def _encoded(body: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    except ValueError:
        # Without its cause, which holds the text.
        raise InvalidRequest(
            "a schema of the request holds half of a character, or a number that is not finite"
        ) from None


async def _failure(response: httpx.Response) -> IsthmusError:
    raw = b""
    async for chunk in response.aiter_bytes():
        raw += chunk
        if len(raw) > _MAX_ERROR_BYTES:
            break
    try:
        body = json.loads(raw)
    except ValueError:
        body = None
    return error_of(response.status_code, body, response.headers.get("retry-after"))


def _model_of(response: httpx.Response, model: str) -> tuple[int, bool]:
    """The context of the model, 0 where it is not told, and whether vLLM serves it."""
    try:
        listed = response.json()["data"]
        found: dict[str, Any] = next((one for one in listed if one["id"] == model), {})
        return int(found.get("max_model_len") or 0), found.get("owned_by") == "vllm"
    except (ValueError, KeyError, TypeError, AttributeError):
        return 0, False


def create(config: BackendConfig) -> OpenAIBackend:
    """The registry's factory."""
    return OpenAIBackend(config)

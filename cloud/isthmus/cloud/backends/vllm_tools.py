"""Tool calls of vLLM in process: asked for, constrained and read as its own OpenAI server does it.

vLLM knows how each family of models writes its calls. One of its parsers says what form the answer
must keep (a structural tag over the tools' schemas) and parts the answer into text and calls.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from isthmus.cloud.backends.openai_body import body_of
from isthmus.core.chat import ChatRequest, ToolChoice
from isthmus.core.errors import ConfigError, InvalidRequest, NotSupported
from isthmus.core.events import ToolCallDelta

SETTING: Final = "serving.tool_call_parser"
_USUAL: Final = "hermes"
_USUAL_MARK: Final = "<tool_call>"


def may_call(request: ChatRequest) -> bool:
    """Whether the answer may be a tool call."""
    return bool(request.tools) and request.tool_choice is not ToolChoice.NONE


class ToolCalling:
    """The parser of one model. Without a name it is that of the usual form, `<tool_call>{…}`.

    Any model can be held to that form. Whether one uses it by itself, its chat template tells.
    """

    def __init__(self, name: str | None, tokenizer: Any, model_config: Any) -> None:
        """Raises `ConfigError` for a name that vLLM does not know, or that the model cannot use."""
        from vllm.parser import ParserManager

        self._tokenizer = tokenizer
        self._model_config = model_config
        self._by_itself = name is not None or _USUAL_MARK in str(tokenizer.chat_template)
        try:
            self._parser = ParserManager.get_parser(
                tool_parser_name=name or _USUAL,
                enable_auto_tools=True,
                model_name=model_config.model,
                tokenizer=tokenizer,
            )
        except (TypeError, KeyError) as error:
            raise ConfigError(
                f"vLLM cannot use the tool call parser {name or _USUAL!r} for this model: {error}",
                field=SETTING,
            ) from error

    def begin(self, request: ChatRequest) -> CallReader:
        """What reads the answer to `request`, which must be one that may call.

        Raises `NotSupported` when the form of the model's own calls is not known, and
        `InvalidRequest` for tools that vLLM refuses.
        """
        from pydantic import ValidationError
        from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

        if request.tool_choice is ToolChoice.AUTO and not self._by_itself:
            raise NotSupported(
                "how this model writes tool calls is not known here: set "
                f"{SETTING} of the gateway, or ask with tool_choice 'required'",
                field="tool_choice",
            )
        try:
            asked = ChatCompletionRequest.model_validate(body_of(_held(request), ""))
            parser = self._parser(
                self._tokenizer,
                asked.tools,
                chat_template_kwargs={},
                model_config=self._model_config,
            )
            return CallReader(parser, parser.adjust_request(asked))
        except (ValidationError, ValueError, TypeError):
            # Without its cause, which may quote the request.
            raise InvalidRequest("vLLM refuses the tools", field="tools") from None


def _held(request: ChatRequest) -> ChatRequest:
    """The arguments held to their schemas unless the caller says otherwise, as on the device."""
    tools = (
        replace(tool, strict=True if tool.strict is None else tool.strict) for tool in request.tools
    )
    return replace(request, tools=tuple(tools))


class CallReader:
    """Parts one answer into its text and its calls."""

    def __init__(self, parser: Any, asked: Any) -> None:
        self._parser = parser
        self._asked = asked
        self.called = False
        """Whether a call has begun."""

    @property
    def tools(self) -> list[dict[str, Any]]:
        """The tools in the form that chat templates expect."""
        return [
            {"type": "function", "function": tool.function.model_dump(exclude={"strict"})}
            for tool in self._asked.tools
        ]

    @property
    def structured_outputs(self) -> Any:
        """The form that the answer must keep, or None."""
        return self._asked.extract_structured_outputs()

    @property
    def skip_special_tokens(self) -> bool:
        """False where the marks of a call are special tokens."""
        return bool(self._asked.skip_special_tokens)

    def read(
        self, text: str, token_ids: list[int], prompt: list[int], *, finished: bool
    ) -> tuple[str, tuple[ToolCallDelta, ...]]:
        """What a piece of the answer adds: text to show, and pieces of calls."""
        from vllm.entrypoints.serve.utils.tool_calls_utils import maybe_filter_parallel_tool_calls

        delta = self._parser.parse_delta(text, token_ids, self._asked, prompt, finished=finished)
        if delta is None:
            return "", ()
        delta = maybe_filter_parallel_tool_calls(delta, self._asked)
        calls = tuple(
            ToolCallDelta(
                call.index,
                call.id or "",
                (call.function.name if call.function else None) or "",
                (call.function.arguments if call.function else None) or "",
            )
            for call in delta.tool_calls or ()
        )
        self.called = self.called or bool(calls)
        return delta.content or "", calls

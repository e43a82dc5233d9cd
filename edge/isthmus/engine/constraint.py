"""Holding an answer to a form: JSON, a JSON schema, tool calls.

A `Constraint` says before each token which ones may come. Its grammar is made from the request;
llguidance (an Earley parser over a trie of the tokens, https://github.com/guidance-ai/llguidance)
does the rest, and this is the only module that knows it. JSON is written with ", " and ": " and no
other white space: a small model could otherwise fill its whole answer with line breaks.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from isthmus.core.chat import ChatRequest, ResponseKind, ToolChoice
from isthmus.core.errors import InvalidRequest, NotSupported
from isthmus.engine.calls import BETWEEN, MAX_CALLS, OPEN, around_arguments
from isthmus.engine.schema import arguments_schema, narrowed, schema_error
from isthmus.engine.tokens.tokenizer import Tokenizer

SCHEMA_FIELD: Final = "response_format.json_schema.schema"
Schema = dict[str, Any]
_COMPACT: Final[Schema] = {
    "x-guidance": {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
}
_FLEXIBLE: Final[Schema] = {"x-guidance": {"whitespace_flexible": True}}


class Constraint(Protocol):
    """The form of one answer, as far as it is written. For one thread at a time.

    Both methods raise `NotSupported` when the form is too complex to go on with.
    """

    @property
    def finished(self) -> bool:
        """Whether the answer is whole, and nothing but its end may follow."""
        ...

    def allowed(self, vocab: int) -> NDArray[np.bool_]:
        """Which tokens may come next; an end-of-turn token where the answer may end. [vocab]"""
        ...

    def accept(self, token: int) -> None:
        """Take a token that was allowed."""
        ...


def is_installed() -> bool:
    """Whether llguidance is installed."""
    return importlib.util.find_spec("llguidance") is not None


def may_call(request: ChatRequest) -> bool:
    """Whether the answer may be a tool call."""
    return bool(request.tools) and request.tool_choice is not ToolChoice.NONE


def is_constrained(request: ChatRequest) -> bool:
    """Whether the answer has a form to keep."""
    return may_call(request) or request.response_format.kind is not ResponseKind.TEXT


class Grammars:
    """Makes constraints for one model. Safe to share between threads."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Build the trie of the model's tokens: a tenth of a second.

        Raises `NotSupported` when llguidance is not installed.
        """
        self._library = _llguidance()
        self._tokenizer = tokenizer
        self._tokens = self._library.LLTokenizer(
            self._library.TokenizerWrapper(_Vocabulary(tokenizer)),
            n_vocab=tokenizer.vocab,
            eos_token=list(tokenizer.spec.eos_ids),
        )
        # Its errors would otherwise show the grammar, and with it the caller's schema.
        self._limits = self._library.LLParserLimits(verbose_errors=False)

    def constraint(self, request: ChatRequest, *, most_calls: int = MAX_CALLS) -> Constraint:
        """The form that `request` asks for, past the answer that it already has.

        Raises `InvalidRequest` or `NotSupported`; `field` names the schema that is to blame.
        """
        try:
            form, tools = _schemas(request)
            grammar = _grammar(request, form, tools, most_calls)
        except RecursionError:
            raise InvalidRequest("the schema nests too deep", field=_blamed(request)) from None
        matcher = self._library.LLMatcher(self._tokens, grammar, log_level=0, limits=self._limits)
        if matcher.is_error():
            self._check(form, SCHEMA_FIELD)
            for at, (_, schema) in tools.items():
                self._check(schema, _parameters_field(at))
            raise NotSupported("the schemas are too complex together", field=_blamed(request))
        begun = self._tokenizer.encode(request.answer_so_far, from_start=False)
        if matcher.try_consume_tokens(begun) < len(begun):
            raise NotSupported(
                "the start of the answer does not have the form that is asked for",
                field="answer_so_far",
            )
        return _Matched(matcher, _blamed(request))

    def _check(self, schema: Schema | None, field: str) -> None:
        """Raise what is wrong with one schema alone."""
        if schema is not None:
            grammar = _lark([], schema)
            alone = self._library.LLMatcher(self._tokens, grammar, log_level=0, limits=self._limits)
            if alone.is_error():
                raise schema_error(alone.get_error(), field)


class _Matched:
    """A `Constraint` over llguidance's matcher, which never raises but remembers an error."""

    def __init__(self, matcher: Any, field: str) -> None:
        self._matcher = matcher
        self._field = field

    @property
    def finished(self) -> bool:
        return bool(self._matcher.is_stopped())

    def allowed(self, vocab: int) -> NDArray[np.bool_]:
        words = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        self._check()
        bits = np.unpackbits(words, count=min(vocab, 8 * len(words)), bitorder="little")
        if len(bits) < vocab:  # a model's table may have more rows than its tokenizer has tokens
            bits = np.pad(bits, (0, vocab - len(bits)))
        return bits.view(np.bool_)

    def accept(self, token: int) -> None:
        self._matcher.consume_token(token)
        self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise NotSupported(
                "the schema is too complex for the device; simplify it", field=self._field
            )


class _Vocabulary:
    """A tokenizer as llguidance's `TokenizerWrapper` wants one."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokens = [tokenizer.token_bytes(i) for i in range(tokenizer.vocab)]
        self.special_token_ids = list(tokenizer.spec.special_ids)
        self.eos_token_id = tokenizer.spec.eos_ids[0]
        self.bos_token_id = tokenizer.spec.bos_id
        self._tokenizer = tokenizer

    def __call__(self, text: bytes) -> list[int]:
        return self._tokenizer.encode(text.decode(), from_start=False)


def _schemas(request: ChatRequest) -> tuple[Schema | None, dict[int, tuple[str, Schema]]]:
    """The schema of an answer that is no call, and name and schema of each tool by its place."""
    form, wanted = None, request.response_format
    if wanted.kind is not ResponseKind.TEXT:
        # Another tier's start of the answer has white space of its own kind.
        style = _FLEXIBLE if request.answer_so_far else _COMPACT
        form = narrowed(wanted.schema or {"type": "object"}) | style
    tools = {
        # The text around the arguments is fixed, so they are always compact.
        at: (tool.name, arguments_schema(tool.parameters, _parameters_field(at)) | _COMPACT)
        for at, tool in enumerate(request.tools if may_call(request) else ())
        if request.tool_name in {None, tool.name}
    }
    return form, tools


def _parameters_field(at: int) -> str:
    return f"tools[{at}].function.parameters"


def _grammar(
    request: ChatRequest,
    form: Schema | None,
    tools: Mapping[int, tuple[str, Schema]],
    most_calls: int,
) -> str:
    must_call = request.tool_choice is ToolChoice.REQUIRED and may_call(request)
    if must_call and not tools:
        raise InvalidRequest("asks for a tool that the request lacks", field="tool_choice")
    if request.tool_name is not None or request.parallel_tool_calls is False:
        most_calls = 1
    return _lark(list(tools.values()), form, must_call=must_call, most_calls=most_calls)


def _lark(
    tools: Sequence[tuple[str, Schema]],
    form: Schema | None,
    *,
    must_call: bool = False,
    most_calls: int = 1,
) -> str:
    """The grammar in llguidance's dialect of Lark (its docs/syntax.md).

    An answer of the `form` (any text when there is none), or a run of calls of `tools`.
    """
    answer, opened = ("form", _literal(OPEN)) if form is not None else ("TEXT", "opened")
    starts = [] if must_call else [answer]
    rules = ["%llguidance {}", r"TEXT: /(.|\n)*/", f"opened[lazy]: TEXT {_literal(OPEN)}"]
    if form is not None:
        rules.append(f"form: %json {json.dumps(form)}")
    if tools:
        starts.append(f"{_literal(OPEN) if must_call else opened} calls")
        more = f"({_literal(BETWEEN + OPEN)} call){{0,{most_calls - 1}}}" if most_calls > 1 else ""
        rules.append(f"calls: call {more}")
        rules.append(f"call: {' | '.join(f'call_{at}' for at in range(len(tools)))}")
    for at, (name, schema) in enumerate(tools):
        before, after = map(_literal, around_arguments(name))
        rules.append(f"call_{at}: {before} %json {json.dumps(schema)} {after}")
    return "\n".join([*rules, f"start: {' | '.join(starts)}"])


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _blamed(request: ChatRequest) -> str:
    """The field of the schemas that an error of the whole grammar is about."""
    return SCHEMA_FIELD if request.response_format.schema is not None else "tools"


def _llguidance() -> Any:
    try:
        import llguidance
    except ImportError:
        raise NotSupported(
            "holding an answer to a form needs llguidance; install it: pip install llguidance"
        ) from None
    return llguidance

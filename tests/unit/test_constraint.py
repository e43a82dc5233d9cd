"""Answers on the device keep their form, whatever a model that knows nothing would rather say."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jsonschema
import numpy as np
import pytest

import tiny_qwen2
from isthmus.core.chat import (
    ChatRequest,
    Message,
    ResponseFormat,
    ResponseKind,
    Role,
    Sampling,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
)
from isthmus.core.errors import InvalidRequest, IsthmusError, NotSupported
from isthmus.core.events import Delta, Finished, FinishReason, Started, ToolCallDelta
from isthmus.engine.constraint import SCHEMA_FIELD, Grammars
from isthmus.engine.engine import Engine
from isthmus.engine.prepared import pack_model
from isthmus.engine.tokenizer import Tokenizer
from isthmus.kernels.native import NativeBackend

SEEDS = range(24)
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "kind": {"enum": ["cat", "dog", "né"]},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 3}, "maxItems": 3},
        "home": {"anyOf": [{"$ref": "#/$defs/place"}, {"type": "null"}]},
    },
    "required": ["name", "age", "kind", "home"],
    "$defs": {
        "place": {"type": "object", "properties": {"x": {"type": "boolean"}}, "required": ["x"]}
    },
}
WEATHER = Tool(
    "get_weather",
    "The weather of a city.",
    {
        "type": "object",
        "properties": {
            "city": {"type": "string", "maxLength": 10},
            "days": {"type": "integer", "minimum": 1, "maximum": 9},
        },
        "required": ["city"],
    },
)
CLOCK = Tool('the "time"')
TOOLS = {tool.name: tool for tool in (WEATHER, CLOCK)}
ASKED = ChatRequest("r", (Message(Role.USER, (TextPart("hello"),)),), max_tokens=1500)
FORCED = replace(ASKED, tools=(WEATHER, CLOCK), tool_choice=ToolChoice.REQUIRED)
# Mentions what makes a template one that knows tools; its conversations do not matter here.
TRAINED = "{% if tools %}{{ '<tool_call>' }}{% endif %}" + tiny_qwen2.CHATML


def engine_with(chat_template: str) -> Engine:
    model = tiny_qwen2.model()
    model = replace(
        model,
        config=replace(model.config, context=2048),
        tokenizer=replace(model.tokenizer, chat_template=chat_template),
    )
    backend = NativeBackend(threads=2)
    return Engine(pack_model(model, backend), backend)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    made = engine_with(tiny_qwen2.CHATML)
    yield made
    made.close()


@pytest.fixture(scope="module")
def trained() -> Iterator[Engine]:
    made = engine_with(TRAINED)
    yield made
    made.close()


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(tiny_qwen2.model().tokenizer)


@pytest.fixture(scope="module")
def grammars(tokenizer: Tokenizer) -> Grammars:
    return Grammars(tokenizer)


@dataclass
class Read:
    """An answer, put together from its events."""

    text: str = ""
    calls: dict[int, list[str]] = field(default_factory=dict)
    """index → id, name, arguments"""
    pieces: list[ToolCallDelta] = field(default_factory=list)
    started: Started | None = None
    finished: Finished | None = None

    @property
    def reason(self) -> FinishReason | None:
        return self.finished.reason if self.finished else None


async def read(engine: Engine, request: ChatRequest) -> Read:
    answer = Read()
    async for event in engine.generate(request):
        if isinstance(event, Delta):
            answer.text += event.text
            answer.pieces += event.tool_calls
        elif isinstance(event, Finished):
            answer.finished = event
        else:
            answer.started = event
    for piece in answer.pieces:
        call = answer.calls.setdefault(piece.index, ["", "", ""])
        call[0] += piece.id
        call[1] += piece.name
        call[2] += piece.arguments
    return answer


async def of_many_seeds(
    engine: Engine, request: ChatRequest, seeds: range = SEEDS
) -> AsyncIterator[Read]:
    for seed in seeds:
        yield await read(engine, replace(request, sampling=Sampling(temperature=1.0, seed=seed)))


def with_schema(schema: Mapping[str, Any], **fields: Any) -> ChatRequest:
    form = ResponseFormat(ResponseKind.JSON_SCHEMA, "answer", schema)
    return replace(ASKED, response_format=form, **fields)


def fits(call: list[str]) -> None:
    _, name, arguments = call
    jsonschema.validate(json.loads(arguments), {"type": "object", **TOOLS[name].parameters})


def accepts(grammars: Grammars, tokenizer: Tokenizer, request: ChatRequest, text: str) -> bool:
    """Whether the whole of `text` may be the answer."""
    constraint = grammars.constraint(request)
    for token in tokenizer.encode(text):
        if not constraint.allowed(tokenizer.vocab)[token]:
            return False
        constraint.accept(token)
    return bool(constraint.allowed(tokenizer.vocab)[list(tokenizer.spec.eos_ids)].all())


async def test_a_random_model_fits_any_schema_at_every_seed(engine: Engine) -> None:
    answers = [answer async for answer in of_many_seeds(engine, with_schema(PERSON))]
    for answer in answers:
        assert answer.reason is FinishReason.STOP
        jsonschema.validate(json.loads(answer.text), PERSON)
    assert len({answer.text for answer in answers}) > len(SEEDS) // 2


async def test_a_random_model_calls_one_tool_that_exists_with_arguments_that_fit(
    engine: Engine,
) -> None:
    answers = [answer async for answer in of_many_seeds(engine, FORCED)]
    for answer in answers:
        assert answer.reason is FinishReason.TOOL_CALLS
        assert answer.text == ""
        assert len(answer.calls) == 1
        fits(answer.calls[0])
    assert {answer.calls[0][1] for answer in answers} == set(TOOLS)
    assert len({answer.calls[0][0] for answer in answers}) == len(SEEDS)


async def test_a_model_whose_template_knows_tools_may_call_several(trained: Engine) -> None:
    most = 0
    async for answer in of_many_seeds(trained, FORCED):
        assert answer.reason is FinishReason.TOOL_CALLS
        assert list(answer.calls) == list(range(len(answer.calls)))
        for call in answer.calls.values():
            fits(call)
        assert len({call[0] for call in answer.calls.values()}) == len(answer.calls)
        most = max(most, len(answer.calls))
    assert 1 < most <= 8


async def test_a_request_may_forbid_several_calls(trained: Engine) -> None:
    async for answer in of_many_seeds(trained, replace(FORCED, parallel_tool_calls=False)):
        assert answer.reason is FinishReason.TOOL_CALLS
        assert len(answer.calls) == 1


async def test_a_named_tool_is_the_one_that_is_called(trained: Engine) -> None:
    named = replace(FORCED, tool_name=CLOCK.name)
    async for answer in of_many_seeds(trained, named, seeds=range(5)):
        assert [call[1:] for call in answer.calls.values()] == [[CLOCK.name, "{}"]]


async def test_arguments_arrive_in_pieces(engine: Engine) -> None:
    answer = await read(engine, replace(FORCED, tool_name=WEATHER.name))
    first, *rest = answer.pieces
    assert (first.name, first.arguments) == (WEATHER.name, "")
    assert first.id.startswith("call_")
    assert len(rest) > 3
    assert all(piece.arguments and not piece.id and not piece.name for piece in rest)


async def test_with_a_choice_a_random_model_talks(engine: Engine) -> None:
    free = replace(ASKED, tools=(WEATHER, CLOCK), max_tokens=40)
    answers = [answer async for answer in of_many_seeds(engine, free)]
    assert all(answer.reason is not FinishReason.TOOL_CALLS for answer in answers)
    assert len({answer.text for answer in answers}) > len(SEEDS) // 2


async def test_no_choice_means_no_call_and_no_form(engine: Engine) -> None:
    none = replace(FORCED, tool_choice=ToolChoice.NONE, sampling=Sampling(0), max_tokens=20)
    plain = replace(ASKED, sampling=Sampling(0), max_tokens=20)
    assert (await read(engine, none)).text == (await read(engine, plain)).text


async def test_what_is_cut_short_says_so(engine: Engine) -> None:
    answer = await read(engine, with_schema(PERSON, max_tokens=9))
    assert answer.reason is FinishReason.LENGTH
    assert len(answer.text) == 9
    call = await read(engine, replace(FORCED, tool_name=WEATHER.name, max_tokens=60))
    assert call.reason is FinishReason.LENGTH
    with pytest.raises(json.JSONDecodeError):
        json.loads(call.calls[0][2])


async def test_an_object_without_a_schema_is_json_to_its_end_or_cut(engine: Engine) -> None:
    form = ResponseFormat(ResponseKind.JSON_OBJECT)
    whole = 0
    async for answer in of_many_seeds(engine, replace(ASKED, response_format=form)):
        assert answer.text.startswith("{")
        if answer.reason is FinishReason.STOP:
            assert isinstance(json.loads(answer.text), dict)
            whole += 1
    assert whole


async def test_stop_strings_penalties_and_an_ignored_end_do_not_break_a_call(
    engine: Engine,
) -> None:
    sampling = Sampling(
        temperature=1.0,
        seed=1,
        repetition_penalty=1.5,
        frequency_penalty=1.0,
        stop=('"', "}"),
        ignore_eos=True,
        top_logprobs=2,
    )
    answer = await read(engine, replace(FORCED, sampling=sampling))
    assert answer.reason is FinishReason.TOOL_CALLS
    fits(answer.calls[0])


async def test_the_turn_after_a_call_computes_only_what_is_new(engine: Engine) -> None:
    # Greedy: a sampled answer may spell in two tokens what the next prompt has as one.
    asked = replace(FORCED, sampling=Sampling(temperature=0))
    first = await read(engine, asked)
    assert first.started is not None
    assert first.finished is not None
    turn = (
        *FORCED.messages,
        Message(Role.ASSISTANT, tool_calls=(ToolCall(*first.calls[0]),)),
        Message(Role.TOOL, (TextPart("sunny"),), tool_call_id=first.calls[0][0]),
    )
    second = await read(engine, replace(asked, messages=turn))
    assert second.started is not None
    # All of the prompt and of the call but its last token, which was never computed.
    known = first.started.prompt_tokens + first.finished.usage.completion_tokens - 1
    assert second.started.cached_tokens == known


async def test_answers_of_all_kinds_run_side_by_side(engine: Engine) -> None:
    greedy = Sampling(temperature=0)
    asked = [
        replace(request, sampling=greedy, max_tokens=300)
        for request in (with_schema(PERSON), FORCED, ASKED, replace(FORCED, tool_name=CLOCK.name))
    ]
    alone = [await read(engine, request) for request in asked]
    together = await asyncio.gather(*(read(engine, request) for request in asked))
    assert [(a.text, a.reason) for a in together] == [(a.text, a.reason) for a in alone]
    assert [[c[1:] for c in a.calls.values()] for a in together] == [
        [c[1:] for c in a.calls.values()] for a in alone
    ]


CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
ANSWERS = {
    "text": ("Hello, <you>!", True),
    "nothing": ("", True),
    "call": (CALL, True),
    "text_then_call": (f"I look.\n{CALL}", True),
    "two_calls": (f"{CALL}\n{CALL}", True),
    "text_after_a_call": (f"{CALL} so", False),
    "no_such_tool": (CALL.replace("get_weather", "rain"), False),
    "no_such_argument": (CALL.replace("city", "town"), False),
    "wrong_type": (CALL.replace('"Paris"', "1"), False),
    "argument_missing": (CALL.replace('"city": "Paris"', ""), False),
    "broken_off": (CALL[:-4], False),
}


@pytest.mark.parametrize(("text", "allowed"), ANSWERS.values(), ids=list(ANSWERS))
def test_with_a_choice_text_and_calls_are_allowed_and_nothing_between(
    grammars: Grammars, tokenizer: Tokenizer, text: str, allowed: bool
) -> None:
    free = replace(ASKED, tools=(WEATHER, CLOCK))
    assert accepts(grammars, tokenizer, free, text) is allowed


def test_tools_and_a_form_together_allow_either(grammars: Grammars, tokenizer: Tokenizer) -> None:
    both = with_schema({"type": "object", "properties": {"a": {}}}, tools=(WEATHER,))
    assert accepts(grammars, tokenizer, both, '{"a": [1, {"b": null}]}')
    assert accepts(grammars, tokenizer, both, CALL)
    assert not accepts(grammars, tokenizer, both, "no")
    assert not accepts(grammars, tokenizer, both, '{"b": 1}')


def test_more_properties_come_only_where_the_schema_says_so(
    grammars: Grammars, tokenizer: Tokenizer
) -> None:
    open_one = with_schema({"type": "object", "additionalProperties": {"type": "integer"}})
    joined = with_schema(
        {
            "type": "object",
            "allOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}, "required": ["b"]}],
        }
    )
    assert accepts(grammars, tokenizer, open_one, '{"b": 1}')
    assert accepts(grammars, tokenizer, joined, '{"a": 1, "b": 1}')


def test_an_answer_begun_elsewhere_is_gone_on_with_whatever_its_white_space(
    grammars: Grammars, tokenizer: Tokenizer
) -> None:
    begun = with_schema(PERSON, answer_so_far='{\n  "name" : "A", "age":')
    assert accepts(grammars, tokenizer, begun, ' 3, "kind": "cat", "home":null}')
    with pytest.raises(NotSupported) as caught:
        grammars.constraint(replace(begun, answer_so_far="Here it is: "))
    assert caught.value.field == "answer_so_far"


def test_a_model_with_more_rows_than_tokens_never_says_the_rest(
    grammars: Grammars, tokenizer: Tokenizer
) -> None:
    allowed = grammars.constraint(with_schema(PERSON)).allowed(tokenizer.vocab + 7)
    assert allowed.shape == (tokenizer.vocab + 7,)
    assert allowed.dtype == np.bool_
    assert [tokenizer.token_bytes(int(i)) for i in np.flatnonzero(allowed)] == [b"{"]


SECRET = "zanzibar"
BAD: dict[str, tuple[dict[str, Any], type[IsthmusError], str]] = {
    "type": ({"type": SECRET}, InvalidRequest, "'type'"),
    "required": ({"type": "object", "required": SECRET}, InvalidRequest, "not valid"),
    "pattern": ({"type": "string", "pattern": f"({SECRET}"}, InvalidRequest, "regular"),
    "nowhere": ({"$ref": f"#/$defs/{SECRET}"}, InvalidRequest, "nowhere"),
    "outside": ({"$ref": f"https://{SECRET}.org/x"}, InvalidRequest, "leads out"),
    "impossible": ({"type": "integer", "minimum": 2, "maximum": 1}, InvalidRequest, "any value"),
    "not": ({"not": {"const": SECRET}}, NotSupported, '"not"'),
    "if": ({"if": {"const": SECRET}, "then": {}}, NotSupported, '"if", "then"'),
    "look_ahead": ({"type": "string", "pattern": f"(?={SECRET})"}, NotSupported, "look-around"),
    "format": ({"type": "string", "format": SECRET}, NotSupported, "'format'"),
    "one_of": ({"oneOf": [{"type": "number"}, {"type": "integer"}]}, NotSupported, "'anyOf'"),
}


@pytest.mark.parametrize(("schema", "error", "told"), BAD.values(), ids=list(BAD))
@pytest.mark.parametrize("of_a_tool", [False, True])
def test_a_bad_schema_is_named_explained_and_not_quoted(
    grammars: Grammars,
    schema: dict[str, Any],
    error: type[IsthmusError],
    told: str,
    of_a_tool: bool,
) -> None:
    if of_a_tool:
        tool = Tool("f", "", {"type": "object", "properties": {"x": schema}, "required": ["x"]})
        asked = replace(ASKED, tools=(WEATHER, tool))
    else:
        asked = with_schema(schema)
    with pytest.raises(error, match=told) as caught:
        grammars.constraint(asked)
    assert caught.value.field == ("tools[1].function.parameters" if of_a_tool else SCHEMA_FIELD)
    assert SECRET not in str(caught.value)


def test_a_tool_takes_an_object(grammars: Grammars) -> None:
    with pytest.raises(InvalidRequest, match="object") as caught:
        grammars.constraint(replace(ASKED, tools=(Tool("f", "", {"type": "string"}),)))
    assert caught.value.field == "tools[0].function.parameters"


def test_a_tool_that_is_not_there_cannot_be_forced(grammars: Grammars) -> None:
    with pytest.raises(InvalidRequest) as caught:
        grammars.constraint(replace(FORCED, tool_name="other"))
    assert caught.value.field == "tool_choice"


def test_a_schema_too_deep_is_refused(grammars: Grammars) -> None:
    deep: dict[str, Any] = {"type": "string"}
    for _ in range(sys.getrecursionlimit()):
        deep = {"type": "array", "items": deep}
    with pytest.raises(InvalidRequest) as caught:
        grammars.constraint(with_schema(deep))
    assert caught.value.field == SCHEMA_FIELD


def test_without_the_library_the_device_says_that_it_cannot(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(NotSupported, match="pip install llguidance"):
        Grammars(tokenizer)


async def test_a_form_that_becomes_too_complex_ends_its_own_answer_alone(
    engine: Engine,
) -> None:
    class Failing:
        finished = False

        def allowed(self, vocab: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
            raise NotSupported("too complex", field=SCHEMA_FIELD)

        def accept(self, token: int) -> None: ...

    other = asyncio.create_task(read(engine, replace(ASKED, max_tokens=60)))
    with pytest.raises(NotSupported):
        async for _ in engine.complete("x", Sampling(), constraint=Failing()):
            pass
    assert (await other).reason in {FinishReason.STOP, FinishReason.LENGTH}
    assert (await read(engine, replace(FORCED, tool_name=CLOCK.name))).calls[0][2] == "{}"

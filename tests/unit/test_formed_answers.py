"""Answers on the device keep their form, whatever a model that knows nothing would rather say."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import jsonschema
import numpy as np
import pytest

import tiny_qwen2
from formed_requests import ASKED, CLOCK, FORCED, PERSON, WEATHER, with_schema
from isthmus.core.chat import (
    ChatRequest,
    Message,
    ResponseFormat,
    ResponseKind,
    Role,
    Sampling,
    TextPart,
    ToolCall,
    ToolChoice,
)
from isthmus.core.errors import NotSupported
from isthmus.core.events import Delta, Finished, FinishReason, Started, ToolCallDelta
from isthmus.engine.constraint import SCHEMA_FIELD
from isthmus.engine.engine import Engine
from isthmus.engine.prepared import pack_model
from isthmus.kernels.native import NativeBackend

SEEDS = range(24)
TOOLS = {tool.name: tool for tool in (WEATHER, CLOCK)}
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


def fits(call: list[str]) -> None:
    _, name, arguments = call
    jsonschema.validate(json.loads(arguments), {"type": "object", **TOOLS[name].parameters})


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

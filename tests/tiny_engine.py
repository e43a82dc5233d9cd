"""An engine over a tiny random model, and what the tests of engines ask it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import tiny_qwen2
from isthmus.core.chat import (
    ChatRequest,
    Message,
    Role,
    Sampling,
    TextPart,
)
from isthmus.core.events import Delta, Finished, Started
from isthmus.engine.engine import Engine
from isthmus.engine.prepared import pack_model
from isthmus.kernels.native import NativeBackend
from isthmus.kernels.numpy_ref import NumpyBackend

GREEDY = Sampling(temperature=0, ignore_eos=True)


def engine_on(backend: NativeBackend | NumpyBackend, **options: Any) -> Engine:
    return Engine(pack_model(tiny_qwen2.model(), backend), backend, **options)


def chat(*turns: str, **fields: object) -> ChatRequest:
    roles = (Role.USER, Role.ASSISTANT)
    messages = tuple(Message(roles[i % 2], (TextPart(text),)) for i, text in enumerate(turns))
    request = ChatRequest("r", messages, sampling=GREEDY, max_tokens=12)
    return replace(request, **fields)  # type: ignore[arg-type]


async def run(engine: Engine, request: ChatRequest) -> tuple[Started, str, Finished]:
    events = [event async for event in engine.generate(request)]
    started, *deltas, finished = events
    assert isinstance(started, Started)
    assert isinstance(finished, Finished)
    return started, "".join(d.text for d in deltas if isinstance(d, Delta)), finished

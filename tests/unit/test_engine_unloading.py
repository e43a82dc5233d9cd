"""An idle engine gives its memory back, and comes back with it."""

from __future__ import annotations

import gc
import weakref

import pytest

import tiny_qwen2
from isthmus.core.errors import (
    Unavailable,
)
from isthmus.engine.engine import Engine
from isthmus.engine.errors import ModelUnavailable
from isthmus.engine.prepared import LoadedModel, pack_model
from isthmus.kernels.base import Embed
from isthmus.kernels.native import NativeBackend
from isthmus.kernels.tiled_weights import PackedTiles
from tiny_engine import chat, engine_on, run
from waiting import eventually


async def test_an_idle_engine_leaves_memory_and_comes_back_by_itself() -> None:
    backend = NativeBackend(threads=1)
    loads = []

    def reload() -> LoadedModel:
        loads.append(1)
        return pack_model(tiny_qwen2.model(), backend)

    idle = engine_on(backend, idle_unload_s=0.05, reload=reload)
    assert idle.loaded
    first, text, _ = await run(idle, chat("hello there, who are you?"))
    for times in (1, 2):
        assert await eventually(lambda: not idle.loaded)
        assert idle.kv_used_tokens == 0
        again, same, _ = await run(idle, chat("hello there, who are you?"))
        assert same == text
        assert first.cached_tokens == again.cached_tokens == 0
        assert len(loads) == times
    idle.close()


async def test_an_unloaded_engine_holds_no_weights() -> None:
    backend = NativeBackend(threads=1)
    model = pack_model(tiny_qwen2.model(), backend)
    embed = model.ops[0]
    assert isinstance(embed, Embed)
    assert isinstance(embed.table, PackedTiles)
    weight = weakref.ref(embed.table.data)

    def reload() -> LoadedModel:
        raise ModelUnavailable("nobody asked for it")

    idle = Engine(model, backend, idle_unload_s=0.05, reload=reload)
    del model, embed
    assert await eventually(lambda: not idle.loaded)
    gc.collect()
    assert weight() is None
    idle.close()


async def test_a_model_that_does_not_come_back_is_said_so_and_may_come_back_later() -> None:
    backend = NativeBackend(threads=1)
    lost = True

    def reload() -> LoadedModel:
        if lost:
            raise ModelUnavailable("the file is gone")
        return pack_model(tiny_qwen2.model(), backend)

    idle = engine_on(backend, idle_unload_s=0.05, reload=reload)
    assert await eventually(lambda: not idle.loaded)
    with pytest.raises(ModelUnavailable, match="gone"):
        await run(idle, chat("x"))
    lost = False
    assert (await run(idle, chat("x")))[2].usage.completion_tokens == 12
    idle.close()


async def test_an_unloaded_engine_can_be_closed() -> None:
    idle = engine_on(NativeBackend(threads=1), idle_unload_s=0.01)
    assert await eventually(lambda: not idle.loaded)
    idle.close()
    with pytest.raises(Unavailable):
        await run(idle, chat("x"))

"""A model file that is replaced while the engine is out of memory is noticed on its return."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import tiny_sentencepiece
from gguf_files import Kind, write_published, write_tiny
from isthmus.core.chat import Sampling
from isthmus.core.errors import IsthmusError
from isthmus.core.events import Delta
from isthmus.engine.engine import Engine
from isthmus.engine.errors import ModelDamaged, ModelUnavailable
from isthmus.engine.opening import open_runners
from waiting import eventually


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path / "home"))
    return write_tiny(tmp_path / "model.gguf")


async def answer(engine: Engine) -> list[int]:
    sampling = Sampling(temperature=0, ignore_eos=True)
    events = engine.complete("the one", sampling, max_tokens=6)
    return [i async for event in events if isinstance(event, Delta) for i in event.token_ids]


def replaced(path: Path, write: Callable[[Path], object]) -> None:
    write(path.with_name("new.gguf"))
    os.replace(path.with_name("new.gguf"), path)


def opened(path: Path) -> Engine:
    return Engine.open(str(path), backend="native", threads=1, idle_unload_s=0.05)


async def test_new_weights_of_the_same_model_are_used(path: Path) -> None:
    engine = opened(path)
    try:
        first = await answer(engine)
        assert await eventually(lambda: not engine.loaded)
        replaced(path, lambda to: write_tiny(to, matrix_type=Kind.Q4_0))
        second = await answer(engine)
    finally:
        engine.close()
    fresh = opened(path)
    try:
        assert second == await answer(fresh)
        assert second != first
    finally:
        fresh.close()


def broken(to: Path) -> None:
    to.write_bytes(write_tiny(to).read_bytes()[:20_000])


def with_another_tokenizer(to: Path) -> None:
    header = tiny_sentencepiece.header()
    cut = {k: v[:288] if isinstance(v, list) else v for k, v in header.items()}
    write_tiny(to, tokenizer=cut)


@pytest.mark.parametrize(
    ("write", "error", "told"),
    [
        (lambda to: write_published(to, "qwen3"), ModelUnavailable, "replaced by another model's"),
        (with_another_tokenizer, ModelUnavailable, "replaced by another model's"),
        (broken, ModelDamaged, "pull the model again"),
    ],
)
async def test_another_model_is_told_and_the_first_may_come_back(
    path: Path, write: Callable[[Path], object], error: type[IsthmusError], told: str
) -> None:
    engine = opened(path)
    try:
        first = await answer(engine)
        assert await eventually(lambda: not engine.loaded)
        replaced(path, write)
        with pytest.raises(error, match=told):
            await answer(engine)
        replaced(path, write_tiny)
        assert await answer(engine) == first
    finally:
        engine.close()


def test_a_backend_that_stands_by_gets_no_other_model_either(path: Path) -> None:
    runners = open_runners(str(path), backend="auto", threads=1, choose=lambda *_: None)
    last = runners.standbys[-1]
    assert last.load()[0].name == "numpy"
    replaced(path, lambda to: write_published(to, "qwen3"))
    with pytest.raises(ModelUnavailable, match="replaced"):
        last.load()

"""An engine that only runs loads no library that it has no use for: each costs time and memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gguf_files import write_tiny

UNUSED = {"gguf", "httpx", "huggingface_hub", "jinja2", "llguidance", "numpy.random", "psutil"}
UNUSED |= {"pydantic", "rich", "tokenizers", "typer"}
ANSWER = """
import asyncio, sys
from isthmus.core.chat import Sampling
from isthmus.engine.engine import Engine

async def answer(engine):
    sampling = Sampling(temperature=0)
    return [event async for event in engine.complete("the", sampling, max_tokens=2)]

engine = Engine.open(sys.argv[1], backend="native")
assert len(asyncio.run(answer(engine))) > 1
engine.close()
print(*sys.modules)
"""


def test_an_answer_on_prepared_weights_loads_no_library_without_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path / "home"))
    model = write_tiny(tmp_path / "tiny.gguf")
    command = (sys.executable, "-c", ANSWER, str(model))
    subprocess.run(command, check=True, capture_output=True)
    second = subprocess.run(command, check=True, capture_output=True, text=True)
    loaded = set(second.stdout.split())
    assert "isthmus.engine.engine" in loaded
    assert not loaded & UNUSED

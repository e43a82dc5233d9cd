"""The trained file in use: exchanged while running, kept when the new one is worse or broken."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import numpy as np
import pytest

from isthmus.core.errors import ConfigError
from isthmus.core.tier import ModelInfo
from isthmus.edge import trained as module
from isthmus.edge.trained import Taken, Trained, read_shadow_set
from isthmus.router.learned.features import NAMES
from isthmus.router.learned.pair import INPUTS, Calibration, Pair
from isthmus.router.learned.rating import scores
from isthmus.router.learned.router_file import RouterFile, shipped
from isthmus.router.quality import Basis
from waiting import eventually

EDGE, CLOUD = "e" * 64, "c" * 64
INFO = ModelInfo(model="big", backend="test", sha256=CLOUD)
PROMPTS = tuple(
    f"{question} ({number})"
    for number in range(8)
    for question in (
        "Say hello.",
        "Prove that the square root of 2 is irrational.",
        "A train leaves at 9:40 at 80 km/h, another at 10:05 at 95 km/h. When do they meet?",
        "Repeat the word tea.",
    )
)


def knowing(sign: float) -> RouterFile:
    """A file that knows the pair: escalates what gains by it in general, or the very opposite."""
    weights = np.zeros((INPUTS, 2), np.float32)
    weights[len(NAMES) + 1, 1] = sign
    return shipped().knowing(Calibration(Pair(EDGE, CLOUD), weights))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "mine.router"
    knowing(1.0).save(path)
    return path


@pytest.fixture
def shadow_set(tmp_path: Path) -> Path:
    """Prompts of which the device fails at those that gain most in general."""
    path = tmp_path / "shadow.jsonl"
    gains = scores(shipped().general, PROMPTS)
    rows = [
        {"prompt": prompt, "edge_correct": float(gain < np.median(gains)), "cloud_correct": 1.0}
        for prompt, gain in zip(PROMPTS, gains, strict=True)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def watching(path: Path, shadow_set: Path | None = None) -> tuple[Trained, list[Taken]]:
    heard: list[Taken] = []
    trained = Trained(
        path,
        shadow_set=read_shadow_set(shadow_set),
        edge_sha256=lambda: EDGE,
        on_file=lambda taken, version: heard.append(taken),
    )
    return trained, heard


def replace_by(path: Path, file: RouterFile) -> None:
    before = path.stat().st_mtime_ns
    file.save(path)
    os.utime(path, ns=(before + 10**9, before + 10**9))


async def test_a_new_file_is_taken_over_without_a_restart(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    trained, heard = watching(path)
    trained.start()
    try:
        assert await eventually(lambda: trained.pair(INFO) == Pair(EDGE, CLOUD))
        before = trained.file.version
        replace_by(path, knowing(2.0))
        assert await eventually(lambda: trained.file.version != before)
    finally:
        await trained.close()
    assert heard == [Taken.LOADED, Taken.LOADED]


async def test_a_file_that_does_worse_on_the_shadow_set_is_not_taken(
    path: Path, shadow_set: Path
) -> None:
    trained, heard = watching(path, shadow_set)
    trained.start()
    await asyncio.sleep(0)
    assert await eventually(lambda: trained.pair(INFO) is not None)
    await trained.close()
    before = trained.file.version
    replace_by(path, knowing(-1.0))
    trained.look()
    assert (trained.file.version, heard[-1]) == (before, Taken.WORSE)
    replace_by(path, knowing(3.0))
    trained.look()
    assert trained.file.version != before
    assert heard[-1] is Taken.LOADED


def test_a_broken_file_leaves_the_one_before_and_is_told_once(path: Path) -> None:
    trained, heard = watching(path)
    before = trained.file.version
    path.write_bytes(b"no router")
    trained.look()
    trained.look()
    assert trained.file.version == before
    assert heard == [Taken.LOADED, Taken.BROKEN]


def test_a_file_that_went_away_leaves_the_one_in_use(path: Path) -> None:
    trained, heard = watching(path)
    path.unlink()
    trained.look()
    assert heard == [Taken.LOADED]


async def test_a_pair_that_nobody_labelled_is_uncalibrated(path: Path) -> None:
    trained, _ = watching(path)
    request = read_request()
    assert trained.rate(request, INFO).reason is Basis.UNCALIBRATED
    trained.start()
    assert await eventually(lambda: trained.pair(INFO) is not None)
    await trained.close()
    assert trained.rate(request, INFO).reason is Basis.CALIBRATED
    other = ModelInfo(model="big", backend="test")
    assert trained.rate(request, other).reason is Basis.UNCALIBRATED
    assert trained.rate(request, None).reason is Basis.UNCALIBRATED


def read_request() -> module.ChatRequest:
    from isthmus.core.chat import ChatRequest, Message, Role, TextPart

    return ChatRequest("r", (Message(Role.USER, (TextPart("Say hello."),)),))


def test_a_file_that_is_none_is_refused_at_start(tmp_path: Path) -> None:
    (tmp_path / "x.router").write_bytes(b"nothing")
    with pytest.raises(ConfigError) as error:
        Trained(tmp_path / "x.router")
    assert error.value.field == "router.file"


@pytest.mark.parametrize("text", ["{", '{"cloud_correct": 1}\n', "[]\n"])
def test_a_shadow_set_that_is_none_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        read_shadow_set(path)
    assert error.value.field == "router_shadow_set"

"""Choosing an instruction set: verified ones at once, others after a self-test that is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from isthmus.cli import doctor
from isthmus.kernels import create, instruction_sets, selftest
from isthmus.kernels.base import Backend, Batch, KVShape, Op, Plan, Step
from isthmus.kernels.errors import BackendUnavailable
from isthmus.kernels.instruction_sets import choose
from isthmus.kernels.native import VERIFIED, NativeBackend, runnable_sets
from isthmus.kernels.numpy_ref import NumpyBackend


@pytest.fixture
def unverified(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor whose vectors no test of ours ever ran on."""
    monkeypatch.setattr(instruction_sets, "VERIFIED", frozenset({"scalar"}))


@pytest.fixture
def tested(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sets of a made-up processor that were tested; `newdot` fails, `olddot` passes."""
    asked: list[str] = []

    def self_test(name: str) -> str | None:
        asked.append(name)
        return "4 is not 5" if name == "newdot" else None

    sets = ("newdot", "olddot", "scalar")
    monkeypatch.setattr(instruction_sets, "runnable_sets", lambda: sets)
    monkeypatch.setattr(instruction_sets, "_self_test", self_test)
    return asked


@pytest.mark.parametrize("isa", runnable_sets())
@pytest.mark.parametrize("bits", [8, 16])
def test_every_set_of_this_processor_passes_the_self_test(isa: str, bits: int) -> None:
    backend = NativeBackend(threads=1, isa=isa, activation_bits=bits)
    tolerance = instruction_sets._TOLERANCE[bits]
    assert selftest.disagreement(backend, tolerance=tolerance) is None


class WrongBackend(NumpyBackend):
    """The reference, but for what `spoil` does to a step of a pool."""

    def __init__(self, spoil: Callable[[Step, Batch, KVShape], None]):
        self._spoil = spoil

    def plan(self, ops: Sequence[Op], *, kv: KVShape, max_tokens: int) -> Plan:  # type: ignore[override]
        plan = super().plan(ops, kv=kv, max_tokens=max_tokens)
        right = plan.run

        def run(batch: Batch) -> Step:
            step = right(batch)
            self._spoil(step, batch, kv)
            return step

        plan.run = run  # type: ignore[method-assign]
        return plan


def one_logit(step: Step, batch: Batch, kv: KVShape) -> None:
    step.logits[-1, 3] += 0.1 * np.abs(step.logits).max()


def no_number(step: Step, batch: Batch, kv: KVShape) -> None:
    step.logits[0, 0] = np.nan


def one_form_of_cache(step: Step, batch: Batch, kv: KVShape) -> None:
    if kv.dtype == "int8" and len(batch.tokens) == 1:
        step.logits[:] = 0


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (one_logit, "several tokens with float32"),
        (no_number, "by nan"),
        (one_form_of_cache, "one token with int8"),
    ],
)
def test_the_self_test_says_what_is_wrong(
    spoil: Callable[[Step, Batch, KVShape], None], words: str
) -> None:
    failure = selftest.disagreement(WrongBackend(spoil), tolerance=5e-3)
    assert failure is not None
    assert words in failure


def test_a_verified_set_is_taken_without_a_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instruction_sets, "_self_test", pytest.fail)
    assert choose() == runnable_sets()[0]
    assert set(runnable_sets()) <= VERIFIED


def test_an_unverified_set_is_tested_once_and_taken(
    unverified: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    best = runnable_sets()[0]
    device = create("native", threads=1, cache=tmp_path).device
    assert device == f"{best}, 1 threads"
    assert len(list(tmp_path.rglob("*.json"))) == 1
    monkeypatch.setattr(instruction_sets, "_self_test", pytest.fail)
    assert choose(cache=tmp_path) == best


def test_a_set_whose_self_test_fails_is_passed_over_with_a_warning(
    tested: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert choose(cache=tmp_path) == "olddot"
    assert "self-test of newdot failed here: 4 is not 5" in caplog.text
    assert choose(cache=tmp_path) == "olddot"
    assert tested == ["newdot", "olddot"]
    assert caplog.text.count("4 is not 5") == 2


def test_a_set_asked_for_by_name_is_tested_and_strict(tested: list[str], tmp_path: Path) -> None:
    assert choose("olddot", cache=tmp_path) == "olddot"
    with pytest.raises(BackendUnavailable, match="self-test of newdot failed: 4 is not 5"):
        create("native:newdot", cache=tmp_path)
    with pytest.raises(BackendUnavailable, match="it runs newdot, olddot, scalar"):
        create("native:none")
    assert choose("scalar") == "scalar"
    assert tested == ["olddot", "newdot"]


def test_a_name_may_ask_for_a_verified_set_too() -> None:
    backend: Backend = create("native:scalar", threads=1)
    assert (backend.name, backend.device) == ("native", "scalar, 1 threads")
    with pytest.raises(BackendUnavailable, match="no instruction sets"):
        create("numpy:scalar")


@pytest.mark.parametrize("damage", ["", "{", "[]", '"text"'])
def test_a_damaged_record_is_made_again(tested: list[str], tmp_path: Path, damage: str) -> None:
    choose("olddot", cache=tmp_path)
    (record,) = tmp_path.rglob("*.json")
    record.write_text(damage)
    choose("olddot", cache=tmp_path)
    choose("olddot", cache=tmp_path)
    assert tested == ["olddot", "olddot"]


def test_another_processor_or_build_is_tested_anew(
    tested: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose("olddot", cache=tmp_path)
    monkeypatch.setattr(instruction_sets, "_cpu", lambda: "another processor")
    choose("olddot", cache=tmp_path)
    build = tmp_path / "build.so"
    build.write_bytes(b"another build")
    monkeypatch.setattr(instruction_sets._native, "__file__", str(build))
    choose("olddot", cache=tmp_path)
    assert tested == ["olddot"] * 3


def test_a_cache_that_cannot_be_written_to_costs_a_test_each_time(
    tested: list[str], tmp_path: Path
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    assert [choose("olddot", cache=blocked) for _ in range(2)] == ["olddot", "olddot"]
    assert tested == ["olddot", "olddot"]


def test_the_doctor_tells_what_became_of_each_set(
    tested: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path))
    new, old, scalar = doctor._instruction_sets()
    assert (new.name, new.ok, new.needed) == ("kernels newdot", False, False)
    assert "unverified; its self-test failed: 4 is not 5" in new.detail
    assert (old.ok, old.detail) == (True, "unverified; its self-test passed")
    assert (scalar.ok, scalar.detail) == (True, "verified")

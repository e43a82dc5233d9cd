"""Trials on a real device: right kernels are timed, broken ones are rejected with their reason."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

import broken_kernels
import gguf_files
import program
import tiny_qwen2
from isthmus.core import paths
from isthmus.engine import whole_steps
from isthmus.engine.prepared import pack_model
from isthmus.engine.timing import Timing
from isthmus.kernels.errors import BackendUnavailable
from isthmus.kernels.opencl.algorithms import ALGORITHMS
from isthmus.kernels.opencl.backend import OpenCLBackend
from isthmus.kernels.opencl.capabilities import DeviceKind
from isthmus.kernels.opencl.products import Epilogue
from isthmus.kernels.opencl.tuned import Tuned, dump
from isthmus.kernels.opencl.variants import TILES, Variant, parse_shape
from isthmus.kernels.tuner import selftest
from isthmus.kernels.tuner.ceiling import Ceiling
from isthmus.kernels.tuner.child import Child, ChildFailed
from isthmus.kernels.tuner.problem import Problem, problems
from isthmus.kernels.tuner.trials import CeilingJob, Evaluator, Job, Outcome, Setup
from isthmus.kernels.tuner.tune import tune
from opencl_devices import GPU, PLATFORMS, requires_opencl, thorough

pytestmark = requires_opencl
SMALL = Problem(parse_shape("160x192.4g32"))


@pytest.fixture(params=PLATFORMS)
def platform(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def child(platform: str) -> Iterator[Child]:
    with Child(Evaluator, Setup(platform, programs=paths.cache_dir() / "opencl")) as made:
        yield made


def test_a_right_variant_is_timed_in_every_use(child: Child) -> None:
    for epilogue in Epilogue:
        for normed in (False, True):
            for shape in ("160x192.4g32", "160x192.8g32s"):
                problem = Problem(parse_shape(shape), epilogue, normed)
                for variant, tile in (("gemv.n:wgs=2", 1), ("gemm.n:tokens=4", 4)):
                    outcome = child.ask(Job(problem, variant, tile, 0.001))
                    assert outcome.error is None
                    assert outcome.seconds > 0


def test_a_variant_that_does_not_fit_is_an_outcome(child: Child) -> None:
    outcome = child.ask(Job(SMALL, "gemv.n:wgs=64,split=128", 1))
    assert outcome.error is not None
    assert "work-items" in outcome.error or "does not" in outcome.error


@thorough
def test_wrong_crashing_and_hanging_kernels_are_rejected_and_right_ones_go_on(
    platform: str,
) -> None:
    def ask(child: Child, tunables: str) -> str | None:
        try:
            outcome: Outcome = child.ask(Job(SMALL, f"gemv.n:{tunables}", 1, 0.001))
        except ChildFailed as error:
            return str(error)
        return outcome.error

    with Child(broken_kernels.broken_evaluator, Setup(platform), limit_s=6) as child:
        assert ask(child, "wgs=1") is None
        assert str(ask(child, broken_kernels.WRONG)).startswith("wrong: off by")
        assert "crashed (SIG" in str(ask(child, broken_kernels.CRASHING))
        assert ask(child, broken_kernels.HANGING) == "no end after 6 s"
        assert ask(child, "wgs=1") is None


def test_a_device_has_ceilings(child: Child) -> None:
    ceiling = child.ask(CeilingJob())
    assert isinstance(ceiling, Ceiling)
    assert min(ceiling.read_gb_s, ceiling.copy_gb_s, ceiling.multiply_gflop_s) > 0


def test_a_models_products_are_found_with_how_they_are_used(platform: str) -> None:
    ops = pack_model(tiny_qwen2.model(), OpenCLBackend(device=platform)).ops
    found = {problem.form.rows: problem for problem in problems(ops, DeviceKind.CPU)}
    config = tiny_qwen2.CONFIG
    assert found[2 * config.ffn].paired
    assert found[2 * config.ffn].count == config.layers
    assert found[config.vocab].normed
    assert not found[config.vocab].joined
    assert found[config.hidden].joined
    assert not any(problem.joined for problem in problems(ops, DeviceKind.GPU))
    assert not found[config.hidden].normed
    assert found[config.hidden].epilogue is Epilogue.ADD


def test_tuning_chooses_what_was_right_and_says_how_good_it_is(platform: str, child: Child) -> None:
    backend = OpenCLBackend(device=platform)
    seen: list[str] = []
    found = tune(
        child,
        backend.capabilities,
        [SMALL],
        backend.choices,
        seconds=1,
        progress=lambda _, what: seen.append(what),
    )
    lines = list(found.lines())
    assert [line.tile for line in lines] == list(TILES)
    assert all(line.rate > 0 and line.of_ceiling > 0 for line in lines)
    assert {line.unit for line in lines} == {"GB/s", "GFLOP/s"}
    assert set(found.tuned.choices) == {SMALL.key}
    assert all(SMALL.key in what for what in seen)


@thorough
def test_the_self_tests_report_tells_what_failed_and_nothing_of_the_user(
    platform: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selftest, "ALGORITHMS", {"gemv.k": ALGORITHMS["gemv.k"]})
    capabilities = OpenCLBackend(device=platform).capabilities
    monkeypatch.setattr(selftest, "_STEPS", (("gemv.k:wgs=2", "gemm.k:wgs=2"),))
    seen: list[int] = []
    with Child(Evaluator, Setup(platform)) as child, Child(Evaluator, Setup(platform)) as other:
        report = selftest.self_test(
            [child, other],
            capabilities,
            quick=True,
            progress=lambda done, _of, _what: seen.append(done),
        )
    assert report["whole"]
    assert report["ok"] == len(report["variants"]) == len(seen)
    assert report["failed"] == 0
    assert all(one["verified"] for one in report["variants"]) or capabilities.fp16
    shapes = {one["shape"] for one in report["variants"]}
    assert {"steps", "256x320.4g32", "256x384.4g128"} <= shapes
    assert {one["epilogue"] for one in report["variants"]} == {"store", "add", "swiglu"}
    assert report["device"]["driver"] == capabilities.driver
    assert report["versions"]["kernels"]
    text = json.dumps(report)
    assert str(Path.home()) not in text
    assert "/tmp" not in text


class ScriptedChild:
    """A child that answers by a script, for what no driver does when asked to."""

    def __init__(self, *answers: Outcome | BaseException) -> None:
        self._answers = list(answers)
        self.abandoned = False

    def ask(self, job: object, *, limit_s: float | None = None) -> object:
        del limit_s
        if isinstance(job, CeilingJob):
            return Ceiling(1.0, 1.0, 1.0)
        answer = self._answers.pop(0) if self._answers else Outcome()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def abandon(self) -> None:
        self.abandoned = True


def scripted_report(*answers: Outcome | BaseException) -> tuple[dict[str, Any], ScriptedChild]:
    child = ScriptedChild(*answers)
    report = selftest.self_test([cast("Child", child)], GPU, quick=True, progress=lambda *_: None)
    return report, child


def test_a_variant_that_fails_is_reported_with_its_reason_and_the_others_go_on() -> None:
    failures = (Outcome(error="wrong: off by 1"), ChildFailed("crashed (SIGSEGV)"))
    report, _ = scripted_report(Outcome(), *failures)
    assert report["whole"]
    assert report["failed"] == 2
    assert [one["error"] for one in report["variants"][:3]] == [
        None,
        "wrong: off by 1",
        "crashed (SIGSEGV)",
    ]


def test_a_device_that_does_not_open_any_more_ends_the_test_with_a_report() -> None:
    gone = BackendUnavailable("the device cannot be opened", {"opencl": "/home/a/x.so is gone"})
    report, child = scripted_report(Outcome(), gone)
    assert not report["whole"]
    assert report["ok"] == 1
    assert "the device cannot be opened" in report["ended"]
    assert "/home" not in report["ended"]
    assert child.abandoned


def test_what_the_user_breaks_off_is_reported_as_far_as_it_came(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(selftest, "wait", interrupted)
    report, child = scripted_report()
    assert not report["whole"]
    assert report["ended"] == "broken off by the user"
    assert child.abandoned


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("cannot open /home/somebody/.cache/pocl/x.so: no", "cannot open <path>: no"),
        (r"C:\Users\somebody\a.cl:3: error", "<path>:3: error"),
        ("wrong: off by 0.2 of the largest result", "wrong: off by 0.2 of the largest result"),
    ],
)
def test_a_reported_message_names_no_file(said: str, kept: str) -> None:
    assert selftest.without_paths(said) == kept


def _whole_steps_are(monkeypatch: pytest.MonkeyPatch, ratio: float) -> None:
    """Let whole steps with new choices take `ratio` times as long as before."""
    before = Timing(prefill_tok_s=1000.0, decode_tok_s=100.0, copy_block_s=0.0)
    after = Timing(1000.0 / ratio, 100.0 / ratio, 0.0)
    monkeypatch.setattr(whole_steps, "in_turns", lambda *_: (before, after))


@thorough
def test_choices_that_make_whole_steps_slower_are_not_stored(
    platform: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path))
    _whole_steps_are(monkeypatch, 1.5)
    model = gguf_files.write_tiny(tmp_path / "tiny.gguf")
    done = program.run(
        "tune", "--model", str(model), "--device", platform, "--seconds", "1", "--json"
    )
    assert done.exit_code == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert not report["kept"]
    assert not Path(report["path"]).exists()


@thorough
def test_choices_stay_as_they_were_where_comparing_them_is_broken_off(
    platform: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(whole_steps, "in_turns", interrupted)
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path))
    model = gguf_files.write_tiny(tmp_path / "tiny.gguf")
    done = program.run("tune", "--model", str(model), "--device", platform, "--seconds", "1")
    assert done.exit_code == 130
    assert not (paths.tuned_dir() / "choices.json").exists()


@thorough
def test_tune_stores_what_the_backend_then_uses_and_ships_it_on(
    platform: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _whole_steps_are(monkeypatch, 0.9)
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path / "home"))
    model = gguf_files.write_tiny(tmp_path / "tiny.gguf")
    asked = ("tune", "--model", str(model), "--device", platform, "--seconds", "1", "--json")
    done = program.run(*asked)
    assert done.exit_code == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["tried"] > 20
    assert {line["tile"] for line in report["choices"]} == set(TILES)
    assert report["kept"]
    assert Path(report["path"]).is_file()
    stored = OpenCLBackend(device=platform, tuned_dir=paths.tuned_dir()).choices
    for line in report["choices"]:
        form = parse_shape(line["shape"])
        assert str(stored.variant(form, line["tile"])) == line["variant"]
    shipped = tmp_path / "fleet.json"
    assert program.run("tune", "--export", str(shipped)).exit_code == 0
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path / "another"))
    told = program.run("tune", "--import", str(shipped), "--json")
    [imported] = json.loads(told.stdout)["imported"]
    assert imported["serves"].endswith("here")
    assert program.run("tune", "--export", "-").stdout == shipped.read_text("utf-8")
    again = OpenCLBackend(device=platform, tuned_dir=paths.tuned_dir()).choices
    assert again.table == stored.table


def test_a_file_that_is_no_file_of_choices_is_refused_with_its_field(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.json"
    wrong.write_text('{"format": 1, "devices": [{"device": 3}]}', "utf-8")
    done = program.run("tune", "--import", str(wrong))
    assert done.exit_code == 2
    assert "devices[0].device" in done.stderr


def test_choices_of_another_machine_are_imported_and_told_to_serve_nothing_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path))
    tiles = {tile: Variant.of("gemv.n" if tile == 1 else "gemm.n", tokens=1 if tile == 1 else 4)
             for tile in TILES}  # fmt: skip
    file = tmp_path / "theirs.json"
    file.write_text(dump([Tuned.of(GPU, {SMALL.key: tiles})]), "utf-8")
    done = program.run("tune", "--import", str(file))
    assert "1 shapes of Big 100: for no device of this machine" in done.stdout


def test_a_place_that_cannot_be_written_is_told_with_its_flag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path))
    file = tmp_path / "theirs.json"
    file.write_text(dump([Tuned.of(GPU, {})]), "utf-8")
    program.run("tune", "--import", str(file))
    done = program.run("tune", "--export", str(tmp_path / "nowhere" / "out.json"))
    assert done.exit_code == 2
    assert "--export" in done.stderr
    assert not (tmp_path / "nowhere").exists()


def test_nothing_to_export_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path))
    done = program.run("tune", "--export", str(tmp_path / "out.json"))
    assert done.exit_code == 2
    assert "isthmus tune" in done.stderr


def test_doctor_says_where_the_report_of_a_self_test_is(
    platform: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path))
    monkeypatch.setattr(selftest, "ALGORITHMS", {"gemv.k8n4": ALGORITHMS["gemv.k8n4"]})
    monkeypatch.setattr(selftest, "_STEPS", ())
    done = program.run("doctor", "--self-test", "--quick", "--device", platform, "--json")
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    report = json.loads(Path(told["path"]).read_text("utf-8"))
    assert told["ok"] == len(report["variants"]) > 1
    expected = {"variant", "shape", "epilogue", "ok", "verified", "error", "seconds"}
    assert expected == set(report["variants"][0])
    assert report["whole"]


def test_the_self_tests_flags_alone_are_misused() -> None:
    done = program.run("doctor", "--quick")
    assert done.exit_code == 2
    assert "--self-test" in done.stderr

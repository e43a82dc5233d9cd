"""`isthmus bench engine` on a tiny model: what is printed, that it is checked, what it refuses."""

from __future__ import annotations

import ast
import asyncio
import json
import math
import sys
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gguf_files import write_tiny
from isthmus.core.errors import InternalError, Unavailable
from isthmus.core.events import Delta, Event
from isthmus.engine.bench import base, compare
from isthmus.engine.bench.base import Contender, Hello
from isthmus.engine.bench.compare import Figure, Report, Result
from isthmus.engine.bench.ours import Contender as Ours
from isthmus.engine.engine import Engine
from isthmus.engine.pace import Pace
from isthmus.kernels import bandwidth
from program import run


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(bandwidth, "measure", lambda threads: 10.0 * threads)
    return write_tiny(tmp_path / "tiny.gguf")


def test_json_has_the_fields_that_it_promises(tiny: Path) -> None:
    told = run(
        *("bench", "engine", "--model", str(tiny), "--backend", "native"),
        *("--threads", "1", "--runs", "1", "--json"),
    )
    assert told.exit_code == 0, told.stderr
    shown = json.loads(told.stdout.splitlines()[-1])
    assert list(shown) == [
        *("model", "backend", "prefill_backend", "decode_backend", "device", "threads"),
        *("load_s", "first_token_s", "rss_mb"),
        *("prefill_tok_s", "decode_tok_s", "batch_decode_tok_s"),
        *("bytes_per_token", "read_gb_s", "mbu"),
        *("speculation_editing", "speculation_other", "stream_slowdown"),
    ]
    assert {shown[f"{which}backend"] for which in ("", "prefill_", "decode_")} == {"native"}
    assert (shown["threads"], shown["read_gb_s"]) == (1, 10.0)
    # The tiny model's context of 512 has no room for a prompt of 512 and an answer.
    assert list(shown["prefill_tok_s"]) == ["128"]
    assert list(shown["decode_tok_s"]) == ["64", "256"]
    assert list(shown["batch_decode_tok_s"]) == ["1", "5"]
    assert 0 < shown["load_s"] < shown["first_token_s"]
    assert shown["rss_mb"] > 10
    used = shown["bytes_per_token"] * shown["decode_tok_s"]["256"] / 10e9
    assert shown["mbu"] == pytest.approx(used, abs=1e-3)


def test_texts_have_exactly_the_tokens_asked_for_and_differ(tiny: Path) -> None:
    ours = Ours(str(tiny), "native", 1)
    encode = ours.engine.tokenizer.encode
    texts = [ours.text(40), ours.text(40), ours.text(40, seed=3)]
    assert [len(encode(text)) for text in texts] == [40, 40, 40]
    assert len(set(texts)) == 3
    assert ours.text(40, seed=3) == texts[2]
    ours.engine.close()


def test_the_check_finds_tokens_that_are_not_the_best(tiny: Path) -> None:
    ours = Ours(str(tiny), "native", 1)
    assert asyncio.run(ours.shortfall()) <= compare.TOLERANCE

    async def wrong(prompt: str, count: int) -> tuple[list[float], list[int]]:
        return [0.0] * count, [7] * count

    ours.arrivals = wrong  # type: ignore[method-assign]
    assert asyncio.run(ours.shortfall()) > compare.TOLERANCE
    ours.engine.close()


def test_speed_is_measured_without_speculation(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pace, "writing_s", lambda self, rows, more: np.ones(more + 1))
    ours = Ours(str(tiny), "native", 1)
    assert asyncio.run(ours.speedup("poem")) > 0
    assert ours.guessing.speculated.proposed > 0
    for work, of in ((ours.prefill, 128), (ours.decode, 256), (ours.batch, 5)):
        assert asyncio.run(work(of)) > 0
    assert ours.engine.speculated.proposed == 0
    ours.engine.close()
    ours.guessing.close()


def test_speculation_that_changes_an_answer_is_an_error_and_not_a_figure(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = Ours(str(tiny), "native", 1)
    monkeypatch.setitem(ours.__dict__, "guessing", ScriptedAnswer())
    with pytest.raises(InternalError, match="changed an answer"):
        asyncio.run(ours.speedup("poem"))
    ours.engine.close()


def test_an_answer_may_turn_on_a_backend_that_rounds_by_the_number_of_tokens(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = Ours(str(tiny), "native", 1)
    monkeypatch.setitem(ours.__dict__, "guessing", ScriptedAnswer())
    monkeypatch.setattr(Engine, "decode_backend", "opencl")
    assert asyncio.run(ours.speedup("poem")) == 1.0  # a single token has no speed
    ours.engine.close()


class ScriptedAnswer:
    """An engine that says something else."""

    async def complete(self, *args: object, **options: object) -> AsyncGenerator[Event, None]:
        yield Delta("?", token_ids=(1,))


def test_a_prompt_that_arrives_takes_a_conversation_some_time(tiny: Path) -> None:
    ours = Ours(str(tiny), "native", 1)
    assert 0 < asyncio.run(ours.slowdown(150)) < math.inf  # how much is the machine's affair
    ours.engine.close()


def test_only_a_context_with_room_for_them_is_asked_for_the_long_rows() -> None:
    asked = base.of_itself(8192)
    assert asked["slowdown"] == [2000]
    assert {"rename", "poem"} < set(asked["speedup"])
    assert not any(base.of_itself(512).values())


def test_a_set_of_prompts_is_summed_up_by_its_middle_and_its_ends() -> None:
    result = Result("isthmus", Hello("native", "native", "cpu", 2, 0.1, 1_000_000, 512))
    for name, values in (("a", (1.0, 1.2)), ("b", (3.0, 5.0)), ("c", (1.5, 1.7))):
        for value in values:
            result.add(f"speculation_editing.{name}", value)
    across = result.across("speculation_editing")
    assert across is not None
    assert (across.median, min(across.values), max(across.values)) == (1.6, 1.1, 4.0)
    assert result.across("speculation_other") is None


def test_a_backend_asked_for_by_name_is_strict(tiny: Path) -> None:
    told = run("bench", "engine", "--model", str(tiny), "--backend", "opencl9", "--runs", "1")
    assert told.exit_code == 1
    assert "error:" in told.stderr


def test_a_missing_peer_says_how_to_get_it(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(compare.PEER_VARIABLE, raising=False)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "nowhere" / ".venv"))
    told = run("bench", "engine", "--model", str(tiny), "--vs", "llama.cpp")
    assert told.exit_code == 1
    assert "make bench-peers" in told.stderr
    assert run("bench", "engine", "--vs", "tinygrad").exit_code == 2


def test_a_contender_that_dies_is_an_error_and_not_a_figure() -> None:
    dies = (sys.executable, "-c", "raise SystemExit(3)")
    broken = Contender("broken", serve=dies, memory=dies, first_token=dies)
    for ask in (base.Session, base.fresh, base.first_token_s):
        with pytest.raises(InternalError, match="broken"):
            ask(broken)


def test_ratios_are_ours_to_the_peers_by_median() -> None:
    hello = Hello("native", "native", "cpu", 2, 0.1, 1_000_000, 512)
    ours, peer = Result("isthmus", hello), Result("llama.cpp", hello)
    for value in (90.0, 100.0, 500.0):
        ours.add("decode_tok_s.256", value)
    peer.add("decode_tok_s.256", 50.0)
    report = Report("m", (ours, peer), Figure((1.0,)))
    assert report.ratios(peer) == {"decode_tok_s.256": 2.0}
    assert report.mbu(ours) == pytest.approx(0.1)
    assert ours.figures["decode_tok_s.256"].spread == pytest.approx(4.1)
    uncounted = replace(ours, hello=replace(hello, bytes_per_token=None))
    assert report.mbu(uncounted) is None


def test_the_peer_does_the_same_work_without_importing_ours() -> None:
    source = Path(compare.__file__).with_name("peer.py").read_text("utf-8")
    constants = {
        node.targets[0].id: node.value.value
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
    }
    assert constants == {
        name: max(base.STREAMS) if name == "STREAMS" else getattr(base, name) for name in constants
    }
    assert {"DECODED", "STREAM_PROMPT", "STREAM_DECODED", "RSS_PREFILL"} < set(constants)
    assert "isthmus" not in source.replace("Isthmus", "")


def test_bandwidth_is_measured_in_a_process_of_its_own() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        bandwidth.read_gb_s(0)
    assert 0.1 < bandwidth.measure(1) < 10_000


def test_a_missing_model_is_told_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        compare.measure(str(tmp_path / "no.gguf"))


FAKE_PEER = """#!{python}
import json, sys
import numpy as np
what, file, threads, tokens, answer = sys.argv[2:]
assert what == "logits" and threads == "1", sys.argv
ids = json.loads(open(tokens).read())
np.save(answer, np.zeros((len(ids), {vocab}), np.float32))
"""


def test_accuracy_compares_every_way_with_the_reference(tiny: Path, tmp_path: Path) -> None:
    text, peer = tmp_path / "text.txt", tmp_path / "python"
    text.write_text("the quick brown fox jumps over the lazy dog", "utf-8")
    peer.write_text(FAKE_PEER.format(python=sys.executable, vocab=288), "utf-8")
    peer.chmod(0o700)
    told = run(
        *("bench", "accuracy", str(text), "--model", str(tiny), "--threads", "1"),
        *("--vs", "llama.cpp", "--peer-python", str(peer), "--json"),
    )
    assert told.exit_code == 0, told.stderr
    rows = {row["name"]: row for row in json.loads(told.stdout)["accuracy"]}
    reference, eight, sixteen = (
        rows[name]
        for name in (
            "float32",
            "native, 8-bit activations, float32 cache",
            "native, 16-bit activations, float32 cache",
        )
    )
    assert (reference["kl_mean"], reference["same_best"]) == (0.0, 1.0)
    assert 0 <= sixteen["kl_mean"] < eight["kl_mean"] < 0.1
    assert sixteen["perplexity"] == pytest.approx(reference["perplexity"], rel=1e-3)
    # A peer that knows nothing is as perplexed as the vocabulary is large.
    assert rows["llama.cpp"]["perplexity"] == pytest.approx(288)
    assert rows["llama.cpp"]["kl_mean"] > 0.1


def test_accuracy_of_a_peer_that_fails_is_an_error(tiny: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("two tokens", "utf-8")
    command = ("bench", "accuracy", str(text), "--model", str(tiny), "--vs", "llama.cpp")
    told = run(*command, "--peer-python", "/bin/false")
    assert told.exit_code == 1
    assert "llama.cpp failed (status 1)" in told.stderr

"""A float model becomes a 4-bit one that the engine loads, and its cost is told truly."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import tiny_models
from isthmus.cli.main import main
from isthmus.core.errors import ConfigError, InvalidRequest
from isthmus.engine.catalogue import catalogue, locate
from isthmus.engine.huggingface import read_folder
from isthmus.engine.model import ModelFile
from isthmus.engine.perplexity import all_logits
from isthmus.engine.prepared import pack_model
from isthmus.engine.quantize.awq_search import quantize, scale_layer
from isthmus.engine.quantize.convert import Method, convert
from isthmus.engine.quantize.feedback import factors, round_with_feedback
from isthmus.engine.quantize.layer import Inputs, Weights, read_layer, run_layer
from isthmus.engine.quantize.text import Texts, prepare
from isthmus.kernels.base import F32, QuantizedWeight
from isthmus.kernels.numpy_ref import NumpyBackend
from isthmus.kernels.quantize import round_to_nearest


@pytest.fixture(params=tiny_models.CONFIGS)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> ModelFile:
    return read_folder(tiny_models.write_folder(tmp_path / "float", request.param))


def texts() -> Texts:
    rng = np.random.default_rng(5)
    windows = [rng.integers(0, 256, 96).tolist() for _ in range(4)]
    return Texts(windows[:3], windows[3:], "random")


def log_odds(model: ModelFile, ids: list[int]) -> NDArray[np.float64]:
    """Of each next token, on the engine's own graph. [tokens, vocabulary]"""
    logits = all_logits(pack_model(model, NumpyBackend()), NumpyBackend(), ids[:-1])
    wide = logits.astype(np.float64)
    found: NDArray[np.float64] = wide - np.log(np.exp(wide).sum(axis=1, keepdims=True))
    return found


def perplexity(odds: NDArray[np.float64], ids: list[int]) -> float:
    return math.exp(-odds[np.arange(len(ids) - 1), ids[1:]].mean())


@pytest.mark.parametrize("method", Method)
@pytest.mark.parametrize("group", [32, 64, 128])
def test_the_perplexities_are_those_of_the_engine_on_what_was_written(
    model: ModelFile, method: Method, group: int, tmp_path: Path
) -> None:
    # 64 and 96 columns: with groups of 64 and 128 the last group is short.
    used = texts()
    result = convert(model, tmp_path / "q", used, method=method, group=group)
    again = read_folder(tmp_path / "q")
    ids = used.evaluation[0]
    told = result.perplexity_awq if method is Method.AWQ else result.perplexity_rtn
    exact, rounded = log_odds(model, ids), log_odds(again, ids)
    assert told == pytest.approx(perplexity(rounded, ids), rel=2e-3)
    assert result.perplexity_float == pytest.approx(perplexity(exact, ids), rel=2e-3)
    divergence = (np.exp(exact) * (exact - rounded)).sum(axis=1).mean()
    told = result.divergence_awq if method is Method.AWQ else result.divergence_rtn
    assert told == pytest.approx(divergence, rel=0.05)
    assert again.matrix("blk.1.ffn_up.weight").bits == 4
    assert again.matrix("blk.1.ffn_up.weight").group == group


def layer_with_loud_inputs(model: ModelFile) -> tuple[Weights, list[F32]]:
    """A layer with a few input channels that are far larger than the rest, and windows whose
    first token is enormous, as language models have both."""
    weights = read_layer(model, 0)
    rng = np.random.default_rng(6)
    for norm in ("attn_norm.weight", "ffn_norm.weight"):
        weights[norm] = weights[norm].copy()
        weights[norm][rng.integers(0, 64, 4)] *= 30
    windows = [rng.standard_normal((96, 64)).astype(np.float32) for _ in range(3)]
    for window in windows:
        window[0] *= 1000
    return weights, windows


def test_scaling_a_layer_does_not_change_what_it_computes(model: ModelFile) -> None:
    weights, windows = layer_with_loud_inputs(model)
    seen = Inputs()
    before = run_layer(model.config, weights, windows, seen)
    scaled = scale_layer(model.config, weights, seen, 32)
    after = run_layer(model.config, scaled, windows, None)
    assert any(np.any(scaled[name] != weights[name]) for name in scaled)
    np.testing.assert_allclose(np.concatenate(after), np.concatenate(before), rtol=1e-3, atol=1e-3)


def test_awq_is_closer_than_rounding_where_some_inputs_are_loud(model: ModelFile) -> None:
    weights, windows = layer_with_loud_inputs(model)
    seen = Inputs()
    exact = np.concatenate(run_layer(model.config, weights, windows, seen))

    def error(base: Weights, matrices: dict[str, F32]) -> float:
        found = np.concatenate(run_layer(model.config, base | matrices, windows, None))
        off, size = np.square(found - exact).sum(axis=1), np.square(exact).sum(axis=1)
        return float((off / size).mean())

    rounded = {n: w.dequantize() for n, w in quantize(weights, 32).items()}
    scaled = scale_layer(model.config, weights, seen, 32)
    aware = {n: w.dequantize() for n, w in quantize(scaled, 32).items()}
    assert error(scaled, aware) < 0.9 * error(weights, rounded)


def test_what_is_added_to_a_token_counts_by_the_size_of_that_token(model: ModelFile) -> None:
    weights, windows = layer_with_loud_inputs(model)
    seen = Inputs()
    run_layer(model.config, weights, windows[:1], seen)
    for product in (seen.output, seen.down):
        sizes = np.linalg.norm(product.inputs, axis=1)
        assert sizes[0] < 0.3 * np.median(sizes)


@pytest.mark.parametrize(("cols", "group"), [(128, 32), (576, 128), (96, 64)])
def test_rounding_is_off_by_half_a_step_at_most(cols: int, group: int) -> None:
    matrix = np.random.default_rng(7).standard_normal((9, cols)).astype(np.float32)
    matrix[0] = 0
    weight = round_to_nearest(matrix, group=group)
    steps = np.repeat(weight.scales, group, axis=1)[:, :cols]
    zeros = -weight.minimums / weight.scales
    assert weight.codes.max() <= 15
    np.testing.assert_allclose(zeros, np.rint(zeros), atol=1e-3)
    # The zero point is rounded too, so a value at the end of the range may be half a step outside.
    assert np.all(np.abs(weight.dequantize() - matrix) <= 1.01 * steps)
    assert np.mean(np.abs(weight.dequantize() - matrix) <= 0.501 * steps) > 0.95
    np.testing.assert_array_equal(weight.dequantize()[0], 0)


@pytest.mark.parametrize(("cols", "group"), [(128, 32), (2304, 128), (200, 64)])
def test_feedback_makes_up_for_errors_where_inputs_go_together(cols: int, group: int) -> None:
    rng = np.random.default_rng(8)
    mix = rng.standard_normal((cols // 8, cols)).astype(np.float32)
    inputs, fresh = (rng.standard_normal((1024, cols // 8)).astype(np.float32) @ mix for _ in "ab")
    matrix = rng.standard_normal((16, cols)).astype(np.float32)
    aware = round_with_feedback(matrix, factors(inputs, group), group)

    def error(weight: QuantizedWeight) -> float:
        return float(np.square(fresh @ (weight.dequantize() - matrix).T).mean())

    # On inputs that the rounding has not seen.
    assert error(aware) < 0.5 * error(round_to_nearest(matrix, group=group))
    assert aware.codes.shape == matrix.shape
    assert aware.codes.max() <= 15
    zeros = -aware.minimums / aware.scales
    np.testing.assert_allclose(zeros, np.rint(zeros), atol=1e-3)


def test_feedback_without_anything_in_common_is_rounding_to_nearest() -> None:
    matrix = np.random.default_rng(9).standard_normal((16, 64)).astype(np.float32)
    aware = round_with_feedback(matrix, factors(np.eye(64, dtype=np.float32), 32), 32)
    plain = round_to_nearest(matrix, group=32)
    assert np.mean(aware.codes == plain.codes) > 0.99
    np.testing.assert_array_equal(aware.scales, plain.scales)


def test_a_group_that_is_not_offered_is_refused(tmp_path: Path) -> None:
    model = read_folder(tiny_models.write_folder(tmp_path / "float", "llama"))
    with pytest.raises(ConfigError, match="group 48 is not one of 32, 64, 128"):
        convert(model, tmp_path / "q", texts(), group=48)


def test_a_text_that_is_too_short_is_refused(tmp_path: Path) -> None:
    model = read_folder(tiny_models.write_folder(tmp_path / "float", "llama"))
    with pytest.raises(InvalidRequest, match="too short"):
        prepare(model, calibration="Too short.")


def test_a_conversion_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    model = read_folder(tiny_models.write_folder(tmp_path / "float", "llama"))

    def stop(done: int, total: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(ConfigError, match="No space left"):
        convert(model, tmp_path / "q", texts(), progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["float"]


def test_a_converted_model_is_in_the_catalogue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path))
    source = tiny_models.write_folder(tmp_path / "float", "qwen2")
    main_ok(["model", "convert", str(source), "--to", "mine", "--group", "64", "--json"])
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    entry = catalogue()["mine"]
    assert locate(entry) == Path(told["path"])
    assert entry.size_bytes == told["size_bytes"]
    assert entry.quantization == "AWQ 4-bit, group 64"
    main_ok(["model", "list", "--json"])
    listed = json.loads(capsys.readouterr().out)["models"]
    assert next(m for m in listed if m["name"] == "mine")["path"] == told["path"]
    main_ok(["model", "inspect", "mine", "--json"])
    assert json.loads(capsys.readouterr().out)["architecture"] == "qwen2"


@pytest.mark.parametrize("name", ["../up", "smollm2-135m"])
def test_a_name_that_is_taken_or_a_path_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path))
    source = tiny_models.write_folder(tmp_path / "float", "qwen2")
    with pytest.raises(SystemExit) as exit_:
        main(["model", "convert", str(source), "--to", name])
    assert exit_.value.code == 2
    assert "cannot name a new model" in capsys.readouterr().err


def main_ok(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code in (0, None)

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
from isthmus.engine.formats.huggingface import read_folder
from isthmus.engine.model import ModelFile
from isthmus.engine.perplexity import all_logits
from isthmus.engine.prepared import pack_model
from isthmus.engine.quantize.awq_search import best_choice, fold, quantize, quantize_aware
from isthmus.engine.quantize.convert import Method, convert
from isthmus.engine.quantize.feedback import feedback, round_with_feedback
from isthmus.engine.quantize.grid import best_grid
from isthmus.engine.quantize.layer import Inputs, Seen, Weights, read_layer, run_layer
from isthmus.engine.quantize.moments import Moments
from isthmus.engine.quantize.text import EVALUATION, Texts, prepare
from isthmus.engine.sources.catalogue import catalogue, locate
from isthmus.kernels.base import F32, QuantizedWeight
from isthmus.kernels.numpy_ref import NumpyBackend
from isthmus.kernels.quantize import round_to_nearest


@pytest.fixture(params=tiny_models.CONFIGS)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> ModelFile:
    return read_folder(tiny_models.write_folder(tmp_path / "float", request.param))


def texts() -> Texts:
    rng = np.random.default_rng(5)
    windows = [rng.integers(0, 256, 96).tolist() for _ in range(5)]
    return Texts(windows[:3], {"one": windows[3:4], "two": windows[4:]}, "random")


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
    assert [told.text for told in result.texts] == ["one", "two", "all"]
    assert result.texts[2].tokens == result.texts[0].tokens + result.texts[1].tokens
    for told, (ids,) in zip(result.texts, used.evaluation.values(), strict=False):
        aware = method is Method.AWQ
        exact, rounded = log_odds(model, ids), log_odds(again, ids)
        found = told.perplexity_awq if aware else told.perplexity_rtn
        assert found == pytest.approx(perplexity(rounded, ids), rel=2e-3)
        assert told.perplexity_float == pytest.approx(perplexity(exact, ids), rel=2e-3)
        divergence = (np.exp(exact) * (exact - rounded)).sum(axis=1).mean()
        found = told.divergence_awq if aware else told.divergence_rtn
        assert found == pytest.approx(divergence, rel=0.05)
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
    config, rng = model.config, np.random.default_rng(10)

    def scales(cols: int) -> F32:
        return np.exp(rng.uniform(-2, 2, cols)).astype(np.float32)

    # A key/value head feeds several heads of the output, which can only be scaled alike.
    by_value = scales(config.kv_heads * config.head_dim).reshape(config.kv_heads, 1, -1)
    output = np.repeat(by_value, config.heads // config.kv_heads, axis=1).reshape(-1)
    scaled = fold(
        config,
        weights,
        {
            "qkv": scales(config.hidden),
            "output": output,
            "gate_up": scales(config.hidden),
            "down": scales(config.ffn),
        },
    )
    before = run_layer(config, weights, windows, None)
    after = run_layer(config, scaled, windows, None)
    assert all(np.any(scaled[name] != weights[name]) for name in quantize(weights, 32))
    np.testing.assert_allclose(np.concatenate(after), np.concatenate(before), rtol=1e-3, atol=1e-3)


def test_awq_is_closer_than_rounding_on_text_that_it_has_not_seen(model: ModelFile) -> None:
    weights, windows = layer_with_loud_inputs(model)
    seen = Inputs()
    run_layer(model.config, weights, windows, seen)
    fresh = [np.random.default_rng(11).standard_normal((96, 64)).astype(np.float32)]
    exact = np.concatenate(run_layer(model.config, weights, fresh, None))

    def error(base: Weights, matrices: dict[str, QuantizedWeight]) -> float:
        rounded = base | {name: weight.dequantize() for name, weight in matrices.items()}
        found = np.concatenate(run_layer(model.config, rounded, fresh, None))
        off, size = np.square(found - exact).sum(axis=1), np.square(exact).sum(axis=1)
        return float((off / size).mean())

    aware = error(*quantize_aware(model.config, weights, seen, 32))
    assert aware < 0.9 * error(weights, quantize(weights, 32))


def test_heads_that_share_values_are_scaled_alike(model: ModelFile) -> None:
    weights, windows = layer_with_loud_inputs(model)
    seen = Inputs()
    before = run_layer(model.config, weights, windows, seen)
    scaled, _ = quantize_aware(model.config, weights, seen, 32)
    after = run_layer(model.config, scaled, windows, None)
    np.testing.assert_allclose(np.concatenate(after), np.concatenate(before), rtol=1e-3, atol=1e-3)


def test_what_is_added_to_a_token_counts_by_the_size_of_that_token(model: ModelFile) -> None:
    weights, windows = layer_with_loud_inputs(model)
    seen = Inputs()
    run_layer(model.config, weights, [window[:1] for window in windows[:2]], seen)
    # The first token of a window is a thousand times as large as it would be.
    usual = Inputs()
    run_layer(model.config, weights, [window[1:2] for window in windows[:2]], usual)
    for enormous, other in ((seen.output, usual.output), (seen.down, usual.down)):
        assert enormous.fit.sizes.mean() < 0.3 * other.fit.sizes.mean()


def test_loud_inputs_are_scaled_where_that_helps_on_held_out_text() -> None:
    rng = np.random.default_rng(12)
    matrix = rng.standard_normal((64, 128)).astype(np.float32)
    seen = Seen()
    for _ in range(8):
        inputs = rng.standard_normal((256, 128)).astype(np.float32)
        inputs[:, :4] *= 100
        seen.add(Moments.of(inputs))
    choice = best_choice(matrix, seen, 128)
    assert choice.fed_back
    assert choice.scales[:4].min() > 2 * choice.scales[4:].max()


def test_a_product_is_rounded_plainly_where_feedback_fails_on_held_out_text() -> None:
    rng = np.random.default_rng(13)
    matrix = rng.standard_normal((64, 128)).astype(np.float32)
    # Two inputs go together in the windows for the fit, and against each other in the other one.
    alike = np.repeat(rng.standard_normal((256, 64)), 2, axis=1).astype(np.float32)
    signs = np.tile(np.array([1, -1], np.float32), 64)
    seen = Seen()
    for inputs in (alike, alike * signs, alike):
        seen.add(Moments.of(inputs))
    choice = best_choice(matrix, seen, 128)
    assert not choice.fed_back
    np.testing.assert_array_equal(choice.scales, 1)


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
    aware = round_with_feedback(matrix, feedback(Moments.of(inputs)), group)

    def error(weight: QuantizedWeight) -> float:
        return float(np.square(fresh @ (weight.dequantize() - matrix).T).mean())

    # On inputs that the rounding has not seen.
    assert error(aware) < 0.5 * error(round_to_nearest(matrix, group=group))
    assert aware.codes.shape == matrix.shape
    assert aware.codes.max() <= 15
    zeros = -aware.minimums / aware.scales
    np.testing.assert_allclose(zeros, np.rint(zeros), atol=1e-3)


def test_feedback_without_anything_in_common_only_chooses_the_steps() -> None:
    matrix = np.random.default_rng(9).standard_normal((16, 64)).astype(np.float32)
    aware = round_with_feedback(matrix, feedback(Moments.of(np.eye(64, dtype=np.float32))), 32)
    grid = best_grid(matrix, np.ones((1, 64), np.float32), 32)
    np.testing.assert_array_equal(aware.scales, grid.steps)
    steps, zeros = np.repeat(grid.steps, 32, axis=1), np.repeat(grid.zeros, 32, axis=1)
    codes = np.clip(np.rint(matrix / steps) + zeros, 0, 15)
    assert np.mean(aware.codes == codes) > 0.99


def test_a_group_spans_less_where_what_is_cut_off_hardly_matters() -> None:
    # 72 columns in groups of 64: the last group is short.
    matrix = np.random.default_rng(14).standard_normal((32, 72)).astype(np.float32)
    matrix[:, 5] = 10
    even = np.ones((1, 72), np.float32)
    quiet = even.copy()
    quiet[0, 5] = 1e-6
    kept, cut = best_grid(matrix, even, 64), best_grid(matrix, quiet, 64)
    assert cut.steps[:, 0].mean() < 0.9 * kept.steps[:, 0].mean()
    np.testing.assert_array_equal(cut.steps[:, 1], kept.steps[:, 1])


def test_moments_add_up_to_those_of_the_whole_text() -> None:
    inputs = np.random.default_rng(15).standard_normal((64, 2304)).astype(np.float32)
    whole = Moments.of(inputs)
    summed = Moments() + Moments.of(inputs[:20]) + Moments.of(inputs[20:])
    assert [span.stop - span.start for span in whole.spans] == [1152, 1152]
    assert summed.tokens == whole.tokens == 64
    np.testing.assert_allclose(summed.sizes, whole.sizes, rtol=1e-5)
    off = np.random.default_rng(16).standard_normal((3, 2304)).astype(np.float32)
    np.testing.assert_allclose(summed.error(off), whole.error(off), rtol=1e-3)
    expected = sum(np.square(inputs[:, s] @ off[:, s].T).sum(axis=0) for s in whole.spans)
    np.testing.assert_allclose(whole.error(off), expected, rtol=1e-3)


def test_a_group_that_is_not_offered_is_refused(tmp_path: Path) -> None:
    model = read_folder(tiny_models.write_folder(tmp_path / "float", "llama"))
    with pytest.raises(ConfigError, match="group 48 is not one of 32, 64, 128"):
        convert(model, tmp_path / "q", texts(), group=48)


def test_a_text_that_is_too_short_is_refused(tmp_path: Path) -> None:
    model = read_folder(tiny_models.write_folder(tmp_path / "float", "llama"))
    with pytest.raises(InvalidRequest, match="too short"):
        prepare(model, calibration="Too short.")
    with pytest.raises(InvalidRequest, match="evaluation text one is too short"):
        prepare(model, evaluation={"one": ""})


def test_a_conversion_is_measured_on_text_that_it_has_not_seen(tmp_path: Path) -> None:
    model = read_folder(tiny_models.write_folder(tmp_path / "float", "llama"))
    shipped = prepare(model)
    assert tuple(shipped.evaluation) == EVALUATION
    own = prepare(model, calibration="One text of mine, long enough. " * 400)
    assert list(own.evaluation) == ["kept back"]
    windows = len(own.calibration) + len(own.evaluated)
    assert len(own.evaluated) == -(-windows // 4)
    both = prepare(model, calibration="Mine.", evaluation={"a": "First text.", "b": "Second."})
    assert list(both.evaluation) == ["a", "b"]
    assert len(both.calibration) == 1


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


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["empty"], "empty is not a model folder: it has no config.json"),
        (["float", "--calibration", "none.txt"], "cannot read none.txt.*(calibration)"),
        (["float", "--evaluation", "binary.txt"], "binary.txt is not UTF-8 text (evaluation)"),
        (["float", "--evaluation", "a.txt", "--evaluation", "empty/../a.txt"], "two texts are"),
    ],
)
def test_what_cannot_be_read_is_named(
    arguments: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    tiny_models.write_folder(tmp_path / "float", "qwen2")
    (tmp_path / "empty").mkdir()
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "a.txt").write_text("A text.")
    with pytest.raises(SystemExit):
        main(["model", "convert", *arguments, "--to", "x"])
    error = capsys.readouterr().err
    assert all(part in error for part in told.split(".*"))
    assert not list(tmp_path.glob("home/models/*"))


def main_ok(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code in (0, None)

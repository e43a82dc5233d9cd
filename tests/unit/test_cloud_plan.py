"""Capacity from first principles, held to what others worked out, published or saw in a log."""

from __future__ import annotations

import dataclasses
import json
import math
import tomllib
from importlib import resources

import pytest
from typer.testing import CliRunner

from isthmus.cli.cloud import app
from isthmus.cli.cloud_plan import model_of
from isthmus.cloud.planning import formats, gpus, models
from isthmus.cloud.planning.capacity import GIB, Setup
from isthmus.cloud.planning.measured import Point, corrected, read
from isthmus.core.errors import ConfigError, InvalidRequest

A10 = gpus.named("A10")[1]
H100 = gpus.named("H100")[1]
LLAMA = models.named("llama-2-7b")
SEVEN = dataclasses.replace(LLAMA, parameters=7_000_000_000)


def test_llama_2_7b_on_an_a10_is_as_the_worked_example_says():
    # baseten.co/blog/llm-transformer-inference-guide: 39 ms for 350 tokens, 23 ms a token, from
    # 7e9 parameters in fp16, 125 TFLOP/s and 600 GB/s.
    setup = Setup(SEVEN, A10)
    assert round(1000 * setup.prefill_s(350)) == 39
    assert round(1000 * setup.tpot_s(1, 0)) == 23


def test_a_7b_that_takes_14_ms_a_token_uses_half_of_2_tb_s():
    # databricks.com/blog/llm-inference-performance-engineering-best-practices, on MBU.
    card = A10.model_copy(update={"bandwidth_gb_s": 2000})
    assert Setup(SEVEN, card).mbu(0.014, 1, 0) == pytest.approx(0.5)


def test_a_13b_keeps_800_kib_a_token():
    # arXiv 2309.06180 (PagedAttention), section 3: 13B, 40 layers, hidden 5120, fp16.
    assert Setup(models.named("llama-2-13b"), H100).kv_bytes_per_token == 800 * 1024


def test_the_kv_cache_holds_the_tokens_that_vllm_logged():
    # vllm-project/vllm issue 21348: Qwen3-235B-A22B on four H100, 8.11 GiB each: 178,880 tokens.
    model = dataclasses.replace(LLAMA, layers=94, kv_heads=4, head_size=128)
    setup = Setup(model, H100, tensor_parallel=4)
    assert 4 * 8.11 * GIB / setup.kv_bytes_per_token == pytest.approx(178_880, rel=0.02)


@pytest.mark.parametrize(
    ("name", "gigabytes"), [("llama-3.1-8b", 5.73), ("qwen2.5-7b", 5.57), ("qwen2.5-32b", 19.3)]
)
def test_weights_in_4_bits_take_what_their_files_on_the_hub_have(name, gigabytes):
    # Sizes of hugging-quants' and Qwen's own AWQ repositories.
    setup = Setup(models.named(name), H100, weights="awq_marlin")
    assert setup.weight_bytes / 1e9 == pytest.approx(gigabytes, rel=0.01)


@pytest.mark.parametrize("name", models.known())
def test_parameters_counted_from_a_shape_are_those_of_the_published_weights(name):
    assert models.named(name).parameters == models.known()[name]["parameters"]


def test_a_token_wakes_two_experts_of_eight_and_a_batch_nearly_all():
    mixtral = models.named("mixtral-8x7b")
    assert mixtral.awake_parameters(1) == pytest.approx(12.88e9, rel=1e-3)
    assert mixtral.awake_parameters(64) == pytest.approx(mixtral.parameters, rel=1e-6)
    assert LLAMA.awake_parameters(1) == LLAMA.parameters


def test_two_gpus_in_tensors_halve_both_times_and_two_in_a_pipeline_neither():
    one = Setup(LLAMA, A10)
    tensor = Setup(LLAMA, A10, tensor_parallel=2)
    pipeline = Setup(LLAMA, A10, pipeline_parallel=2)
    assert tensor.prefill_s(350) == pytest.approx(one.prefill_s(350) / 2)
    assert tensor.tpot_s(1, 350) == pytest.approx(one.tpot_s(1, 350) / 2)
    assert pipeline.tpot_s(1, 350) == one.tpot_s(1, 350)
    assert tensor.kv_tokens > 2.5 * one.kv_tokens
    assert pipeline.kv_tokens > 2.5 * one.kv_tokens


def test_more_gpus_than_kv_heads_hold_some_heads_twice():
    model = models.named("qwen2.5-7b")
    by_gpus = {n: Setup(model, H100, tensor_parallel=n).kv_bytes_per_token for n in (1, 4, 8)}
    assert by_gpus[4] == by_gpus[1]
    assert by_gpus[8] == 2 * by_gpus[1]


def test_fewer_bits_halve_what_is_read_and_8_bit_units_the_operations():
    half, quarter = Setup(LLAMA, H100), Setup(LLAMA, H100, weights="fp8", kv_cache="fp8")
    assert quarter.kv_bytes_per_token == half.kv_bytes_per_token / 2
    assert quarter.prefill_s(4000) == pytest.approx(half.prefill_s(4000) * 989 / 1979)
    # The A100 has no units for fp8 and widens it.
    assert Setup(LLAMA, gpus.named("A100")[1], weights="fp8").flops == 312e12


def test_a_scale_of_each_head_is_counted():
    assert formats.kv_bytes_of_head("int8_per_token_head", 128) == 132
    assert formats.kv_bytes_of_head("int4_per_token_head", 128) == 68


def test_a_large_batch_is_bound_by_operations_and_a_short_prompt_by_reading():
    setup = Setup(LLAMA, A10)
    assert setup.tpot_s(2000, 0) == pytest.approx(setup.operations(2000) / 125e12)
    assert setup.prefill_s(1) == setup.tpot_s(1, 0)


def test_a_prompt_of_a_mixture_wakes_all_of_its_experts():
    setup = Setup(models.named("mixtral-8x7b"), gpus.named("H200")[1])
    # 46.7e9 parameters of 2 bytes each at 4.8e12 bytes a second; the operations take 9.1 ms.
    assert setup.prefill_s(350) == pytest.approx(0.01946, rel=1e-3)
    assert setup.tpot_s(1, 0) == pytest.approx(12.88e9 * 2 / 4.8e12, rel=1e-3)


def test_a_model_that_does_not_fit_leaves_no_room():
    setup = Setup(models.named("llama-2-70b"), A10)
    assert setup.kv_bytes < 0
    assert setup.kv_tokens == 0


def point(**changes) -> Point:
    usual = {"gpu": "a10", "model": "llama-2-7b", "prompt_tokens": 350, "source": "s"}
    return Point.model_validate(usual | changes)


def test_what_was_measured_comes_back_for_the_same_setup():
    setup, sources = corrected(Setup(LLAMA, A10), "A10", [point(ttft_ms=60, tpot_ms=30)])
    assert setup.prefill_s(350) == pytest.approx(0.060)
    assert setup.tpot_s(1, 350) == pytest.approx(0.030)
    assert setup.bandwidth_efficiency == pytest.approx(Setup(LLAMA, A10).mbu(0.03, 1, 350))
    assert sources == ["s"]


def test_a_time_says_nothing_of_what_it_was_not_bound_by():
    # 20 tokens take as long as reading the weights; 2,000 answers at once wait for operations.
    bound_otherwise = point(prompt_tokens=20, ttft_ms=30, batch=2000, tpot_ms=300)
    setup, sources = corrected(Setup(LLAMA, A10), "A10", [bound_otherwise])
    assert (setup.compute_efficiency, setup.bandwidth_efficiency, sources) == (1.0, 1.0, [])


def test_points_of_this_model_come_before_those_of_others_and_other_gpus_tell_nothing():
    other = point(model="llama-2-13b", tpot_ms=200, source="other")
    own = [point(tpot_ms=30), point(tpot_ms=40), point(tpot_ms=28)]
    setup, _ = corrected(Setup(LLAMA, A10), "A10", [other, *own])
    assert setup.tpot_s(1, 350) == pytest.approx(0.030)
    setup, sources = corrected(Setup(LLAMA, A10), "A10", [other])
    assert setup.bandwidth_efficiency == pytest.approx(0.218, abs=0.01)
    setup, sources = corrected(Setup(LLAMA, H100), "H100", [other, *own])
    assert (setup.compute_efficiency, setup.bandwidth_efficiency, sources) == (1.0, 1.0, [])


def test_every_gpu_and_model_says_where_its_figures_are_from():
    for file in ("gpus.toml", "models.toml"):
        text = resources.files("isthmus.cloud.planning").joinpath(file).read_text("utf-8")
        entries = tomllib.loads(text)
        assert len(entries) > 10
        assert all(entry["source"] for entry in entries.values())
    for name, card in gpus.known().items():
        assert gpus.named(name.lower()) == (name, card)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: gpus.named("H10"), "did you mean 'H100'"),
        (lambda: models.named("llama-2-8b"), "did you mean 'llama-2-7b'"),
        (lambda: formats.weights("awq_marlyn"), "did you mean 'awq_marlin'"),
        (lambda: formats.kv_bytes_of_head("fp9", 1), "did you mean 'fp8'"),
        (lambda: models.of_config("m", {"hidden_size": 8}), "num_hidden_layers"),
        (lambda: models.of_config("m", {"kv_lora_rank": 512}), "latent"),
        (lambda: models.of_config("m", {"hidden_size": None, "num_hidden_layers": 1}), "lacks"),
    ],
)
def test_what_is_not_known_is_an_error_that_helps(call, said):
    with pytest.raises(InvalidRequest, match=said):
        call()


def test_a_folder_tells_its_shape_and_weighs_its_files(tmp_path):
    config = dict(models.known()["smollm2-135m"]) | {"model_type": "llama"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert model_of(str(tmp_path)).weight_bytes is None
    (tmp_path / "model.safetensors").write_bytes(bytes(1000))
    assert model_of(str(tmp_path / "config.json")).weight_bytes == 1000
    assert model_of(str(tmp_path)).parameters == 134_515_008


@pytest.mark.parametrize("text", ["", "[]", '{"hidden_size": "x"}'])
def test_a_folder_that_describes_no_model_is_an_error(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InvalidRequest):
        model_of(str(tmp_path))


def test_a_gguf_file_is_weighed_as_it_is(model_path):
    model = model_of(str(model_path))
    assert (model.layers, model.kv_heads, model.head_size) == (30, 3, 64)
    assert model.parameters == 134_515_008
    assert model.weight_bytes == model_path.stat().st_size


@pytest.mark.parametrize("data", [b"", b"no gguf"])
def test_a_file_that_is_no_gguf_is_an_error(tmp_path, data):
    path = tmp_path / "x.gguf"
    path.write_bytes(data)
    with pytest.raises(InvalidRequest, match="no GGUF"):
        model_of(str(path))


@pytest.mark.parametrize(
    "text",
    ["nonsense", "[[measured]]\ngpu = 'A10'", "[gpu.x]\nmemory_gib = 0", "[gpu.x]\ntflops = {8=1}"],
)
def test_a_wrong_file_of_points_is_an_error(tmp_path, text):
    path = tmp_path / "points.toml"
    path.write_text(text)
    with pytest.raises(ConfigError):
        read(path)


# --- the command ---


def told(*arguments: str) -> dict:
    done = CliRunner().invoke(app, ["plan", *arguments, "--json"], catch_exceptions=False)
    assert done.exit_code == 0
    plan = json.loads(done.stdout.splitlines()[-1])
    assert all(math.isfinite(value) for value in plan.values() if isinstance(value, float))
    return plan


def test_the_command_tells_memory_capacity_and_times():
    plan = told("--gpu", "A10", "--model", "llama-2-7b", "--parameters", "7e9")
    assert plan["ttft_ms"] == pytest.approx(39.2)
    assert plan["tpot_ms"] == pytest.approx(23.7, abs=0.05)
    assert plan["fits"]
    assert plan["memory_gib"] == pytest.approx(
        plan["weights_gib"] + plan["working_gib"] + plan["kv_gib"]
    )
    assert plan["sequences"] == plan["kv_tokens"] // 500


def test_the_command_reads_the_gateways_own_file(tmp_path):
    config = tmp_path / "cloud.toml"
    config.write_text(
        """
        backend = {kind = "vllm", model = "Qwen/Qwen2.5-7B"}
        [serving]
        gpu_memory_utilization = 0.5
        weights.quantization = "fp8"
        kv_cache.dtype = "fp8"
        parallel.tensor = 2
        """
    )
    plan = told("--gpu", "h100", "--config", str(config))
    assert (plan["gpu"], plan["gpus"], plan["model"]) == ("H100", 2, "qwen2.5-7b")
    assert (plan["weights"], plan["kv_cache"]) == ("fp8", "fp8")
    assert plan["memory_gib"] == pytest.approx(79.6)


def test_the_command_is_corrected_by_a_file_that_brings_its_own_gpu(tmp_path):
    points = tmp_path / "points.toml"
    points.write_text(
        """
        [gpu.mine]
        memory_gib = 24
        bandwidth_gb_s = 500
        tflops = {16 = 50}
        source = "data sheet"
        [[measured]]
        gpu = "mine"
        model = "llama-2-7b"
        prompt_tokens = 350
        tpot_ms = 54.5
        source = "bench"
        """
    )
    plan = told("--gpu", "mine", "--model", "llama-2-7b", "--measured", str(points))
    assert plan["mbu"] == pytest.approx(0.5, abs=0.01)
    assert plan["measured"] == ["bench"]


def test_people_read_the_same_and_what_does_not_fit_is_said():
    arguments = ["plan", "--gpu", "T4", "--model", "llama-2-13b"]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    assert "TPOT" in done.stdout
    assert "does not fit" in done.stdout

"""`[serving]`: what it compiles to, and what of it a vLLM does not know."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import ValidationError

from isthmus.cloud import backends
from isthmus.cloud.backends.base import BackendConfig
from isthmus.cloud.config import CloudConfig
from isthmus.cloud.serving import config as serving_config
from isthmus.cloud.serving.arguments import engine_arguments, serve_flags
from isthmus.cloud.serving.config import ServingConfig
from isthmus.cloud.serving.installed import Engine, words_of
from isthmus.cloud.serving.table import Argument, settings
from isthmus.core.errors import ConfigError


@dataclasses.dataclass
class EngineArgs:
    """The fields of vLLM 0.32's `AsyncEngineArgs` that the settings name, with its own types."""

    model: str = ""
    dtype: Literal["auto", "half", "float16", "bfloat16", "float", "float32"] = "auto"
    max_model_len: int = 0
    gpu_memory_utilization: float = 0.92
    enable_chunked_prefill: bool | None = None
    max_num_batched_tokens: int | None = None
    long_prefill_token_threshold: int = 0
    max_num_seqs: int | None = None
    speculative_config: dict[str, Any] | None = None
    quantization: Literal["awq", "awq_marlin", "fp8"] | str | None = None
    kv_cache_dtype: Literal["auto", "fp8", "int8_per_token_head", "int4_per_token_head"] = "auto"
    enable_prefix_caching: bool | None = None
    block_size: int | None = None
    kv_offloading_size: float | None = None
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    data_parallel_size: int = 1
    enable_expert_parallel: bool = False
    async_scheduling: bool | None = None
    enable_dbo: bool = False
    kv_transfer_config: NotThere | None = None  # noqa: F821  imported for type checkers alone
    max_num_queued_reqs: int | None = None
    max_num_queued_tokens: int | None = None
    scheduling_policy: Literal["fcfs", "priority"] = "fcfs"
    enforce_eager: bool = False
    _api_process_count: int = 1


@dataclasses.dataclass
class Speculative:
    """Of its `SpeculativeConfig`."""

    method: Literal["ngram", "medusa", "eagle3", "suffix"] | None = None
    num_speculative_tokens: int | None = None
    model: str | None = None
    prompt_lookup_max: int | None = None
    prompt_lookup_min: int | None = None
    suffix_decoding_max_tree_depth: int = 24
    computed: int = dataclasses.field(default=0, init=False)


@dataclasses.dataclass
class Transfer:
    """Of its `KVTransferConfig`."""

    kv_connector: str | None = None
    kv_role: Literal["kv_producer", "kv_consumer", "kv_both"] | None = None
    kv_connector_extra_config: dict[str, Any] = dataclasses.field(default_factory=dict)
    kv_load_failure_policy: Literal["recompute", "fail"] = "fail"
    kv_connector_module_path: str | None = None


VLLM = Engine(
    "0.32.0",
    words_of(EngineArgs),
    {
        "speculative_config": words_of(Speculative),
        "kv_transfer_config": words_of(Transfer)
        | {"kv_connector": frozenset({"NixlConnector", "LMCacheConnectorV1"})},
    },
    frozenset({"hermes", "llama3_json"}),
)


def serving(text: str) -> ServingConfig:
    return ServingConfig.model_validate(tomllib.loads(text))


def example() -> ServingConfig:
    """The file in the module's docstring."""
    lines = [
        line[4:]
        for line in (serving_config.__doc__ or "").splitlines()
        if line.startswith("    ") or not line
    ]
    return ServingConfig.model_validate(tomllib.loads("\n".join(lines))["serving"])


def test_each_feature_becomes_the_argument_that_vllm_has_for_it():
    assert engine_arguments(example()) == {
        "dtype": "bfloat16",
        "max_model_len": 16384,
        "gpu_memory_utilization": 0.9,
        "enable_chunked_prefill": True,
        "max_num_batched_tokens": 8192,
        "max_num_seqs": 256,
        "speculative_config": {
            "method": "ngram",
            "num_speculative_tokens": 4,
            "prompt_lookup_max": 4,
        },
        "quantization": "awq_marlin",
        "kv_cache_dtype": "fp8",
        "enable_prefix_caching": True,
        "tensor_parallel_size": 2,
        "async_scheduling": True,
        "kv_transfer_config": {"kv_connector": "NixlConnector", "kv_role": "kv_producer"},
        "max_num_queued_reqs": 512,
        "enforce_eager": True,
    }


def test_what_is_left_out_is_left_to_vllm():
    assert engine_arguments(ServingConfig()) == {}
    assert serve_flags("m", ServingConfig()) == ["m"]


def test_the_flags_are_those_of_vllm_serve():
    words = serve_flags(
        "org/model",
        serving(
            """
            tool_call_parser = "hermes"
            prefill.chunked = false
            overlap.dual_batch = true
            speculation = {method = "suffix", options = {suffix_decoding_max_tree_depth = 8}}
            engine.cudagraph_capture_sizes = [1, 2, 4]
            """
        ),
    )
    assert words[:2] == ["org/model", "--no-enable-chunked-prefill"]
    at = words.index("--speculative-config")
    assert json.loads(words[at + 1]) == {"method": "suffix", "suffix_decoding_max_tree_depth": 8}
    assert "--enable-dbo" in words
    at = words.index("--cudagraph-capture-sizes")
    assert words[at + 1 : at + 4] == ["1", "2", "4"]
    assert words[-3:] == ["--enable-auto-tool-choice", "--tool-call-parser", "hermes"]


def test_the_installed_vllm_takes_the_whole_example():
    VLLM.check(example())


@pytest.mark.parametrize(
    ("text", "field", "near"),
    [
        ("kv_cache.dtype = 'fp9'", "serving.kv_cache.dtype", "fp8"),
        ("engine.enforce_eagr = true", "serving.engine.enforce_eagr", "enforce_eager"),
        ("speculation.method = 'ngramm'", "serving.speculation.method", "ngram"),
        (
            "speculation = {method = 'ngram', options = {prompt_lookup_mux = 3}}",
            "serving.speculation.options.prompt_lookup_mux",
            "prompt_lookup_max",
        ),
        (
            "disaggregation = {connector = 'NixelConnector', role = 'kv_both'}",
            "serving.disaggregation.connector",
            "NixlConnector",
        ),
    ],
)
def test_what_vllm_does_not_know_is_an_error_with_the_nearest_name(text, field, near):
    with pytest.raises(ConfigError, match=f"did you mean '{near}'") as caught:
        VLLM.check(serving(text))
    assert caught.value.field == field


def test_a_setting_whose_argument_another_version_renamed_is_told_with_both_names():
    older = dataclasses.replace(VLLM, arguments={"max_num_sequences": frozenset()})
    with pytest.raises(ConfigError) as caught:
        older.check(serving("batching.sequences = 8"))
    assert caught.value.message == (
        "serving.batching.sequences (max_num_seqs) is not known to vLLM 0.32.0; "
        "did you mean 'max_num_sequences'?"
    )


@pytest.mark.parametrize("name", ["_api_process_count", "computed"])
def test_what_vllm_sets_itself_is_no_option(name):
    assert name not in VLLM.arguments
    assert name not in VLLM.tables["speculative_config"]


def test_a_connector_of_the_operators_own_module_may_have_any_name():
    mine = "disaggregation = {connector = 'Mine', role = 'kv_both', options = {%s = 'my.module'}}"
    VLLM.check(serving(mine % "kv_connector_module_path"))
    with pytest.raises(ConfigError, match=": it takes LMCacheConnectorV1, NixlConnector"):
        VLLM.check(serving(mine % "kv_connector_module_pth"))


def test_a_word_that_vllm_leaves_open_is_left_to_it():
    VLLM.check(serving("weights.quantization = 'of_a_plugin'"))


@pytest.mark.parametrize(
    "text",
    [
        "batching.sequences = 0",
        "gpu_memory_utilization = 1.5",
        "kv_cash.dtype = 'fp8'",
        "prefill.chunkd = true",
        "parallel.tensor = 'two'",
        "speculation.tokens = 3",
        "disaggregation = {connector = 'NixlConnector', role = 'producer'}",
        "engine.model = 'x'",
    ],
)
def test_a_wrong_setting_is_refused_before_vllm_sees_it(text):
    with pytest.raises(ValidationError):
        serving(text)


@pytest.mark.parametrize(
    "text",
    [
        "max_model_len = 8\nengine.max_model_len = 9",
        "speculation = {method = 'ngram', options = {method = 'suffix'}}",
        "speculation = {method = 'ngram'}\nengine.speculative_config = {}",
    ],
)
def test_what_is_given_twice_is_an_error(text):
    with pytest.raises(ValidationError, match="say it once"):
        serving(text)


def test_every_setting_is_known_to_the_vllm_that_the_tests_speak_of():
    def arguments(table):
        for field in table.model_fields.values():
            for one in field.metadata:
                if isinstance(one, Argument):
                    yield one
        for name in ("prefill", "batching", "weights", "kv_cache", "parallel", "overlap"):
            if name in table.model_fields:
                yield from arguments(table.model_fields[name].annotation)

    named = {one.name for one in arguments(ServingConfig)} - {"*"}
    assert len(named) > 15
    assert named <= set(VLLM.arguments)


def test_the_environment_reaches_each_setting(monkeypatch):
    monkeypatch.setenv("ISTHMUS_CLOUD_SERVING__KV_CACHE__DTYPE", "fp8")
    (setting,) = settings(CloudConfig.load().serving)
    assert (setting.path, setting.value) == ("serving.kv_cache.dtype", "fp8")


def test_the_embedded_backend_refuses_what_only_vllm_reads():
    with pytest.raises(ConfigError) as caught:
        backends.create(BackendConfig(), serving("dtype = 'bfloat16'"))
    assert caught.value.field == "serving"


def test_vllms_options_have_one_place():
    with pytest.raises(ConfigError) as caught:
        backends.create(BackendConfig(kind="vllm", options={"enforce_eager": True}))
    assert caught.value.field == "backend.options"


def test_the_guide_names_each_argument_that_a_setting_becomes():
    guide = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")
    told = {name for name in VLLM.arguments if f"`{name}`" in guide}
    assert told == set(VLLM.arguments) - {"model", "enforce_eager"}


def test_a_tool_call_parser_that_this_vllm_lacks_is_told_with_the_nearest_one():
    with pytest.raises(ConfigError) as refused:
        VLLM.check(serving("tool_call_parser = 'hermess'"))
    assert refused.value.field == "serving.tool_call_parser"
    assert "did you mean 'hermes'?" in refused.value.message
    VLLM.check(serving("tool_call_parser = 'hermes'"))

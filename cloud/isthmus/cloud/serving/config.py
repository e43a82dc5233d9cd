"""The section `[serving]`: the features that serving has settled on, each a table of its own.

Every setting is optional; what is left out is vLLM's own default. A complete section::

    [serving]
    dtype = "bfloat16"
    max_model_len = 16384
    gpu_memory_utilization = 0.9

    [serving.prefill]
    chunked = true
    step_tokens = 8192

    [serving.batching]
    sequences = 256

    [serving.speculation]
    method = "ngram"
    tokens = 4
    lookup_max = 4

    [serving.weights]
    quantization = "awq_marlin"

    [serving.kv_cache]
    dtype = "fp8"
    prefix_caching = true

    [serving.parallel]
    tensor = 2

    [serving.overlap]
    async_scheduling = true

    [serving.disaggregation]
    connector = "NixlConnector"
    role = "kv_producer"

    [serving.admission]
    queued_requests = 512

    [serving.engine]
    enforce_eager = true

What each becomes is written beside it, once: `Argument` names the field of vLLM's
`AsyncEngineArgs`. `[serving.engine]` takes any other field by vLLM's own name.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from isthmus.cloud.serving.table import Argument, Table, settings

_Count = Annotated[int, Field(ge=1)]


class PrefillConfig(Table):
    """Chunked prefill and split-fuse: long prompts are cut, and fill the steps of others."""

    chunked: Annotated[bool | None, Argument("enable_chunked_prefill")] = None
    """Cut prompts, so that running answers are not held up by them."""
    step_tokens: Annotated[_Count | None, Argument("max_num_batched_tokens")] = None
    """Tokens of one step, of prompts and answers together: less is smoother, more is faster."""
    long_prompt_tokens: Annotated[_Count | None, Argument("long_prefill_token_threshold")] = None
    """The most that one prompt may take of a step that others wait for."""


class BatchingConfig(Table):
    """Continuous batching: answers join and leave between steps."""

    sequences: Annotated[_Count | None, Argument("max_num_seqs")] = None
    """Answers of one step."""


class SpeculationConfig(Table):
    """Speculative decoding: several tokens are proposed cheaply and judged in one step."""

    method: Annotated[str, Argument("speculative_config", "method")]
    """`ngram`, `eagle3`, `mtp`, `medusa`, `draft_model`, `suffix`, …"""
    tokens: Annotated[_Count | None, Argument("speculative_config", "num_speculative_tokens")] = (
        None
    )
    """Tokens proposed for each step."""
    model: Annotated[str | None, Argument("speculative_config", "model")] = None
    """The model or the heads that propose."""
    lookup_max: Annotated[_Count | None, Argument("speculative_config", "prompt_lookup_max")] = None
    """The longest run of tokens that `ngram` looks for in the prompt."""
    lookup_min: Annotated[_Count | None, Argument("speculative_config", "prompt_lookup_min")] = None
    """The shortest."""
    options: Annotated[dict[str, Any], Argument("speculative_config", "*")] = Field(
        default_factory=dict
    )
    """Any other field of vLLM's `SpeculativeConfig`."""


class WeightsConfig(Table):
    """In what form the weights are held."""

    quantization: Annotated[str | None, Argument("quantization")] = None
    """`awq_marlin`, `gptq_marlin`, `fp8`, `compressed-tensors`, …; none: what the model says."""


class KVCacheConfig(Table):
    """The memory of the conversations."""

    dtype: Annotated[str | None, Argument("kv_cache_dtype")] = None
    """`auto`, `fp8`, `int8_per_token_head`, `int4_per_token_head`, …"""
    prefix_caching: Annotated[bool | None, Argument("enable_prefix_caching")] = None
    """Keep what was computed of prompts for those that begin alike."""
    block_tokens: Annotated[_Count | None, Argument("block_size")] = None
    """Tokens of one block of the paged cache."""
    offload_gib: Annotated[float | None, Field(gt=0), Argument("kv_offloading_size")] = None
    """The host's memory that blocks are moved to before they are forgotten."""


class ParallelConfig(Table):
    """Over how many GPUs the model is spread."""

    tensor: Annotated[_Count | None, Argument("tensor_parallel_size")] = None
    """Each matrix over so many: quicker answers, all to all after every layer."""
    pipeline: Annotated[_Count | None, Argument("pipeline_parallel_size")] = None
    """The layers over so many: for what one machine cannot hold."""
    data: Annotated[_Count | None, Argument("data_parallel_size")] = None
    """Whole copies."""
    expert: Annotated[bool | None, Argument("enable_expert_parallel")] = None
    """The experts of a mixture over the GPUs instead of each expert's matrices."""


class OverlapConfig(Table):
    """Doing two things at once."""

    async_scheduling: Annotated[bool | None, Argument("async_scheduling")] = None
    """The CPU plans the next step while the GPU computes this one."""
    dual_batch: Annotated[bool | None, Argument("enable_dbo")] = None
    """Two halves of a batch: one computes while the other communicates."""


class DisaggregationConfig(Table):
    """Prefill and decode on servers of their own, which hand the KV cache over."""

    connector: Annotated[str, Argument("kv_transfer_config", "kv_connector")]
    """`NixlConnector`, `LMCacheConnectorV1`, `MooncakeConnector`, …"""
    role: Annotated[
        Literal["kv_producer", "kv_consumer", "kv_both"],
        Argument("kv_transfer_config", "kv_role"),
    ]
    """What this server does: computes prompts, writes answers, or either."""
    on_load_failure: Annotated[
        Literal["recompute", "fail"] | None,
        Argument("kv_transfer_config", "kv_load_failure_policy"),
    ] = None
    """What becomes of an answer whose cache did not arrive."""
    connector_options: Annotated[
        dict[str, Any], Argument("kv_transfer_config", "kv_connector_extra_config")
    ] = Field(default_factory=dict)
    """What the connector itself takes."""
    options: Annotated[dict[str, Any], Argument("kv_transfer_config", "*")] = Field(
        default_factory=dict
    )
    """Any other field of vLLM's `KVTransferConfig`."""


class AdmissionConfig(Table):
    """When the engine says no, or whom it lets go first; the gateway's own queue comes before."""

    queued_requests: Annotated[_Count | None, Argument("max_num_queued_reqs")] = None
    """Requests in the engine at once, running ones among them; more are refused."""
    queued_tokens: Annotated[_Count | None, Argument("max_num_queued_tokens")] = None
    """Tokens of prompts not yet computed; more are refused."""
    policy: Annotated[Literal["fcfs", "priority"] | None, Argument("scheduling_policy")] = None
    """First come, first served, or by the requests' priority."""


class ServingConfig(Table):
    """How vLLM serves. Frozen."""

    dtype: Annotated[str | None, Argument("dtype")] = None
    """What is computed in: `auto`, `bfloat16`, `float16`."""
    max_model_len: Annotated[_Count | None, Argument("max_model_len")] = None
    """Tokens of the longest conversation, its answer among them."""
    gpu_memory_utilization: Annotated[
        float | None, Field(gt=0, le=1), Argument("gpu_memory_utilization")
    ] = None
    """The share of each GPU's memory that vLLM may take."""
    tool_call_parser: str | None = None
    """How the model writes tool calls, as vLLM's server calls it: `hermes`, `llama3_json`, …"""
    prefill: PrefillConfig = Field(default_factory=PrefillConfig)
    batching: BatchingConfig = Field(default_factory=BatchingConfig)
    speculation: SpeculationConfig | None = None
    weights: WeightsConfig = Field(default_factory=WeightsConfig)
    kv_cache: KVCacheConfig = Field(default_factory=KVCacheConfig)
    parallel: ParallelConfig = Field(default_factory=ParallelConfig)
    overlap: OverlapConfig = Field(default_factory=OverlapConfig)
    disaggregation: DisaggregationConfig | None = None
    admission: AdmissionConfig = Field(default_factory=AdmissionConfig)
    engine: Annotated[dict[str, Any], Argument("*")] = Field(default_factory=dict)
    """Any other field of vLLM's `AsyncEngineArgs`."""

    @model_validator(mode="after")
    def _said_once(self) -> Self:
        if "model" in self.engine:
            raise ValueError("serving.engine.model: the model is named by backend.model")
        said: dict[str, dict[str, str]] = {}
        for setting in settings(self):
            keys = said.setdefault(setting.argument.name, {})
            # Without a key it is the whole argument, and with one a part of it.
            other = keys.get(setting.argument.key) or keys.get("")
            if other is None and not setting.argument.key:
                other = next(iter(keys.values()), None)
            if other is not None:
                raise ValueError(f"{setting.path} is already given by {other}; say it once")
            keys[setting.argument.key] = setting.path
        return self

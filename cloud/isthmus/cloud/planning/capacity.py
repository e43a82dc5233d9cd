"""The arithmetic of serving, as the field does it (Pope et al., arXiv 2211.05102, and others).

- prefill time = tokens × 2 × parameters ÷ FLOP/s, and not less than reading the weights once
- TPOT = (weight bytes + KV bytes of the answers in the step) ÷ bandwidth, and not less than the
  step's own operations
- KV bytes a token = 2 × layers × KV heads × head size × bytes
- MBU = bytes moved ÷ TPOT ÷ peak bandwidth

Left out are attention's own operations (a hundredth of a prompt of 350 tokens, a third of one of
30,000), what GPUs tell one another, and the CPU's work between steps: they are in what is measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from isthmus.cloud.planning import formats
from isthmus.cloud.planning.gpus import Gpu
from isthmus.cloud.planning.models import Model

GIB: Final = 2**30
CONTEXT_BYTES: Final = GIB
"""What CUDA's context, its libraries and its graphs take of each GPU: an estimate."""

MEMORY_UTILIZATION: Final = 0.92
STEP_TOKENS: Final = 8192
"""What vLLM 0.32 takes by default."""


@dataclass(frozen=True, slots=True)
class Setup:
    """A model, how it is held, and on what. Times are in seconds, sizes in bytes."""

    model: Model
    gpu: Gpu
    weights: str = "fp16"
    kv_cache: str = "auto"
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    memory_utilization: float = MEMORY_UTILIZATION
    step_tokens: int = STEP_TOKENS
    """Tokens of one step, whose intermediate values need room."""
    compute_efficiency: float = 1.0
    """The share of the operations a second that is reached, where it was measured."""
    bandwidth_efficiency: float = 1.0
    """The share of the bandwidth, likewise."""

    @property
    def gpus(self) -> int:
        """How many there are."""
        return self.tensor_parallel * self.pipeline_parallel

    @property
    def flops(self) -> float:
        """Operations a second by the data sheet. A pipeline's stages work one after the other."""
        bits = formats.weights(self.weights).multiplied_bits
        return self.gpu.tflops_at(bits) * 1e12 * self.tensor_parallel

    @property
    def bandwidth(self) -> float:
        """Bytes a second by the data sheet, likewise."""
        return self.gpu.bandwidth_gb_s * 1e9 * self.tensor_parallel

    # --- memory ---

    @property
    def weight_bytes(self) -> float:
        """Of the whole model."""
        model, form = self.model, formats.weights(self.weights)
        if model.weight_bytes is not None:
            return model.weight_bytes
        matrices = model.parameters - model.embedding_parameters
        # Quantized models keep their vocabulary in 16 bits.
        return (matrices * form.bits + model.embedding_parameters * max(16, form.bits)) / 8

    @property
    def kv_bytes_per_token(self) -> float:
        """Of all GPUs together; each holds a head at least."""
        model = self.model
        heads = max(model.kv_heads, self.tensor_parallel)
        return 2 * model.layers * heads * formats.kv_bytes_of_head(self.kv_cache, model.head_size)

    @property
    def usable_bytes(self) -> float:
        """What vLLM may take of all GPUs."""
        return self.gpu.memory_gib * GIB * self.gpus * self.memory_utilization

    @property
    def working_bytes(self) -> float:
        """Intermediate values of a step, CUDA's context and graphs: an estimate."""
        model = self.model
        # The widest moment of a layer: its input, its output, both halves of the gated network.
        widest = self.step_tokens * (4 * model.hidden + 2 * model.intermediate) * 2
        return widest * self.pipeline_parallel + CONTEXT_BYTES * self.gpus

    @property
    def kv_bytes(self) -> float:
        """What is left for the KV cache; below zero: the model does not fit."""
        return self.usable_bytes - self.weight_bytes - self.working_bytes

    @property
    def kv_tokens(self) -> int:
        """Tokens of context that fit beside the weights."""
        return max(0, int(self.kv_bytes / self.kv_bytes_per_token))

    # --- time ---

    def operations(self, tokens: int) -> float:
        """Of a step of so many tokens."""
        return 2 * self.model.awake_parameters(1) * tokens

    def moved_bytes(self, batch: int, context_tokens: int) -> float:
        """What one step of `batch` answers reads, each behind `context_tokens`."""
        weights = self.weight_bytes * self.model.awake_parameters(batch) / self.model.parameters
        return weights + batch * context_tokens * self.kv_bytes_per_token

    def _step_s(self, operations: float, moved: float) -> float:
        return max(
            operations / (self.flops * self.compute_efficiency),
            moved / (self.bandwidth * self.bandwidth_efficiency),
        )

    def prefill_s(self, tokens: int) -> float:
        """To the first token of a prompt that comes alone."""
        return self._step_s(self.operations(tokens), self.moved_bytes(tokens, 0))

    def tpot_s(self, batch: int, context_tokens: int) -> float:
        """Between two tokens of an answer, when `batch` are written at once."""
        return self._step_s(self.operations(batch), self.moved_bytes(batch, context_tokens))

    def is_bound_by_operations(self, tokens: int, context_tokens: int = 0) -> bool:
        """Whether a step of so many tokens, each behind `context_tokens`, waits for operations."""
        return self.operations(tokens) * self.bandwidth > (
            self.moved_bytes(tokens, context_tokens) * self.flops
        )

    def mfu(self, ttft_s: float, tokens: int) -> float:
        """The share of the operations a second that a measured prefill makes use of."""
        return self.operations(tokens) / ttft_s / self.flops

    def mbu(self, tpot_s: float, batch: int, context_tokens: int) -> float:
        """The share of the bandwidth that a measured TPOT makes use of."""
        return self.moved_bytes(batch, context_tokens) / tpot_s / self.bandwidth

"""A plan: what a setup holds, and how fast it is, as one flat record."""

from __future__ import annotations

from dataclasses import dataclass

from isthmus.cloud.planning.capacity import GIB, Setup


@dataclass(frozen=True, slots=True)
class Plan:
    """What `isthmus cloud plan` tells. Times are a lower bound where nothing was measured."""

    gpu: str
    gpus: int
    model: str
    parameters: int
    weights: str
    kv_cache: str
    fits: bool
    memory_gib: float
    """What vLLM may take of all GPUs."""
    weights_gib: float
    working_gib: float
    kv_gib: float
    kv_bytes_per_token: float
    kv_tokens: int
    context_tokens: int
    """Of one conversation: prompt and answer."""
    sequences: int
    """Conversations of that length that fit at once."""
    prompt_tokens: int
    batch: int
    ttft_ms: float
    tpot_ms: float
    """In the middle of the answer."""
    tokens_per_s: float
    """Of all answers together."""
    tpot_full_ms: float | None
    """With as many answers at once as fit."""
    tokens_per_s_full: float | None
    mbu: float
    """Bytes moved ÷ TPOT ÷ peak bandwidth."""
    compute_efficiency: float
    bandwidth_efficiency: float
    measured: tuple[str, ...]
    """What the efficiencies come from; nothing: they are 1."""
    sources: tuple[str, ...]
    """What the GPU's and the model's figures come from."""


def plan(
    setup: Setup,
    gpu: str,
    *,
    prompt_tokens: int,
    answer_tokens: int,
    batch: int,
    measured: tuple[str, ...] = (),
) -> Plan:
    """The plan of `batch` conversations of one length at once."""
    context = prompt_tokens + answer_tokens
    middle = prompt_tokens + answer_tokens // 2
    sequences = setup.kv_tokens // context
    tpot_s = setup.tpot_s(batch, middle)
    full_s = setup.tpot_s(sequences, middle) if sequences else None
    return Plan(
        gpu=gpu,
        gpus=setup.gpus,
        model=setup.model.name,
        parameters=setup.model.parameters,
        weights=setup.weights if setup.model.weight_bytes is None else "as its files",
        kv_cache=setup.kv_cache,
        fits=sequences >= batch,
        memory_gib=setup.usable_bytes / GIB,
        weights_gib=setup.weight_bytes / GIB,
        working_gib=setup.working_bytes / GIB,
        kv_gib=max(0.0, setup.kv_bytes / GIB),
        kv_bytes_per_token=setup.kv_bytes_per_token,
        kv_tokens=setup.kv_tokens,
        context_tokens=context,
        sequences=sequences,
        prompt_tokens=prompt_tokens,
        batch=batch,
        ttft_ms=1000 * setup.prefill_s(prompt_tokens),
        tpot_ms=1000 * tpot_s,
        tokens_per_s=batch / tpot_s,
        tpot_full_ms=None if full_s is None else 1000 * full_s,
        tokens_per_s_full=None if full_s is None else sequences / full_s,
        mbu=setup.mbu(tpot_s, batch, middle),
        compute_efficiency=setup.compute_efficiency,
        bandwidth_efficiency=setup.bandwidth_efficiency,
        measured=measured,
        sources=(setup.gpu.source, setup.model.source),
    )

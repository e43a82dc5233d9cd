"""What phones would do that are not here: a roofline, from their makers' figures. Not measured.

A decoded token reads every weight of the products once, and the keys and values of the context;
a launch costs what a launch costs. A prompt's token takes two operations a weight::

    decode_s  = (weight_bytes + kv_bytes) / (bandwidth * efficiency) + launches * launch_s
    prefill_s = 2 * weights / flops        (the head's rows are wanted for the last token alone)

Every number that is assumed is named with its source; published figures stand beside the result.
"""

from __future__ import annotations

from dataclasses import dataclass

from isthmus.engine.model import ModelConfig
from isthmus.kernels.base import KVType, RopeStyle

EFFICIENCY = 0.6
"""Of the memory's peak bandwidth: what this project asks of its own kernels on a discrete GPU, and
near to what SensePPL's published decode used of 8 Gen 3's."""
LAUNCH_S = 10e-6
"""One kernel in an in-order queue. An assumption: no maker gives a figure."""
LAUNCHES_A_LAYER = 6
"""The fused operators: QKV with its norm, attention, output, norm, gate and up, down."""
CONTEXT_TOKENS = 512
"""The context at which a token is decoded."""
KV_TYPE = KVType.FLOAT16


@dataclass(frozen=True, slots=True)
class PhoneChip:
    """A chip's memory and GPU."""

    name: str
    bandwidth_gb_s: float
    """Peak of its memory."""
    bandwidth_source: str
    tflops: float
    """Half precision, with 4-bit weights dequantized on the way."""
    tflops_source: str


@dataclass(frozen=True, slots=True)
class Shape:
    """What of a model the roofline needs."""

    name: str
    layers: int
    layer_weights: int
    """Weights of all layers' matrices."""
    head_weights: int
    kv_bytes_per_token: int
    bits: float
    """Of a weight, its share of scales and minimums included."""
    source: str

    @classmethod
    def of(cls, name: str, config: ModelConfig, *, bits: float, source: str) -> Shape:
        """The shape of a model whose matrices all have `bits` a weight."""
        attention = config.head_dim * (2 * config.heads + 2 * config.kv_heads)
        return cls(
            name=name,
            layers=config.layers,
            layer_weights=config.layers * config.hidden * (attention + 3 * config.ffn),
            head_weights=config.hidden * config.vocab,
            kv_bytes_per_token=config.kv_bytes_per_token(KV_TYPE),
            bits=bits,
            source=source,
        )


@dataclass(frozen=True, slots=True)
class Published:
    """A figure that somebody measured on that chip."""

    who: str
    prefill_tok_s: float | None
    decode_tok_s: float


@dataclass(frozen=True, slots=True)
class Projection:
    """One model on one chip."""

    model: str
    device: str
    weight_bytes: int
    """Read for a decoded token."""
    kv_bytes: int
    launches: int
    decode_ms: float
    """Of a token."""
    decode_tok_s: float
    prefill_tok_s: float
    published: tuple[Published, ...] = ()


_LPDDR5X = "64 bits of LPDDR5X at {} MT/s, the most that the maker's specification allows"
_SENSEPPL = "SensePPL: 4-bit GEMM on Adreno 750 at 85% ALU use"

CHIPS = {
    "snapdragon-8-gen-2": PhoneChip(
        "Snapdragon 8 Gen 2 (Adreno 740)",
        67.2,
        _LPDDR5X.format(8400),
        0.68,
        f"{_SENSEPPL}, over 1.25: Qualcomm calls the 8 Gen 3's GPU 25% faster",
    ),
    "snapdragon-8-gen-3": PhoneChip(
        "Snapdragon 8 Gen 3 (Adreno 750)", 76.8, _LPDDR5X.format(9600), 0.85, _SENSEPPL
    ),
    "dimensity-9300": PhoneChip(
        "MTK Dimensity 9300 (Immortalis-G720)",
        76.8,
        "64 bits of LPDDR5T at 9600 MT/s, the most that the maker's specification allows",
        0.85,
        f"taken as the 8 Gen 3's for want of a published figure ({_SENSEPPL})",
    ),
}
"""By the name that `--project` takes."""


def _llama(
    layers: int, hidden: int, ffn: int, heads: int, kv_heads: int, vocab: int
) -> ModelConfig:
    return ModelConfig(
        architecture="llama",
        layers=layers,
        hidden=hidden,
        ffn=ffn,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=128,
        vocab=vocab,
        context=2048,
        rope_base=10_000.0,
        rope_style=RopeStyle.HALVES,
        norm_eps=1e-5,
        tied_embedding=False,
    )


LLAMA_7B = Shape.of(
    "LLaMA-7B int4",
    _llama(32, 4096, 11008, 32, 32, 32000),
    bits=4.5,
    source="arXiv 2302.13971; 4 bits in groups of 32 with a half-precision scale",
)
SENSE_1_8B = Shape.of(
    "SensePPL 1.8B W4A16",
    _llama(24, 2048, 8192, 16, 8, 92544),
    bits=4.25,
    source="its shape is not published: that of InternLM2-1.8B; 4 bits in groups of 128 with "
    "scale and minimum in half precision",
)

PUBLISHED = {
    ("snapdragon-8-gen-2", LLAMA_7B.name): (
        Published("PerfXLLM", None, 6.7),
        Published("llama.cpp", None, 3.2),
    ),
    ("snapdragon-8-gen-3", SENSE_1_8B.name): (Published("SensePPL", 242.0, 44.41),),
    ("dimensity-9300", SENSE_1_8B.name): (Published("SensePPL", 194.0, 35.7),),
}


def project(chip: PhoneChip, shape: Shape, published: tuple[Published, ...] = ()) -> Projection:
    """The roofline of `shape` on `chip`."""
    weight_bytes = round((shape.layer_weights + shape.head_weights) * shape.bits / 8)
    kv_bytes = CONTEXT_TOKENS * shape.kv_bytes_per_token
    launches = LAUNCHES_A_LAYER * shape.layers + 3  # embedding, last norm, head
    read_s = (weight_bytes + kv_bytes) / (chip.bandwidth_gb_s * 1e9 * EFFICIENCY)
    decode_s = read_s + launches * LAUNCH_S
    return Projection(
        model=shape.name,
        device=chip.name,
        weight_bytes=weight_bytes,
        kv_bytes=kv_bytes,
        launches=launches,
        decode_ms=1000 * decode_s,
        decode_tok_s=1 / decode_s,
        prefill_tok_s=chip.tflops * 1e12 / (2 * shape.layer_weights),
        published=published,
    )


def projections(device: str, given: Shape) -> tuple[Projection, ...]:
    """The published models and the one given, on the chip of that name."""
    return tuple(
        project(CHIPS[device], shape, PUBLISHED.get((device, shape.name), ()))
        for shape in (LLAMA_7B, SENSE_1_8B, given)
    )


def assumptions(device: str, given: Shape) -> dict[str, str]:
    """What the projections rest on, each with its source."""
    chip = CHIPS[device]
    return {
        "bandwidth": f"{chip.bandwidth_gb_s} GB/s: {chip.bandwidth_source}",
        "efficiency": f"{EFFICIENCY} of it is reached: an assumption",
        "arithmetic": f"{chip.tflops} TFLOPS: {chip.tflops_source}",
        "launch": f"{LAUNCH_S * 1e6:g} µs each, {LAUNCHES_A_LAYER} a layer: an assumption",
        "context": f"{CONTEXT_TOKENS} tokens of keys and values in {KV_TYPE}",
        **{shape.name: shape.source for shape in (LLAMA_7B, SENSE_1_8B, given)},
    }

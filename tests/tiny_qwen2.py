"""A tiny qwen2 model with random weights, the same on every machine.

It has a real byte-level tokenizer, so it can stand in for a model wherever speed matters more
than sense. The golden logits of `tests/kernels/golden/qwen2_tiny.npz` belong to these weights.
"""

from __future__ import annotations

import numpy as np

from isthmus.engine.formats.vocabulary import tokenizer_spec
from isthmus.engine.model import ModelConfig, ModelFile
from isthmus.kernels.base import F32, QuantizedWeight, RopeStyle

SEED = 20_261_121
GROUP = 32
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content"
    " + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CONFIG = ModelConfig(
    architecture="qwen2",
    layers=2,
    hidden=64,
    ffn=96,
    heads=4,
    kv_heads=2,
    head_dim=16,
    vocab=288,
    context=512,
    rope_base=10_000.0,
    rope_style=RopeStyle.HALVES,
    norm_eps=2.0**-20,  # exact in the float32 of a GGUF header
    tied_embedding=False,
    attention_bias=True,
)


def byte_characters() -> list[str]:
    """GPT-2's printable character for each byte, in the order of the bytes."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


def header() -> dict[str, object]:
    """The tokenizer's key/values in a GGUF file: bytes, three specials, one merge."""
    unused = [f"<unused{i}>" for i in range(CONFIG.vocab - 257 - len(SPECIAL))]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.tokens": [*byte_characters(), *SPECIAL, "th", *unused],
        "tokenizer.ggml.merges": ["t h"],
        "tokenizer.ggml.token_type": [1] * 256 + [3] * len(SPECIAL) + [1] + [5] * len(unused),
        "tokenizer.ggml.eos_token_id": 258,
        "tokenizer.chat_template": CHATML,
    }


def weights() -> tuple[dict[str, QuantizedWeight], dict[str, F32]]:
    """Matrices and vectors by their GGUF names, drawn in this order from one generator."""
    rng = np.random.default_rng(SEED)
    c = CONFIG
    q_width, kv_width = c.heads * c.head_dim, c.kv_heads * c.head_dim

    def matrix(rows: int, cols: int) -> QuantizedWeight:
        groups = cols // GROUP
        scales = (0.01 + 0.02 * rng.random((rows, groups))).astype(np.float32)
        offsets = (-8 + rng.random((rows, groups))).astype(np.float32)
        codes = rng.integers(0, 16, (rows, cols), dtype=np.uint8)
        return QuantizedWeight(4, GROUP, codes, scales, scales * offsets)

    def vector(width: int, low: float, high: float) -> F32:
        return (low + (high - low) * rng.random(width)).astype(np.float32)

    matrices = {"token_embd.weight": matrix(c.vocab, c.hidden)}
    vectors = {"output_norm.weight": vector(c.hidden, 0.5, 1.5)}
    matrices["output.weight"] = matrix(c.vocab, c.hidden)
    for layer in range(c.layers):
        at = f"blk.{layer}."
        vectors[at + "attn_norm.weight"] = vector(c.hidden, 0.5, 1.5)
        matrices[at + "attn_q.weight"] = matrix(q_width, c.hidden)
        vectors[at + "attn_q.bias"] = vector(q_width, -0.5, 0.5)
        matrices[at + "attn_k.weight"] = matrix(kv_width, c.hidden)
        vectors[at + "attn_k.bias"] = vector(kv_width, -0.5, 0.5)
        matrices[at + "attn_v.weight"] = matrix(kv_width, c.hidden)
        vectors[at + "attn_v.bias"] = vector(kv_width, -0.5, 0.5)
        matrices[at + "attn_output.weight"] = matrix(c.hidden, q_width)
        vectors[at + "ffn_norm.weight"] = vector(c.hidden, 0.5, 1.5)
        matrices[at + "ffn_gate.weight"] = matrix(c.ffn, c.hidden)
        matrices[at + "ffn_up.weight"] = matrix(c.ffn, c.hidden)
        matrices[at + "ffn_down.weight"] = matrix(c.hidden, c.ffn)
    return matrices, vectors


def model() -> ModelFile:
    """The whole model, as if it had been read from a file."""
    matrices, vectors = weights()
    return ModelFile(
        name="tiny-qwen2",
        config=CONFIG,
        tokenizer=tokenizer_spec(header(), vocab=CONFIG.vocab),
        tensor_names=(*matrices, *vectors),
        matrix=matrices.__getitem__,
        dense=lambda name, first=0, last=None: matrices[name].dequantize()[first:last],
        vector=vectors.__getitem__,
    )

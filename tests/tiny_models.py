"""Tiny random models as published model folders, the same on every machine.

One for each architecture, with what sets it apart. Their weights are whole multiples of powers of
two that 8 bits hold exactly, so that reading them loses nothing. The golden logits of
`tests/kernels/golden/tiny_models.npz` belong to them (scripts/golden_logits.py).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

import tiny_qwen2
from isthmus.engine.formats import safetensors
from isthmus.engine.formats.safetensors import Described
from isthmus.engine.formats.tokenizer_json import tokenizer_json
from isthmus.engine.formats.vocabulary import tokenizer_spec

_SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 288,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "rope_theta": 10_000.0,
    "torch_dtype": "float16",
    "eos_token_id": 258,
}
_TRAINED = {"original_max_position_embeddings": 32}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": _SHAPE
    | {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "tie_word_embeddings": True,
        "rope_scaling": _TRAINED
        | {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    },
    "qwen2": _SHAPE
    | {
        "model_type": "qwen2",
        "architectures": ["Qwen2ForCausalLM"],
        "tie_word_embeddings": False,
    },
    "qwen3": _SHAPE
    | {
        "model_type": "qwen3",
        "architectures": ["Qwen3ForCausalLM"],
        "tie_word_embeddings": False,
        "head_dim": 32,
        "rope_scaling": _TRAINED | {"rope_type": "yarn", "factor": 4.0},
    },
    "granite": _SHAPE
    | {
        "model_type": "granite",
        "architectures": ["GraniteForCausalLM"],
        "tie_word_embeddings": True,
        "embedding_multiplier": 12.0,
        "residual_multiplier": 0.22,
        "attention_multiplier": 0.1,
        "logits_scaling": 8.0,
    },
}
CONFIGS["mistral"] = _SHAPE | {
    "model_type": "mistral",
    "architectures": ["MistralForCausalLM"],
    "tie_word_embeddings": False,
    "head_dim": 32,
    "sliding_window": None,
}
CONFIGS["granitemoehybrid"] = CONFIGS["granite"] | {
    "model_type": "granitemoehybrid",
    "architectures": ["GraniteMoeHybridForCausalLM"],
    "shared_intermediate_size": 96,
    "intermediate_size": 32,
    "num_local_experts": 0,
    "num_experts_per_tok": 0,
    "layer_types": ["attention", "attention"],
    "position_embedding_type": "rope",
    "mamba_n_heads": 4,
}


def shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The tensors of a published model by their names, as transformers has them."""
    hidden, ffn, vocab = (config[k] for k in ("hidden_size", "intermediate_size", "vocab_size"))
    head_dim = config.get("head_dim", hidden // config["num_attention_heads"])
    q_width = config["num_attention_heads"] * head_dim
    kv_width = config["num_key_value_heads"] * head_dim
    found: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (vocab, hidden),
        "model.norm.weight": (hidden,),
    }
    if not config["tie_word_embeddings"]:
        found["lm_head.weight"] = (vocab, hidden)
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        found |= {
            at + "input_layernorm.weight": (hidden,),
            at + "self_attn.q_proj.weight": (q_width, hidden),
            at + "self_attn.k_proj.weight": (kv_width, hidden),
            at + "self_attn.v_proj.weight": (kv_width, hidden),
            at + "self_attn.o_proj.weight": (hidden, q_width),
            at + "post_attention_layernorm.weight": (hidden,),
        }
        if config["model_type"] == "granitemoehybrid":
            shared = config["shared_intermediate_size"]
            found[at + "shared_mlp.input_linear.weight"] = (2 * shared, hidden)
            found[at + "shared_mlp.output_linear.weight"] = (hidden, shared)
        else:
            found[at + "mlp.gate_proj.weight"] = (ffn, hidden)
            found[at + "mlp.up_proj.weight"] = (ffn, hidden)
            found[at + "mlp.down_proj.weight"] = (hidden, ffn)
        if config["model_type"] == "qwen2":
            for part, width in (("q", q_width), ("k", kv_width), ("v", kv_width)):
                found[f"{at}self_attn.{part}_proj.bias"] = (width,)
        if config["model_type"] == "qwen3":
            for part in "qk":
                found[f"{at}self_attn.{part}_norm.weight"] = (head_dim,)
    return found


def weights(config: dict[str, Any]) -> dict[str, np.ndarray]:
    """Random tensors, each [rows, cols] or [width] float16."""
    rng = np.random.default_rng(20_261_122)
    found: dict[str, np.ndarray] = {}
    for name, shape in shapes(config).items():
        if len(shape) == 1:
            low = -0.5 if name.endswith("bias") else 0.5
            found[name] = (low + rng.random(shape)).astype(np.float16)
            continue
        codes = rng.integers(-127, 128, shape)
        codes[:, ::32] = 127  # the largest of its group, so that the step is a power of two
        found[name] = (codes * 2.0**-9).astype(np.float16)
    return found


def write_folder(
    path: Path, name: str, *, extra: dict[str, Any] | None = None, without: tuple[str, ...] = ()
) -> Path:
    """The model `name` of `CONFIGS` as a folder; `extra` is added to its config.json."""
    path.mkdir(parents=True, exist_ok=True)
    config = CONFIGS[name]
    tensors = {n: t for n, t in weights(config).items() if n not in without}
    described = [Described(n, "F16", t.shape) for n, t in tensors.items()]
    safetensors.write(path / safetensors.WEIGHTS, described, ([t] for t in tensors.values()))
    (path / "config.json").write_text(json.dumps(config | (extra or {})))
    write_tokenizer(path)
    return path


def write_tokenizer(path: Path) -> None:
    """The tokenizer of `tiny_qwen2` as Hugging Face's files."""
    spec = tokenizer_spec(tiny_qwen2.header(), vocab=tiny_qwen2.CONFIG.vocab)
    (path / "tokenizer.json").write_text(tokenizer_json(spec))
    (path / "tokenizer_config.json").write_text(
        json.dumps({"eos_token": "<|im_end|>", "chat_template": tiny_qwen2.CHATML})
    )

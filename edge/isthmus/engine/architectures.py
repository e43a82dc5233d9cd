"""The model architectures that the engine runs, and the names of their tensors.

All of them are one graph (`isthmus.engine.graph`): qwen2 adds biases to q, k and v; qwen3 norms
every head of q and k; granite multiplies at four places, which is folded into its weights when the
file is read (`isthmus.engine.formats.multipliers`), so that it computes as a llama from then on.
"""

from __future__ import annotations

from isthmus.engine.model import ModelConfig
from isthmus.kernels.base import RopeStyle

ROPE_STYLES = {
    "llama": RopeStyle.INTERLEAVED,
    "qwen2": RopeStyle.HALVES,
    "qwen3": RopeStyle.HALVES,
    "granite": RopeStyle.INTERLEAVED,
}
"""The architectures by their names, with the order of their rotary pairs in GGUF; in Hugging
Face's layout all of them have halves."""

_CLASSES = {
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
_TOP = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_IN_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def supported() -> str:
    """The architectures, for a message."""
    return ", ".join(ROPE_STYLES)


def expected_tensors(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Every tensor that the graph needs, by its GGUF name, with its shape: rows first."""
    q_width, kv_width = config.heads * config.head_dim, config.kv_heads * config.head_dim
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (config.vocab, config.hidden)}
    for layer in range(config.layers):
        prefix = f"blk.{layer}."
        shapes |= {
            prefix + "attn_norm.weight": (config.hidden,),
            prefix + "attn_q.weight": (q_width, config.hidden),
            prefix + "attn_k.weight": (kv_width, config.hidden),
            prefix + "attn_v.weight": (kv_width, config.hidden),
            prefix + "attn_output.weight": (config.hidden, q_width),
            prefix + "ffn_norm.weight": (config.hidden,),
            prefix + "ffn_gate.weight": (config.ffn, config.hidden),
            prefix + "ffn_up.weight": (config.ffn, config.hidden),
            prefix + "ffn_down.weight": (config.hidden, config.ffn),
        }
        if config.attention_bias:
            shapes |= {
                prefix + "attn_q.bias": (q_width,),
                prefix + "attn_k.bias": (kv_width,),
                prefix + "attn_v.bias": (kv_width,),
            }
        if config.qk_norm:
            shapes |= {
                prefix + "attn_q_norm.weight": (config.head_dim,),
                prefix + "attn_k_norm.weight": (config.head_dim,),
            }
    shapes["output_norm.weight"] = (config.hidden,)
    if not config.tied_embedding:
        shapes["output.weight"] = (config.vocab, config.hidden)
    return shapes


def stem(name: str) -> str:
    """The part of a GGUF name that says what the tensor is: `blk.3.attn_q.bias` -> `attn_q`."""
    return name.split(".")[-2]


def hf_name(name: str) -> str:
    """Hugging Face's name of a tensor, from GGUF's."""
    if name in _TOP:
        return _TOP[name]
    _, layer, part, kind = name.split(".")
    return f"model.layers.{layer}.{_IN_LAYER[part]}.{kind}"


def hf_class(config: ModelConfig) -> tuple[str, str]:
    """Transformers' `model_type` and class of what `config` computes."""
    kind = "qwen3" if config.qk_norm else "qwen2" if config.attention_bias else "llama"
    return kind, _CLASSES[kind]

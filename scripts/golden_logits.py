"""Write the golden files of tests/kernels/golden with an independent float32 implementation.

Run it in an environment with torch, transformers and gguf, with Isthmus on the path::

    python scripts/golden_logits.py [MODEL.gguf]

`smollm2_logits.npz` comes from transformers' own GGUF loader and LlamaForCausalLM, on the
dequantized weights; its token ids come from transformers' own conversion of the tokenizer:

    prompts            how many prompts there are
    fixed_ids          [200] int32    vocabulary ids drawn once at random
    ids_{i}            [tokens] int32 token ids of prompt i
    positions_{i}      [wanted] int32 positions whose logits follow; the last is the prompt's last
    top_ids_{i}        [wanted, 64] int32, best first
    top_logits_{i}     [wanted, 64] float32
    fixed_logits_{i}   [wanted, 200] float32, of `fixed_ids`
    text_ids           [tokens] int32 token ids of text.txt; no token is put in front
    text_nll           [tokens - 1] float32, minus the natural log-probability of each next token
    text_perplexity    float64, exp(mean(text_nll))

`qwen2_tiny.npz` comes from Qwen2ForCausalLM on the weights of tests/tiny_qwen2.py:

    ids                [tokens] int32
    logits             [tokens, vocab] float32

`tiny_models.npz` comes from AutoModelForCausalLM.from_pretrained on the model folders that
tests/tiny_models.py writes, one for each architecture:

    {name}_ids         [tokens] int32
    {name}_positions   [wanted] int32 positions whose logits follow
    {name}_logits      [wanted, vocab] float32

Without MODEL.gguf only this last file is written.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "kernels" / "golden"
sys.path.insert(0, str(ROOT / "tests"))

import tiny_models  # noqa: E402
import tiny_qwen2  # noqa: E402

PROMPTS = (
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n<|im_start|>user\nWhat is the capital of France?<|im_end|>\n"
    "<|im_start|>assistant\n",
    "def fibonacci(n):\n    if n < 2:\n        return n\n    return",
    "In 1969, the first people to walk on the Moon — two of the crew's three — spent 21.5 hours",
)
HF_NAMES = {
    "attn_norm.weight": "input_layernorm.weight",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm.weight": "post_attention_layernorm.weight",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


@torch.inference_mode()
def smollm2(path: Path) -> dict[str, np.ndarray]:
    """The fields of smollm2_logits.npz."""
    model = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    ).eval()
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    vocab = model.config.vocab_size
    fixed = np.sort(np.random.default_rng(2).choice(vocab, 200, replace=False)).astype(np.int32)
    fields = {"prompts": np.array(len(PROMPTS)), "fixed_ids": fixed}
    for i, prompt in enumerate(PROMPTS):
        ids = tokenizer.encode(prompt, add_special_tokens=False)
        positions = np.array([0, len(ids) // 3, 2 * len(ids) // 3, len(ids) - 1], dtype=np.int32)
        logits = model(torch.tensor([ids])).logits[0].numpy()[positions]
        top = np.argsort(-logits, axis=-1)[:, :64]
        fields |= {
            f"ids_{i}": np.array(ids, dtype=np.int32),
            f"positions_{i}": positions,
            f"top_ids_{i}": top.astype(np.int32),
            f"top_logits_{i}": np.take_along_axis(logits, top, axis=-1),
            f"fixed_logits_{i}": logits[:, fixed],
        }
        print(f"prompt {i}: {len(ids)} tokens, then {tokenizer.decode([int(top[-1, 0])])!r}")
    text = tokenizer.encode((GOLDEN / "text.txt").read_text("utf-8"), add_special_tokens=False)
    logits = model(torch.tensor([text])).logits[0, :-1]
    nll = torch.nn.functional.cross_entropy(logits, torch.tensor(text[1:]), reduction="none")
    perplexity = np.exp(nll.double().mean().item())
    print(f"text: {len(text)} tokens, perplexity {perplexity:.4f}")
    return fields | {
        "text_ids": np.array(text, dtype=np.int32),
        "text_nll": nll.numpy(),
        "text_perplexity": np.array(perplexity),
    }


@torch.inference_mode()
def qwen2() -> dict[str, np.ndarray]:
    """The fields of qwen2_tiny.npz."""
    c = tiny_qwen2.CONFIG
    config = Qwen2Config(
        vocab_size=c.vocab,
        hidden_size=c.hidden,
        intermediate_size=c.ffn,
        num_hidden_layers=c.layers,
        num_attention_heads=c.heads,
        num_key_value_heads=c.kv_heads,
        max_position_embeddings=c.context,
        rms_norm_eps=c.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": c.rope_base},
        tie_word_embeddings=c.tied_embedding,
    )
    model = Qwen2ForCausalLM(config).eval()
    matrices, vectors = tiny_qwen2.weights()
    arrays = {name: weight.dequantize() for name, weight in matrices.items()} | vectors
    model.load_state_dict(
        {hf_name(name): torch.from_numpy(array) for name, array in arrays.items()}, strict=True
    )
    ids = np.random.default_rng(3).integers(0, c.vocab, 40).astype(np.int32)
    logits = model(torch.from_numpy(ids).long()[None]).logits[0]
    return {"ids": ids, "logits": logits.numpy()}


@torch.inference_mode()
def tiny() -> dict[str, np.ndarray]:
    """The fields of tiny_models.npz."""
    fields: dict[str, np.ndarray] = {}
    for name, config in tiny_models.CONFIGS.items():
        with tempfile.TemporaryDirectory() as folder:
            tiny_models.write_folder(Path(folder), name)
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        ids = np.random.default_rng(4).integers(0, config["vocab_size"], 60).astype(np.int32)
        positions = np.array([0, 7, 31, 32, 45, 59], dtype=np.int32)
        logits = model(torch.from_numpy(ids).long()[None]).logits[0].numpy()[positions]
        print(f"{name}: {type(model).__name__}, largest logit {np.abs(logits).max():.3f}")
        fields |= {f"{name}_ids": ids, f"{name}_positions": positions, f"{name}_logits": logits}
    return fields


def hf_name(name: str) -> str:
    """A tensor's name in transformers."""
    top = {
        "token_embd.weight": "model.embed_tokens.weight",
        "output_norm.weight": "model.norm.weight",
        "output.weight": "lm_head.weight",
    }
    if name in top:
        return top[name]
    _, layer, rest = name.split(".", 2)
    stem, _, kind = rest.rpartition(".")
    return f"model.layers.{layer}." + HF_NAMES.get(rest, f"{HF_NAMES.get(stem)}.{kind}")


def main() -> None:
    """Write the files beside text.txt."""
    if len(sys.argv) > 2:
        sys.exit("usage: python scripts/golden_logits.py [MODEL.gguf]")
    torch.manual_seed(0)
    np.savez_compressed(GOLDEN / "tiny_models.npz", **tiny())
    if len(sys.argv) == 1:
        return
    np.savez_compressed(GOLDEN / "smollm2_logits.npz", **smollm2(Path(sys.argv[1])))
    np.savez_compressed(GOLDEN / "qwen2_tiny.npz", **qwen2())


if __name__ == "__main__":
    main()

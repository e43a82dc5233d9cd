"""What capacity asks of a model: how many parameters, and how much a token of its context takes."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

from isthmus.core.errors import InvalidRequest

_BIASED: Final = {"qwen2"}
"""Model types whose queries, keys and values have biases."""
_NORMED: Final = {"qwen3", "qwen3_moe"}
"""Model types that normalise each head's queries and keys."""


@dataclass(frozen=True, slots=True)
class Model:
    """The figures of one model."""

    name: str
    parameters: int
    embedding_parameters: int
    """Those of the vocabulary, in and out, which quantized models keep in 16 bits."""
    layers: int
    kv_heads: int
    head_size: int
    hidden: int
    intermediate: int
    vocabulary: int
    context_tokens: int
    expert_parameters: int = 0
    """Those of all experts of a mixture."""
    experts: int = 1
    experts_per_token: int = 1
    weight_bytes: int | None = None
    """What its own files hold; None: it depends on the form that is chosen."""
    source: str = ""

    def awake_parameters(self, tokens: int) -> float:
        """Those that a step of so many tokens passes through, if each wakes experts at random."""
        idle = (1 - self.experts_per_token / self.experts) ** tokens if self.experts > 1 else 0
        return self.parameters - self.expert_parameters * idle


def known() -> dict[str, Mapping[str, Any]]:
    """The models that are known by name, as `models.toml` has them."""
    text = resources.files("isthmus.cloud.planning").joinpath("models.toml").read_text("utf-8")
    return tomllib.loads(text)


def named(name: str) -> Model:
    """A model of `models.toml`. Raises `InvalidRequest` with the nearest name."""
    models = known()
    if name not in models:
        near = difflib.get_close_matches(name, models, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise InvalidRequest(
            f"no model is called {name!r} here; {hint}known are {', '.join(models)}; a .gguf file, "
            "a config.json and a folder that has one do too",
            field="--model",
        )
    return of_config(name, models[name], source=str(models[name]["source"]))


def of_folder(path: Path) -> Model:
    """The model whose `config.json` is at `path` or in it; weights beside it are weighed.

    Raises `InvalidRequest`.
    """
    folder = path if path.is_dir() else path.parent
    config_path = folder / "config.json" if path.is_dir() else path
    try:
        config = json.loads(config_path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidRequest(f"{config_path}: {error.strerror}", field="--model") from None
    except ValueError:
        raise InvalidRequest(f"{config_path} is no JSON", field="--model") from None
    if not isinstance(config, dict):
        raise InvalidRequest(f"{config_path} holds no object", field="--model")
    # Models that see keep the figures of the one that writes a level below.
    config = config.get("text_config", config)
    weights = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    return of_config(
        folder.resolve().name, config, weight_bytes=weights or None, source=str(config_path)
    )


def of_config(
    name: str, config: Mapping[str, Any], *, weight_bytes: int | None = None, source: str = ""
) -> Model:
    """The figures of a decoder as Hugging Face's `config.json` describes it.

    Counted are grouped attention and a gated feed-forward network, dense or a mixture of experts.
    Raises `InvalidRequest` for what is not counted.
    """
    if "kv_lora_rank" in config:
        raise InvalidRequest(
            f"{name} keeps a latent of keys and values, which is not counted here", field="--model"
        )
    try:
        hidden, layers = int(config["hidden_size"]), int(config["num_hidden_layers"])
        heads, vocabulary = int(config["num_attention_heads"]), int(config["vocab_size"])
        intermediate = int(config["intermediate_size"])
        kv_heads = int(config.get("num_key_value_heads") or heads)
        head_size = int(config.get("head_dim") or hidden // heads)
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidRequest(f"{name}: its config.json lacks {error}", field="--model") from None
    kind = config.get("model_type", "llama")
    queries, keys = heads * head_size, kv_heads * head_size
    attention = 2 * hidden * queries + 2 * hidden * keys
    attention += queries + 2 * keys if kind in _BIASED else 0
    attention += 2 * head_size if kind in _NORMED else 0
    experts = int(config.get("num_local_experts") or config.get("num_experts") or 1)
    active = int(config.get("num_experts_per_tok") or 1) if experts > 1 else 1
    expert = 3 * hidden * int(config.get("moe_intermediate_size") or intermediate)
    router = hidden * experts if experts > 1 else 0
    rest = layers * (attention + router + 2 * hidden) + hidden
    embedding = vocabulary * hidden * (1 if config.get("tie_word_embeddings") else 2)
    return Model(
        name,
        parameters=rest + embedding + layers * experts * expert,
        embedding_parameters=embedding,
        layers=layers,
        kv_heads=kv_heads,
        head_size=head_size,
        hidden=hidden,
        intermediate=intermediate,
        vocabulary=vocabulary,
        context_tokens=int(config.get("max_position_embeddings") or 0),
        expert_parameters=layers * experts * expert if experts > 1 else 0,
        experts=experts,
        experts_per_token=active,
        weight_bytes=weight_bytes,
        source=source,
    )
